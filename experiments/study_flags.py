"""What the binaries that repeat a paper's studies share."""

from absl import flags

STUDY = flags.DEFINE_string(
  "study", None, "Which study to run; the command's description lists them."
)
NUM_TRIALS = flags.DEFINE_integer(
  "num_trials", None, "Seeds that each variant is run with.", lower_bound=1
)
