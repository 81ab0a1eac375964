"""Watermark: an owner shows that a model was encoded with the owner's key and rows.

Song and Shokri, section 3.2. Two things may be false about a claim, and each has a null
hypothesis and an exact test of its own; a claim stands if both are rejected.

The rows. It is drawn by lot which rows of a set are claimed (and encoded), the others
are controls, rows like them that are not. *Null: the model does not depend on this
assignment* (it is not the owner's, or the rows are unrelated). Then every assignment
was as likely, whatever the model, the key and the rows are. With n claimed rows and m
controls, all distinct, the number of claimed rows among the n that score highest is
hypergeometric; its upper tail is `p_rows`. This is a randomisation test: rows may well
be in the training data of both sides, which an ordinary comparison of members with
others would not survive. It rests on the lot.

Where the secret is the lot (`assign`), the claimant holds it, and any subset whose
hashes fall on the right sides looks assigned (`is_assigned`). Decoders of one secret
agree about rows between models that were trained apart. So who trains models of his
own, and keeps of the rows that the lot calls claimed those that his decoder ranks high,
and of the others those that it ranks low, is believed about a model that he never saw,
many times as often as the level, even if he commits to all of it before. `p_rows` then
holds *only if the rows were not chosen after looking at what the key's decoder says of
any model*, and no file shows that. Where a nonce assigns them, which becomes known
after a commitment (`nonces`), nothing of the kind is assumed.

The key. *Null: the model does not depend on the secret* (a thief who knows the rows,
but not s, made one up). Then the secret is exchangeable with K others drawn at random
now, each of which decodes the same rows, and
`p_key = (1 + #{share_k >= share}) / (1 + K)`. The rows' test alone would not do: an
encoded model does hold its members apart, and a decoder of a wrong secret reads it in
some direction, in which they may happen to lie higher.

The statistic of both is the share of claimed rows among the n highest of all: a wrong
decoder may well call all rows members, so a share above a fixed threshold would say
little. Under the union of both nulls `max(p_rows, p_key)` is at most alpha with
probability at most alpha. Neither test protects from a search: who tries 1,000 secrets
on a model finds one with `p_key` near 1 in 1,000. So key and assignment must have been
committed to (`commitment`) before the model was published. That is needed, and not
enough: see above.
"""

import dataclasses
import hashlib
import json
import math
from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.encoding import keys as keys_lib

# A stream of the secret beside those of `synthetic` and `hybrid`.
_DECOYS = 5
_SCHEMA = 3  # of what a commitment binds
P_FLOOR = 1e-300  # less than this no p-value is said to be


class Verdict(NamedTuple):
  """What the verification of a claim found.

  Attributes:
    share: of the claimed rows that are among the n highest of all rows; by chance
      `n / (n + m)`.
    claimed_called: share of the claimed rows that the decoder calls members (log-odds
      above 0).
    controls_called: the same of the controls.
    p_rows: of the rows' test; at least `P_FLOOR`.
    p_key: of the key's test; at least `1 / (1 + K)`.
    p_value: the larger of the two.
    level: at which the claim was tested.
    accepted: whether `p_value <= level`.
  """

  share: float
  claimed_called: float
  controls_called: float
  p_rows: float
  p_key: float
  p_value: float
  level: float
  accepted: bool


def assign(x: np.ndarray, num_claimed: int, secret: int) -> np.ndarray:
  """Returns which rows are claimed: as good as drawn at random, by the secret.

  The rows with the least SHA-256 of secret and content are claimed. So whoever is shown
  the key and some of the rows can see that nobody chose their sides (`is_assigned`),
  though not that nobody chose the rows.

  Args:
    x: `[N, ...]` the owner's rows; distinct (`distinct`), as copies share a hash.
    num_claimed: how many of them are claimed; the rest are controls.
    secret: of the key; independent of all that a model could know.

  Returns:
    `[N]` bool.

  Raises:
    ValueError: if `num_claimed` leaves no claimed row or no control.
  """
  if not 1 <= num_claimed < len(x):
    raise ValueError(f"num_claimed={num_claimed} must be from 1 to {len(x) - 1}")
  hashes = content_hashes(x, secret)
  order = sorted(range(len(x)), key=hashes.__getitem__)
  return np.isin(np.arange(len(x)), order[:num_claimed])


def is_assigned(x: np.ndarray, is_claimed: np.ndarray, secret: int) -> bool:
  """Returns whether rows are claimed as `assign` would, given any number of the rows.

  Sides that were chosen otherwise, for n claimed and m controls of given rows, pass by
  a chance of `1 / C(n + m, n)`. Rows that were chosen to suit their sides always pass.

  Args:
    x: `[N, ...]` claimed rows and controls, as stored when they were assigned. Copies
      of one row on both sides do not pass.
    is_claimed: `[N]` bool, true of some rows and not of all.
    secret: of the key.
  """
  hashes = content_hashes(x, secret)
  claimed = [h for h, is_one in zip(hashes, is_claimed, strict=True) if is_one]
  controls = [h for h, is_one in zip(hashes, is_claimed, strict=True) if not is_one]
  return bool(claimed and controls and max(claimed) < min(controls))


def distinct(x: np.ndarray) -> np.ndarray:
  """Returns where each content occurs first, ascending.

  A claim counts a row once: copies fall on one side together, and as many rows they
  would be taken for as many draws of the lot.

  Args:
    x: `[N, ...]` rows.
  """
  seen: dict[bytes, int] = {}
  for place, row in enumerate(np.ascontiguousarray(x)):
    seen.setdefault(row.tobytes(), place)
  return np.array([*seen.values()], np.int64)


def is_among(x: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Returns `[N]` bool: which rows of `x` have the content of one of `others`."""
  contents = {row.tobytes() for row in np.ascontiguousarray(others)}
  return np.array([row.tobytes() in contents for row in np.ascontiguousarray(x)], bool)


def wrong_keys(key: keys_lib.Key, number: int, seed: int) -> list[keys_lib.Key]:
  """Returns keys that differ from `key` in the secret, drawn at random.

  Raises:
    ValueError: if `number` is below 1.
  """
  _validate.positive("number", number)
  return _drawn(key, number, np.array([seed, _DECOYS], np.uint64))


def shuffled(key: keys_lib.Key, number: int, seed: int) -> list[keys_lib.Key]:
  """Returns the key among others drawn at random, in the order of their secrets.

  The others are drawn by the seed and the secret together, so that nothing in queries
  made of them tells it to who has not got the secret: a seed alone can be found by
  trying them all. What an encoded model answers does tell it to who holds that model.

  Raises:
    ValueError: if `number` is below 1.
  """
  _validate.positive("number", number)
  text = f"jmia wrong keys {seed} {key.secret}"
  words = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u8")
  others = _drawn(key, number, words.astype(np.uint64))
  return sorted([key, *others], key=lambda one: one.secret)


def _drawn(key: keys_lib.Key, number: int, words: np.ndarray) -> list[keys_lib.Key]:
  """Keys with other secrets, from Philox keyed by two words."""
  secrets = np.random.Philox(key=words).random_raw(number).tolist()
  return [dataclasses.replace(key, secret=secret) for secret in secrets]


def verify(scores: np.ndarray, is_claimed: np.ndarray, level: float) -> Verdict:
  """Tests a claim.

  Args:
    scores: `[1 + K, N]` log-odds of every row by the claimed key, and then by `K`
      secrets drawn at random (`wrong_keys`).
    is_claimed: `[N]` bool: claimed rows and controls, all distinct.
    level: alpha, in (0, 1).

  Raises:
    ValueError: if there is no wrong key, no claimed row or no control, shapes differ, a
      score is not finite, or so few wrong keys are given that no `p_key` can reach the
      level.
  """
  shares = claimed_share(scores, is_claimed)
  called = scores[0] > 0
  return judge(shares, called, is_claimed, level)


def judge(
  shares: np.ndarray, called: np.ndarray, is_claimed: np.ndarray, level: float
) -> Verdict:
  """As `verify`, of what is read off the scores: for many claims of the same rows.

  Args:
    shares: `[1 + K]`, `claimed_share` of the claimed key and of the wrong ones.
    called: `[N]` bool, the rows that the claimed key's decoder calls members.
    is_claimed: `[N]` bool.
    level: alpha.

  Raises:
    ValueError: if the level cannot be reached, or is not in (0, 1).
  """
  num_wrong = len(shares) - 1
  check_level(level, num_wrong)
  num_claimed = int(is_claimed.sum())
  p_rows = rows_p_value(shares[0], num_claimed, len(is_claimed) - num_claimed)
  p_key = float((1 + (shares[1:] >= shares[0]).sum()) / (1 + num_wrong))
  p_value = max(p_rows, p_key)
  return Verdict(
    share=float(shares[0]),
    claimed_called=float(called[is_claimed].mean()),
    controls_called=float(called[~is_claimed].mean()),
    p_rows=p_rows,
    p_key=p_key,
    p_value=p_value,
    level=level,
    accepted=p_value <= level,
  )


def check_level(level: float, num_wrong: int) -> None:
  """Raises ValueError unless so many wrong keys can reach a level in (0, 1)."""
  _validate.probability("level", level, open_interval=True)
  if (1 + num_wrong) * level < 1:
    raise ValueError(
      f"{num_wrong} wrong keys cannot reach level={level}: expected at least"
      f" {int(np.ceil(1 / level)) - 1}"
    )


def claimed_share(scores: np.ndarray, is_claimed: np.ndarray) -> np.ndarray:
  """Returns the share of the n claimed rows among the n rows that score highest.

  Args:
    scores: `[M, N]`. Of equal scores, the controls' count as higher.
    is_claimed: `[N]` bool.

  Returns:
    `[M]` float64.

  Raises:
    ValueError: as `verify`.
  """
  is_claimed, scores = np.asarray(is_claimed), np.asarray(scores)
  if is_claimed.dtype != np.bool_ or is_claimed.all() or not is_claimed.any():
    raise ValueError("is_claimed must be bool, true of some rows and not of all")
  _validate.shape("scores", scores, (None, len(is_claimed)))
  _validate.finite("scores", scores)
  num_claimed = is_claimed.sum()
  # Sorted by the score, and within a tie controls first: the last key sorts first.
  order = np.lexsort((np.broadcast_to(is_claimed, scores.shape), -scores), axis=-1)
  return is_claimed[order[:, :num_claimed]].sum(1) / num_claimed


def rows_p_value(share: float, num_claimed: int, num_controls: int) -> float:
  """Returns the chance of at least this share under a random assignment of the rows.

  Args:
    share: of claimed rows among as many that score highest.
    num_claimed: rows that are claimed.
    num_controls: rows that are not.

  Where it is less than `P_FLOOR`, which a float may not hold, `P_FLOOR`.
  """
  hits = round(share * num_claimed)
  ways = sum(
    math.comb(num_claimed, hit) * math.comb(num_controls, num_claimed - hit)
    for hit in range(hits, num_claimed + 1)
  )
  return max(ways / math.comb(num_claimed + num_controls, num_claimed), P_FLOOR)


def p_text(p: float) -> str:
  """Returns "= 0.01", or "below 1e-300" where no more is known."""
  return f"below {p:g}" if p <= P_FLOOR else f"= {p:.2g}"


def commitment(
  key: keys_lib.Key, claimed: np.ndarray, controls: np.ndarray, feature_scale: float
) -> str:
  """Returns a SHA-256 to publish (with a date) before the model is.

  It binds the owner to key, rows, sides and scale, and tells nobody what they are, as
  the secret is random. It does not show that rows and secret were not chosen.

  Args:
    key: of the watermark.
    claimed: `[n, ...]` features of the claimed rows.
    controls: `[m, ...]` features of the controls.
    feature_scale: that a model multiplies them by.
  """
  _validate.positive("feature_scale", feature_scale)
  bound = {
    "schema": _SCHEMA,
    "key": dataclasses.asdict(key),
    "feature_scale": float(feature_scale).hex(),
  }
  return _commitment(bound, claimed, controls)


def old_commitment(key: keys_lib.Key, claimed: np.ndarray, controls: np.ndarray) -> str:
  """Returns the commitment of keys of schemas 1 and 2; of key and rows alone.

  Args:
    key: of the owner.
    claimed: `[n, ...]` rows.
    controls: `[m, ...]` rows.
  """
  return _commitment(dataclasses.asdict(key), claimed, controls)


def _commitment(bound: dict, *parts: np.ndarray) -> str:
  digest = hashlib.sha256(json.dumps(bound, sort_keys=True).encode())
  for part in parts:
    digest.update(f"{part.dtype.str}{part.shape}".encode())
    digest.update(np.ascontiguousarray(part).tobytes())
  return digest.hexdigest()


def content_hashes(x: np.ndarray, secret: int) -> list[bytes]:
  """Returns a hash of each row `[N, ...]`, which only the secret's holder foresees."""
  prefix = f"jmia assignment {secret} {x.dtype.str}{x.shape[1:]} ".encode()
  rows = np.ascontiguousarray(x)
  return [hashlib.sha256(prefix + row.tobytes()).digest() for row in rows]
