"""Flags of canaries, which planting them and auditing share."""

from absl import flags

from jmia.dp import canaries, planting

from . import shared_flags

flags.declare_key_flag("delta")
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


def delta() -> float:
  """Returns the delta of what is proved: --delta, or DP-SGD's."""
  return 1e-5 if shared_flags.DELTA.value is None else shared_flags.DELTA.value
