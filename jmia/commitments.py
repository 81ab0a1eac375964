"""Commitments, and nonces that become known after them.

Who can draw many times and keep the draw that suits him is believed more often than a
test's level says, and no hash of what he kept shows it. So he publishes a hash of all
that he could choose, the commitment; then a text becomes known that nobody could
foresee or choose, the nonce; and what a test is about is drawn by both together. A
watermark's rows (`encoding.nonces`) and the labels of marks (`backdoor.draws`) are.
What remains assumed is that the commitment was public before the nonce was, and that it
was the only one.
"""

from collections.abc import Mapping
import hashlib
import json
from typing import Any

import numpy as np

_LEAST_CHARACTERS = 16  # a shorter nonce can be foreseen by trying


def commitment(bound: Mapping[str, Any]) -> str:
  """Returns the SHA-256 to publish, 64 hexadecimal digits.

  Args:
    bound: JSON values, NumPy's numbers too; a secret among them keeps the rest one.
  """
  text = json.dumps(bound, sort_keys=True, default=np.generic.item)
  return hashlib.sha256(text.encode()).hexdigest()


def nonce_digest(nonce: str) -> bytes:
  """Returns the SHA-256 of a nonce, 32 bytes.

  Args:
    nonce: text of at least 16 characters; blanks around it do not count.

  Raises:
    TypeError: if the nonce is no text.
    ValueError: if the nonce is so short that it can be foreseen, or cannot be written.
  """
  if not isinstance(nonce, str):
    raise TypeError(f"nonce is of type {type(nonce).__name__}, expected a text")
  nonce = nonce.strip()
  if len(nonce) < _LEAST_CHARACTERS:
    raise ValueError(
      f"nonce={nonce!r} is short enough to be foreseen: expected at least"
      f" {_LEAST_CHARACTERS} characters"
    )
  try:
    return hashlib.sha256(nonce.encode()).digest()
  except UnicodeEncodeError as error:
    raise ValueError(f"nonce={nonce!r} holds what UTF-8 cannot") from error
