import hashlib

import numpy as np

from jmia.backdoor import fingerprints


def test_fingerprint_is_of_types_shapes_and_values():
  x = np.arange(6, dtype=np.int32).reshape(2, 3)
  found = fingerprints.fingerprint(x)
  by_hand = hashlib.sha256(b"<i4(2, 3)" + x.astype("<i4").tobytes()).hexdigest()
  assert found == by_hand
  for same in (x.astype(">i4"), np.asfortranarray(x)):
    assert fingerprints.fingerprint(same) == found
  for other in (x.reshape(3, 2), x.astype(np.uint32), x + 1):
    assert fingerprints.fingerprint(other) != found
  assert fingerprints.fingerprint(x, x) != found
