"""The flag that an owner's two binaries share."""

from absl import flags

CONFIDENCE = flags.DEFINE_float(
  "confidence",
  0.95,
  "1 minus the chance of accusing a model that was not trained on the data; the paper's"
  " 95 %.",
)
