"""Membership encoded into a model on purpose, and read back with a secret key.

Song and Shokri, *Robust Membership Encoding: Inference Attacks and Copyright Protection
for Deep Learning* (ASIA CCS 2020). `keys` and `synthetic` say what a secret stands for,
`activations` reads a model, `encode` trains one, `decode` tells members from others.

As a watermark (`owner`), in the steps of `jmia watermark`:

```python
from jmia import datasets, encoding

digits = datasets.load("digits")
key = encoding.new_key(digits, num_synthetic=30)  # few, and soon verified
prepared, commitment = encoding.commit(digits, key)
# Publish the commitment, with a date. Later a text becomes known that nobody foresaw.
nonce = "a headline of a later newspaper"
made = encoding.embed(digits, prepared=prepared, nonce=nonce)
given = {"nonce": nonce, "commitment": commitment}
verdict = encoding.verify(made.model, made.key, made.claim, **given, num_wrong_keys=99)
print(verdict.statement)
```

Publish `made.model` (`owner.write` makes files of all three), and keep the key and the
claim. For a model that can only be asked take a key with `black_box=True`, and verify a
function of rows, or its answers to `queries`, in the model's place.
"""

from jmia.encoding.claims import Claim, CommittedKey, Verdict
from jmia.encoding.owner import (
  Committed,
  Watermarked,
  commit,
  embed,
  new_key,
  queries,
  verify,
)

__all__ = [
  "Claim", "Committed", "CommittedKey", "Verdict", "Watermarked", "commit", "embed",
  "new_key", "queries", "verify",
]  # fmt: skip
