"""Whether members and non-members differ without any model: a comparison's fairness."""

from collections.abc import Mapping
import hashlib
from typing import Any

import numpy as np

from jmia import _validate
from jmia.attacks.evidence import Evidence
from jmia.report import wording
from jmia.stats import intervals, roc

_ROWS, _FEATURES = 4000, 64
_LEAST_P = 1e-300  # below it a p-value may have underflowed
_SURE = 0.01  # level at which class shares count as different
_LEAST_EXPECTED = 5  # rows of a cell for which the chi-square law holds (Cochran)


def blind(
  x: np.ndarray | None,
  labels: np.ndarray,
  members: np.ndarray,
  num_classes: int,
  seed: int = 0,
) -> dict[str, Any]:
  """How well members are told from non-members by the data alone, without the model.

  A forest of 100 extremely randomised trees of the features (at most 64; of more, 64
  random projections) and labels, trained on half of the rows and tried on the other
  half, so that its AUC's interval holds: the rows tried are independent of what was
  trained, and each is scored once by one classifier. At most 4,000 rows, drawn from the
  seed.

  Args:
    x: `[N, ...]` features, or None for labels alone.
    labels: `[N]` int.
    members: `[N]` bool.
    num_classes: `C`.
    seed: of the halves, projections and the classifier.

  Returns:
    "auc", "auc_ci" (95 %), "num_rows" tried and whether "features" were looked at;
    empty where a half would hold fewer than 10 of either kind.
  """
  from sklearn import ensemble

  rng = np.random.default_rng([seed, 0x5B11])
  kinds = [rng.permutation(np.flatnonzero(members == kind)) for kind in (True, False)]
  kinds = [rows[: _ROWS // 2] for rows in kinds]
  if min(map(len, kinds)) < 20:
    return {}
  train = np.concatenate([rows[: len(rows) // 2] for rows in kinds])
  test = np.concatenate([rows[len(rows) // 2 :] for rows in kinds])
  inputs = _inputs(x, labels, num_classes, rng, np.concatenate([train, test]))
  model = ensemble.ExtraTreesClassifier(
    100, min_samples_leaf=5, random_state=seed, n_jobs=1
  )
  model.fit(inputs[: len(train)], members[train])
  scores = model.predict_proba(inputs[len(train) :])[:, 1]
  found = intervals.auc(scores, members[test])
  return {
    "auc": float(found.auc),
    "auc_ci": [float(found.low), float(found.high)],
    "num_rows": len(test),
    "features": x is not None,
  }


def _inputs(x, labels, num_classes, rng, rows) -> np.ndarray:
  """`[n, F]` of rows: few features, the label and how often the label comes."""
  parts = [labels[rows, None].astype(np.float32)]
  if num_classes <= 32:
    parts.append(np.eye(num_classes, dtype=np.float32)[labels[rows]])
  if x is not None:
    flat = np.asarray(x[rows], np.float32).reshape(len(rows), -1)
    if flat.shape[1] > _FEATURES:
      draws = rng.normal(size=(flat.shape[1], _FEATURES)).astype(np.float32)
      flat = flat @ (draws / np.sqrt(flat.shape[1]))
    parts.append(flat)
  return np.concatenate(parts, axis=1)


def blind_notes(found: Mapping[str, Any]) -> list[str]:
  """Says that the split may explain the figures, where the interval is above 0.5."""
  if not found or found["auc_ci"][0] <= 0.5:
    return []
  what = "features and labels" if found["features"] else "labels"
  return [
    f"members and non-members differ without the model: a classifier of their {what}"
    f" alone tells them apart with AUC {found['auc']:.3f} (95% interval"
    f" {wording.auc_interval(found['auc_ci'], ' to ')}); the split, not"
    " the model, may explain the attacks' figures. Draw both from one source at random"
  ]


def class_notes(labels: np.ndarray, members: np.ndarray) -> list[str]:
  """Says that class shares differ, by a chi-square test at level 0.01.

  Classes are taken together, the rarest first, until 5 rows of the fewer of members and
  others are expected of each cell, so that the test's law holds.

  Args:
    labels: `[N]` int.
    members: `[N]` bool.
  """
  from scipy import stats

  counts = np.stack([
    np.bincount(labels[members == kind], minlength=labels.max() + 1)
    for kind in (True, False)
  ])  # fmt: skip
  cells = _cells(counts.sum(0) * min(members.mean(), 1 - members.mean()))
  if cells.max() < 1:
    return []
  table = np.stack([np.bincount(cells, weights=kind) for kind in counts])
  p = float(stats.chi2_contingency(table, correction=False).pvalue)
  if p >= _SURE:
    return []
  shown = f"p = {p:.2g}" if p >= _LEAST_P else f"p below {_LEAST_P:g}"
  return [
    "members and non-members have different class shares (chi-square test,"
    f" {shown}): the attacks' figures may be those of the classes"
  ]


def _cells(expected: np.ndarray) -> np.ndarray:
  """`[C]` the cell of each class, of 5 expected rows at least, by the rows expected.

  It goes by how many rows a class has, and never by who of them is a member.
  """
  cells, number, so_far = np.zeros(len(expected), int), 0, 0.0
  for label in np.argsort(expected, kind="stable"):
    cells[label] = number
    so_far += expected[label]
    if so_far >= _LEAST_EXPECTED:
      number, so_far = number + 1, 0.0
  return np.minimum(cells, max(number - 1, 0))  # what is left over joins the last


def copies(x: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
  """Returns `[N]` bool, the non-members that have a member's features and label.

  Args:
    x: `[N, ...]` features.
    labels: `[N]` int.
    members: `[N]` bool.
  """
  flat = np.ascontiguousarray(x).reshape(len(x), -1)
  digests = np.array([
    hashlib.blake2b(row.tobytes() + b"/%d" % label, digest_size=16).hexdigest()
    for row, label in zip(flat, labels, strict=True)
  ])  # fmt: skip
  return ~members & np.isin(digests, digests[members])


def near_copies(x: np.ndarray, members: np.ndarray, distance: float) -> np.ndarray:
  """`[N]` bool, the non-members whose thumbnail is that of a member, or nearly.

  A thumbnail is an image's means over 8 x 8 fields: what a new encoding, a crop by a
  pixel or a little noise leaves as it was.

  Args:
    x: `[N, H, W, channels]` images.
    members: `[N]` bool.
    distance: root mean square difference of two thumbnails up to which they are taken
      for copies, in standard deviations of all thumbnails' values.

  Raises:
    ValueError: `x` is no images, or `distance` is not above 0.
  """
  from sklearn import neighbors

  check_near(distance, x.shape)
  small = np.asarray(x, np.float32)
  for axis in (1, 2):
    fields = np.array_split(np.arange(small.shape[axis]), min(8, small.shape[axis]))
    small = np.stack([small.take(f, axis).mean(axis) for f in fields], axis)
  flat = small.reshape(len(x), -1)
  scale = max(float(flat.std()), np.finfo(np.float32).tiny)
  flat = flat / (scale * np.sqrt(flat.shape[1]))  # distances are root mean squares
  nearest = neighbors.NearestNeighbors(n_neighbors=1).fit(flat[members])
  found = np.zeros(len(x), bool)
  found[~members] = nearest.kneighbors(flat[~members])[0][:, 0] <= distance
  return found


def check_near(distance: float, shape: tuple[int, ...]) -> None:
  """Raises ValueError unless rows of such a shape have near copies at a distance."""
  _validate.positive("near_copies", distance)
  if len(shape) != 4:
    raise ValueError(
      f"near_copies={distance:g}, but rows have shape {shape[1:]}: expected images"
    )


def copy_notes(
  copied: np.ndarray,
  members: np.ndarray,
  scores: Mapping[str, np.ndarray],
  what: str = "exact copies",
) -> list[str]:
  """Says how many non-members are copies, and each attack's AUC without them.

  Args:
    copied: `[N]` bool, of `copies`.
    members: `[N]` bool.
    scores: attack -> `[N]`, NaN where it has none.
    what: such non-members are called.
  """
  num = int(copied.sum())
  if not num:
    return []
  said = (
    f"{num:,} of {int((~members).sum()):,} non-members are {what} of members, so"
    " that no attack can tell them apart"
  )
  keep = ~copied
  without = []
  for name, score in scores.items():
    rows = keep & np.isfinite(score)
    if (members & rows).any() and (~members & rows).any():
      without.append(f"{name} {float(roc.auc(score[rows], members[rows])):.3f}")
  if without:
    said += f"; the AUC without them: {', '.join(without)}"
  return [said]


def describe(
  evidence: Evidence,
  x: np.ndarray | None,
  scores: Mapping[str, np.ndarray],
  seed: int,
  near: float | None = None,
) -> tuple[dict[str, Any], list[str]]:
  """The blind baseline of the evaluated samples, and the notes of all of this file.

  Args:
    evidence: of the evaluated samples.
    x: `[N, ...]` their features, if they are at hand.
    scores: attack -> `[N]`.
    seed: of the baseline.
    near: distance of near copies; None for exact ones alone.
  """
  labels, members = evidence.labels, evidence.members
  baseline = blind(x, labels, members, evidence.num_classes, seed)
  notes = [*blind_notes(baseline), *class_notes(labels, members)]
  if x is not None:
    exact = copies(x, labels, members)
    notes += copy_notes(exact, members, scores)
    if near is not None:
      others = near_copies(x, members, near) & ~exact
      notes += copy_notes(others, members, scores, "near copies (by thumbnails)")
  return baseline, notes
