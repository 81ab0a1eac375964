"""An owner's claim on a model: what it is bound by, what it rests on, the verdict.

Rows are claimed and others are controls, as a nonce (`nonces`) or the secret alone
(`watermark.assign`) drew them. A claim stands if both tests of `watermark` reject and
the rows are those that were to be drawn; what is assumed besides, the verdict says.
Values in, values out: nothing here reads a file or asks a model.
"""

from typing import Any, NamedTuple

import numpy as np

from jmia.encoding import keys as keys_lib
from jmia.encoding import nonces, watermark

# Of keys. Of 1, rows were assigned by their place, which a claim does not show; the
# commitments of 1 and 2 bind neither schema nor scale.
SCHEMA = 3
NOT_CHOSEN = (
  "the rows were not chosen after looking at what the key's decoder says of any model"
)
ORDER = (
  "the commitment was published before the nonce was known to anybody, and the model"
  " after it"
)


class Claim(NamedTuple):
  """Rows whose membership is claimed, and controls.

  Attributes:
    x: `[N, ...]` features as stored.
    is_claimed: `[N]` bool, false of the controls.
    feature_scale: of the features.
    row_hashes: `[D, 32]` uint8 of all rows that were committed to before a nonce
      assigned them; None where the secret did.
  """

  x: np.ndarray
  is_claimed: np.ndarray
  feature_scale: float
  row_hashes: np.ndarray | None = None


class CommittedKey(NamedTuple):
  """A key, and what was published of it before the model.

  Attributes:
    key: of the watermark; secret.
    commitment: `commitment_of` key and claim, 64 hexadecimal digits.
    schema: of the key, 1 to `SCHEMA`, which says what the commitment binds.
  """

  key: keys_lib.Key
  commitment: str
  schema: int = SCHEMA


class Basis(NamedTuple):
  """What a claim rests on, apart from the tests.

  Attributes:
    assignment: how claimed rows and controls came to be so, in words.
    assumes: what is assumed besides, as the end of "provided that ...".
    can_stand: whether they came to be so as they were to.
    commitment: to key and claim.
    commitment_given: whether it was compared with a published one.
    nonce: that assigned the rows; None where the secret did.
  """

  assignment: str
  assumes: str
  can_stand: bool
  commitment: str
  commitment_given: bool
  nonce: str | None

  @property
  def published_before(self) -> str:
    """What the commitment was published before, if the claim is to be valid."""
    return "the model" if self.nonce is None else "the nonce was known"


class Verdict(NamedTuple):
  """What the verification of a claim found.

  Attributes:
    accepted: whether the claim stands: both tests reject, and `basis.can_stand`.
    tests: of rows and key; its `accepted` is of the tests alone.
    basis: what the verdict rests on.
  """

  accepted: bool
  tests: watermark.Verdict
  basis: Basis

  @property
  def p_value(self) -> float:
    """The larger one of the two tests'."""
    return self.tests.p_value

  @property
  def p_rows(self) -> float:
    """Of the rows' test."""
    return self.tests.p_rows

  @property
  def p_key(self) -> float:
    """Of the key's test."""
    return self.tests.p_key

  @property
  def statement(self) -> str:
    """The verdict in words, with what it was found by and what it rests on."""
    tests, basis = self.tests, self.basis
    lines = [
      sentence(self),
      f"  Of the rows that score highest, {tests.share:.1%} are claimed.",
      f"  Called members: {tests.claimed_called:.1%} of the claimed rows,"
      f" {tests.controls_called:.1%} of the controls.",
      f"  Against rows assigned at random: p {watermark.p_text(tests.p_rows)}.",
      f"  Against secrets drawn at random: p {watermark.p_text(tests.p_key)}.",
      f"  Rows: {basis.assignment}.",
    ]
    if not basis.commitment_given:
      lines.append(
        f"Valid only if {basis.commitment} was published before"
        f" {basis.published_before}: no commitment was given to compare."
      )
    return "\n".join(lines)

  def content(self) -> dict[str, Any]:
    """Returns the verdict as JSON values: `tests`, and what it rests on."""
    return {
      **self.tests._asdict(),
      "accepted": self.accepted,
      "assignment": self.basis.assignment,
      "assumes": self.basis.assumes,
      "commitment": self.basis.commitment,
      "commitment_given": self.basis.commitment_given,
      "nonce": self.basis.nonce,
    }


def sentence(verdict: Verdict) -> str:
  """Returns the verdict, with what it assumes where the claim stands."""
  tests = verdict.tests
  at = f"at level {tests.level:g} (p {watermark.p_text(tests.p_value)})"
  if not verdict.accepted:
    return f"The claim does not stand {at}."
  return f"The claim stands {at}, provided that {verdict.basis.assumes}."


def commitment_of(key: keys_lib.Key, claim: Claim, schema: int = SCHEMA) -> str:
  """Returns the commitment that binds an owner to key and claim.

  Args:
    key: of the watermark.
    claim: of it.
    schema: of the key.
  """
  if claim.row_hashes is not None:
    number = int(claim.is_claimed.sum())
    rows = nonces.digest(claim.row_hashes)
    return nonces.commitment(nonces.Prepared(key, number, claim.feature_scale, rows))
  sides = claim.x[claim.is_claimed], claim.x[~claim.is_claimed]
  if schema < 3:
    return watermark.old_commitment(key, *sides)
  return watermark.commitment(key, *sides, claim.feature_scale)


def check(key: CommittedKey, claim: Claim) -> None:
  """Raises ValueError unless claim and key are what its commitment was made for."""
  if key.schema < 3 and claim.row_hashes is not None:
    raise ValueError(
      "the claim was assigned by a nonce, which a key of an older version knows"
      " nothing of"
    )
  if commitment_of(key.key, claim, key.schema) != key.commitment:
    raise ValueError("claim and key are not what the key's commitment was made for")


def basis(
  key: CommittedKey,
  claim: Claim,
  *,
  nonce: str | None = None,
  commitment: str | None = None,
) -> Basis:
  """Returns what a claim rests on.

  Args:
    key: of the owner.
    claim: of the owner.
    nonce: that became known after the commitment, if one assigned the rows.
    commitment: that was published; None: not known.

  Raises:
    ValueError: as `check`; the commitment is another; a nonce has assigned the rows and
      none is given, or it is short enough to be foreseen, or none has and one is given.
  """
  check(key, claim)
  if commitment is not None and commitment.strip() != key.commitment:
    raise ValueError(
      f"commitment={commitment} is not of this key and claim: theirs is"
      f" {key.commitment}"
    )
  if claim.row_hashes is None and nonce is not None:
    raise ValueError(
      f"nonce={nonce}: the secret alone has assigned the claim's rows, so leave it out"
    )
  if claim.row_hashes is not None and nonce is None:
    raise ValueError(
      "nonce must have a value: one that became known after the commitment has assigned"
      " the claim's rows"
    )
  words, assumes, can_stand = (
    _by_secret(key, claim) if nonce is None else _by_nonce(key, claim, nonce)
  )
  return Basis(words, assumes, can_stand, key.commitment, commitment is not None, nonce)


def judge(
  basis: Basis, claim: Claim, scores: np.ndarray, level: float = 0.01
) -> Verdict:
  """Returns the verdict on a claim.

  Args:
    basis: of the claim.
    claim: of the owner. Copies of a row count once.
    scores: `[1 + K, N]` log-odds of every row of the claim by the claimed key, and then
      by `K` secrets drawn at random (`watermark.wrong_keys`).
    level: alpha, the chance of accepting a claim that is false, at most.

  Raises:
    ValueError: as `watermark.verify`.
  """
  kept = watermark.distinct(claim.x)
  tests = watermark.verify(scores[:, kept], claim.is_claimed[kept], level)
  return Verdict(tests.accepted and basis.can_stand, tests, basis)


def _by_nonce(key: CommittedKey, claim: Claim, nonce: str) -> tuple[str, str, bool]:
  """Words, what is assumed, and whether the claim can stand, of rows by a nonce."""
  assert claim.row_hashes is not None
  is_drawn = nonces.is_assigned(
    claim.x, claim.is_claimed, key.key.secret, nonce, claim.row_hashes
  )
  if is_drawn:
    return f"assigned by the nonce {nonce!r} after the commitment", ORDER, True
  words = (
    "not those that the nonce draws from all that were committed to: the claim cannot"
    " stand"
  )
  return words, ORDER, False


def _by_secret(key: CommittedKey, claim: Claim) -> tuple[str, str, bool]:
  """As `_by_nonce`, of rows that the secret assigned."""
  if key.schema == 1:
    words = (
      "the key is of an older version, which cannot show how rows were assigned: the"
      " claim cannot stand"
    )
    return words, NOT_CHOSEN, False
  if not watermark.is_assigned(claim.x, claim.is_claimed, key.key.secret):
    words = "not assigned as the secret draws them: the claim cannot stand"
    return words, NOT_CHOSEN, False
  words = (
    "assigned as the secret draws them; nothing shows how rows and secret were chosen"
  )
  if key.schema == 2:
    return (
      f"{words}, and the key is of an older version, whose commitment does not bind"
      " feature_scale",
      f"{NOT_CHOSEN}, and the claim's feature_scale is that of the training",
      True,
    )
  return words, NOT_CHOSEN, True
