"""Which commands there are, what each answers, and the flags that matter most."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Command(NamedTuple):
  """A binary's module, and the question that it answers."""

  module: str
  question: str


COMMANDS: Mapping[str, Command] = {
  "audit": Command("audit", "How much does a model leak about its members, and whose?"),
  "compare": Command("compare", "Which of several audited models leaks less?"),
  "dp-audit": Command("dp_audit", "Does the privacy guarantee hold?"),
  "dp-plant": Command("dp_plant", "How is the privacy of my own training audited?"),
  "mark": Command("mark", "How will I know later whether my data was used?"),
  "verify": Command("verify", "Was my marked data used to train that model?"),
  "watermark": Command("watermark", "Is that model mine, and who was in it?"),
  "data": Command("data", "Which data can be audited, and how are mine read?"),
  "benchmark": Command("benchmark", "How fast is it here, beside other tools?"),
}  # fmt: skip
STUDIES: Mapping[str, Command] = {
  "enhanced_mia": Command("enhanced_mia", "Ye et al.: attacks S, P, R, D and L"),
  "classic_mia": Command("classic_mia", "Yang: classic attacks, and every defence"),
  "mib": Command("mib", "Hu et al.: membership inference via backdooring"),
  "membership_encoding": Command("membership_encoding", "Song & Shokri: encoding"),
  "attack_power": Command("attack_power", "How many reference models attacks need"),
  "simulations": Command("simulations", "Do the claims hold where the truth is known?"),
}
# What is made of studies and benchmarks, found as `jmia study NAME` too.
RECORDS: Mapping[str, Command] = {
  "gpu_day": Command("gpu_day", "What a GPU is asked in eight minutes"),
  "ledger": Command("ledger", "Every figure of the papers beside ours"),
}
# What a flag that several binaries take means to one of them, where it is not the same.
MEANS: Mapping[str, Mapping[str, str]] = {
  "attack_power": {"sizes": "Numbers of reference models. Default: 1,2,4,8,16,64."},
  "classic_mia": {
    "sizes": "Of --study=gap: members of a model. Default: all, a half, a quarter."
  },
  "mark": {
    "num_queries": "Rows to hold back as queries, in all. Default: the paper's 30 for"
    " each sub-mark, or fewer where the data are few.",
    "seed": "Repeats the marks: whoever has it and your data has them too. Default: the"
    " operating system's entropy; with --paper_mark 0.",
  },
}
# What most runs of a binary set. Others: the first five of its own.
FIRST: Mapping[str, Sequence[str]] = {
  "attack_power": ("output_dir", "dataset", "sizes", "attacks", "num_targets"),
  "audit": ("output_dir", "dataset", "signals", "attacks", "defense"),
  "benchmark": ("suite", "output"),
  "classic_mia": ("output_dir", "study", "dataset", "defenses", "attacks"),
  "compare": ("output_dir", "names"),
  "data": ("dataset", "data_dir"),
  "dp_audit": ("output_dir", "dataset", "mode", "scores", "claimed_epsilon"),
  "dp_plant": ("output_dir", "dataset", "num_canaries", "canary", "delta"),
  "enhanced_mia": ("output_dir", "config", "dataset", "num_models", "num_targets"),
  "gpu_day": ("output", "steps", "minutes", "tiny"),
  "mark": ("output_dir", "data", "num_marked", "commit", "plan"),
  "membership_encoding": ("output_dir", "study", "setup", "form", "models_dir"),
  "mib": ("output_dir", "study", "dataset", "num_trials", "marked_share"),
  "simulations": ("output_dir", "study", "dataset", "attacks", "num_simulations"),
  "verify": ("key", "predictions", "deposit", "output_dir", "confidence"),
  "watermark": ("command", "output_dir", "data_file", "key_file", "claim_file"),
}
