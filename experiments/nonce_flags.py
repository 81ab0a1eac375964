"""Flags of a commitment and of the nonce that becomes known after it."""

from absl import flags

PREPARED = flags.DEFINE_string(
  "prepared", None, "The secret.json of the commitment; takes --nonce."
)
NONCE = flags.DEFINE_string(
  "nonce",
  None,
  "With --prepared, and to verify: a text of 16 characters or more that became known"
  " after the commitment was published, and that nobody could foresee or choose.",
)
COMMITMENT = flags.DEFINE_string(
  "commitment",
  None,
  "To verify: the commitment that was published, before the nonce was known or, without"
  " one, before the model. Without it the verdict is valid only if the key's own was.",
)
