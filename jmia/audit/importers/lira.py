"""LiRA's folders: one of each model, with what it was trained on and its answers.

  lira-pytorch   */keep.npy, and */logits.npy or */scores.npy
  TF Privacy     experiment-*/keep.npy, and experiment-*/logits/*.npy or scores/*.npy,
                 of which the last by name, the last epoch, is taken

`keep` is `[N]` bool. `logits` are `[N, Q, C]`, in TF Privacy `[N, 1, Q, C]`, `scores`
`[N, Q]` the scaled logits of Q copies. Neither tool's first copy need be the row itself
(lira-pytorch alters every one): attacks that ask about one query take the first.
Labels are in no model's folder; beside them, `labels.npy` or TF Privacy's `y_train.npy`
is read. Without them scores do, and logits do not. Probabilities in the place of logits
are told from them (`units.recognise`), and said.

Sources: research/mi_lira_2021 of tensorflow/privacy; orientino/lira-pytorch.
"""

import pathlib

import numpy as np

from jmia import _validate
from jmia import signals as signals_lib
from jmia.attacks import evidence as evidence_lib
from jmia.audit import true_class
from jmia.audit.importers.cohort import Cohort
from jmia.datasets import npz
from jmia.outputs import units

LAYOUT = "LiRA's */keep.npy with */logits.npy or */scores.npy"
_LABELS = ("labels.npy", "y_train.npy")


def is_it(folder: pathlib.Path) -> bool:
  """Whether some subfolder has a `keep.npy`."""
  return any(folder.glob("*/keep.npy"))


def load(folder: pathlib.Path) -> Cohort:
  """Reads the answers of all models; scores, where a model has them, before logits.

  Raises:
    ValueError: names the file that is missing or does not fit the others.
  """
  models = sorted(path.parent for path in folder.glob("*/keep.npy"))
  _check_kept(folder)
  labels = _labels(folder)
  each = [_answers(model, labels) for model in models]
  shapes = [phi.shape for phi, _, _ in each]
  for model, shape in zip(models, shapes, strict=True):
    if shape != shapes[0]:
      raise ValueError(
        f"{model} has answers of shape {shape}, {models[0]} of {shapes[0]}, expected"
        " as many rows and copies"
      )
  num_rows = shapes[0][0]
  held = np.stack([_keep(model, num_rows) for model in models])
  names = set.intersection(*(set(plain) for _, plain, _ in each))
  found = true_class.signals(
    "scores", np.stack([phi for phi, _, _ in each]), "scaled_logits", 2
  )
  more = {name: np.stack([plain[name] for _, plain, _ in each]) for name in names}
  notes = _units(folder, [told for _, _, told in each if told is not None])
  if labels is None:
    notes.append(
      "labels are not known: attacks that go by class take all samples for one class"
    )
  elif len(labels) < num_rows:
    raise ValueError(f"{folder} has {len(labels)} labels, expected {num_rows}")
  known = np.zeros(num_rows, np.int32) if labels is None else labels[:num_rows]
  return Cohort(
    names=tuple(model.name for model in models),
    held=held,
    labels=known,
    num_classes=int(known.max()) + 1,
    signals=evidence_lib.joined(more, found),
    notes=notes,
  )


def _check_kept(folder: pathlib.Path) -> None:
  """Refuses a model with answers of which nothing says what it was trained on."""
  for model in sorted(path for path in folder.iterdir() if path.is_dir()):
    has_answers = _last(model, "scores") or _last(model, "logits")
    if has_answers and not (model / "keep.npy").is_file():
      raise ValueError(f"{has_answers} is there and {model / 'keep.npy'} is not")


def _units(folder: pathlib.Path, told: list[units.Units]) -> list[str]:
  """What is said of models whose answers are no logits; refuses several units."""
  kinds = [kind for of_model in told for (kind,) in of_model.kinds.values()]
  if {*kinds} <= {"logits"}:
    return []
  if len({(kind, of.coarse) for kind, of in zip(kinds, told, strict=True)}) > 1:
    raise ValueError(
      f"{folder}: the files of logits hold {' and '.join(sorted({*kinds}))}, or some"
      " cut or rounded as others are not: save all as logits"
    )
  said = f"the files of logits hold {kinds[0].replace('_', '-')}, taken for that"
  return [said, *told[0].notes]


def _labels(folder: pathlib.Path) -> np.ndarray | None:
  for name in _LABELS:
    if (folder / name).is_file():
      labels = npz.read_array(folder / name)
      _validate.shape(str(folder / name), labels, (None,))
      if labels.dtype.kind == "f" and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)
      if labels.dtype.kind not in "iu" or not labels.size or labels.min() < 0:
        raise ValueError(f"{folder / name} holds no classes, expected integers from 0")
      return labels.astype(np.int32)
  return None


def _keep(model: pathlib.Path, num_rows: int) -> np.ndarray:
  path = model / "keep.npy"
  keep = npz.read_array(path)
  if keep.dtype.kind in "iu" and ((keep == 0) | (keep == 1)).all():
    keep = keep.astype(bool)
  if keep.dtype != bool or keep.ndim != 1:
    raise ValueError(
      f"{path} has shape {keep.shape} and dtype {keep.dtype}, expected (N) of bool, or"
      " of 0 and 1"
    )
  # TF Privacy may ask about the first of the rows alone.
  if len(keep) < num_rows:
    raise ValueError(f"{path} has {len(keep)} rows, its answers {num_rows}")
  return keep[:num_rows]


def _answers(
  model: pathlib.Path, labels: np.ndarray | None
) -> tuple[np.ndarray, dict[str, np.ndarray], units.Units | None]:
  """The scaled logits `[N, Q]`, signals `[N]` that only logits give, and their units.

  The last is None of scores.
  """
  path = _last(model, "scores")
  if path is not None:
    scores = npz.read_array(path)
    if scores.ndim == 1:
      scores = scores[:, None]
    _check(path, scores, 2, "(N, Q)")
    return scores.astype(np.float32), {}, None
  path = _last(model, "logits")
  if path is None:
    raise ValueError(
      f"{model} has neither scores.npy nor logits.npy, and no folder of them"
    )
  logits = npz.read_array(path)
  if logits.ndim == 4 and logits.shape[1] == 1:
    logits = logits[:, 0]
  _check(path, logits, 3, "(N, Q, C) or (N, 1, Q, C)")
  if labels is None:
    raise ValueError(
      f"{path} needs the rows' labels: save them [N] as {model.parent / _LABELS[0]}, or"
      " the tool's scores beside it"
    )
  num_rows, _, num_classes = logits.shape
  if len(labels) < num_rows:
    raise ValueError(f"{path} has {num_rows} rows, and there are {len(labels)} labels")
  _validate.labels("labels", labels[:num_rows], num_classes)
  told = units.recognise({str(path): logits})
  logits = told.logits(str(path), logits)
  of = evidence_lib.of_queries(logits, labels[:num_rows])
  only = set(signals_lib.SIGNALS) - set(true_class.KINDS.values())
  copies = evidence_lib.on_copies("scaled_logit", evidence_lib.QUERIES)
  return of[copies], {name: of[name] for name in only}, told


def _last(model: pathlib.Path, kind: str) -> pathlib.Path | None:
  """A model's file of answers; of several in a folder the last by name."""
  if (model / f"{kind}.npy").is_file():
    return model / f"{kind}.npy"
  return max((model / kind).glob("*.npy"), default=None)


def _check(path: pathlib.Path, array: np.ndarray, ndim: int, expected: str) -> None:
  if array.ndim != ndim or not array.size:
    raise ValueError(f"{path} has shape {array.shape}, expected {expected}")
  if array.dtype.kind not in "fiu":
    raise ValueError(f"{path} has dtype {array.dtype}, expected real numbers")
  with np.errstate(over="ignore"):  # what float64 holds may overflow float32
    _validate.finite(str(path), array.astype(np.float32))
