"""Flags of the binaries that encode."""

from absl import flags

DISCRIMINATOR_RATE = flags.DEFINE_float(
  "discriminator_rate",
  None,
  "Learning rate of the encoding; more is stronger, and where there are few steps it"
  " takes more. Default: the setup's, or 0.02 for a watermark.",
)
