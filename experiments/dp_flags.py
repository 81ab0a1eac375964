"""Flags of canaries, which planting them and auditing share."""

from absl import flags

from jmia.dp import canaries, planting

CANARY = flags.DEFINE_enum(
  "canary",
  None,
  canaries.KINDS,
  "What is planted. Default: gradient; dp_plant's is mislabelled, and may be"
  f" {planting.KINDS[1]}.",
)
NUM_CANARIES = flags.DEFINE_integer(
  "num_canaries", 1000, "Of every model in one_run; or to plant.", lower_bound=1
)
