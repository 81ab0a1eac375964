"""Evidence from a file: the answers of models from any framework."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np

from jmia import _validate
from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import Evidence, Group
from jmia.audit import counts, true_class
from jmia.datasets import arrays as arrays_lib
from jmia.datasets import npz
from jmia.outputs import one_class, units

_REQUIRED = ("target_logits", "labels", "members")
# Optional arrays of a signals file: name -> shape, in the letters of its docstring.
_OPTIONAL = {
  "population_logits": "PC",
  "population_labels": "P",
  "reference_logits": "RNC",
  "reference_members": "RN",
  "reference_population_logits": "RPC",
  "reference_population_members": "RP",
  "distilled_logits": "DNC",
}
# What says something of answers -> whose.
_READ_WITH = {
  "population_labels": ("population", "reference_population"),
  "reference_members": ("reference",),
  "reference_population_members": ("reference_population",),
}
ARRAYS = (*_REQUIRED, *_OPTIONAL)  # what a file of signals may hold
_CALIBRATES = "calibrates"
_OF_ONE_CLASS = "_true_class_probabilities"
_GROUP = "group_"  # and a name: what the rows are told apart by


def load(path: str | os.PathLike[str], *, outputs: str = "auto") -> Evidence:
  """Reads the answers of a model from any framework.

  Arrays of logits may hold probabilities, percentages or log-probabilities instead
  (`units.recognise`), and of two classes one number a row: the logit or the probability
  of class 1, `[N]` or `[N, 1]`.

  Args:
    path: an `.npz` of `target_logits [N, C]`, `labels [N]`, `members [N]` bool and,
      for the attacks that need them: `population_logits [P, C]`, `population_labels
      [P]`, `reference_logits [R, N, C]`, `reference_members [R, N]` bool (true where a
      reference was trained on the row; absent if never), `reference_population_logits
      [R, P, C]`, `reference_population_members [R, P]` bool (likewise), and
      `distilled_logits [D, N, C]`. Where models were asked about Q copies of each row,
      of which the first is the row itself, `target_logits` is `[N, Q, C]` and
      `reference_logits` `[R, N, Q, C]`. Each array of logits may be one of the true
      class in its place, without C: `target_losses`, `target_scaled_logits` or
      `target_true_class_probabilities`, and so on; attacks that need more are missing
      then. `calibrates [N]` bool marks non-members that are not evaluated but calibrate
      p-values; other models must have been trained on them as on the other
      non-members. `group_NAME [N]` are for `groups`, and of no use here.
    outputs: one of `kinds.OUTPUTS`, what the answers are; told from them by default.

  Raises:
    ValueError: names the array that is missing, misshapen, not finite or out of range;
      or the reference that is the target itself: the same answers, and members.
    FileNotFoundError: if there is no such file.
  """
  arrays = npz.read(path)
  try:
    return from_arrays(arrays, outputs=outputs)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def groups(
  signals: Mapping[str, Any] | str | os.PathLike[str], names: Sequence[str]
) -> dict[str, np.ndarray]:
  """Reads the columns `[N]` whose groups' exposure is to be told.

  Args:
    signals: arrays as of `from_arrays`, or a path as of `load`.
    names: the arrays `group_NAME` to read; no others are.

  Raises:
    ValueError: there is no such array.
    FileNotFoundError: if there is no such file.
  """
  if isinstance(signals, str | os.PathLike):
    arrays: Mapping[str, Any] = npz.read(signals)
    where = str(signals)
  else:
    arrays, where = signals, "signals"
  known = [name.removeprefix(_GROUP) for name in filter(_is_group, arrays)]
  for name in names:
    if name not in known:
      raise ValueError(
        f"groups: {where} has no array {_GROUP}{name} (has groups:"
        f" {', '.join(known) or 'none'})"
      )
  return {name: _array(_GROUP + name, arrays[_GROUP + name]) for name in names}


def from_arrays(arrays: Mapping[str, Any], *, outputs: str = "auto") -> Evidence:
  """As `load`, from a mapping of arrays, lists, frames or tensors on any device."""
  arrays = {name: _plain(name, array) for name, array in arrays.items()}
  arrays, notes = _two_classes(arrays, outputs)
  _check(arrays)
  of_one = {n: a for n, a in arrays.items() if n.endswith(_OF_ONE_CLASS)}
  as_coarse, said = one_class.as_coarse(of_one)
  arrays |= as_coarse
  answers = {name: array for name, array in arrays.items() if _is_logits(name)}
  told = units.recognise(answers, outputs, [n for n in answers if _is_of_several(n)])
  for name, array in answers.items():
    models = array if _is_of_several(name) else array[None]
    each = [told.logits(name, of_model, m) for m, of_model in enumerate(models)]
    arrays[name] = np.stack(each) if _is_of_several(name) else each[0]
  labels = arrays["labels"].astype(np.int32)
  population_labels = arrays.get("population_labels", np.zeros(0)).astype(np.int32)
  on_samples = _signals(arrays, "target", labels)
  assert on_samples is not None, "it is checked to be there"
  return Evidence(
    index=np.arange(len(labels)),
    labels=labels,
    members=arrays["members"],
    num_classes=_num_classes(arrays),
    signals=on_samples,
    population_labels=population_labels,
    population=_signals(arrays, "population", population_labels) or {},
    groups=_groups(arrays, labels, population_labels),
    calibrates=arrays.get(_CALIBRATES),
    notes=(*notes, *said, *told.notes, *_of_counts(arrays)),
  )


def _is_logits(name: str) -> bool:
  return name.endswith("_logits") and not name.endswith("_scaled_logits")


def _is_of_several(name: str) -> bool:
  """Whether an array's first axis is that of models."""
  return name.startswith(("reference", "distilled"))


def _two_classes(
  arrays: Mapping[str, np.ndarray], outputs: str
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Two columns in place of the one number a row that is given of two classes."""
  target = arrays.get("target_logits")
  if target is None or not (target.ndim == 1 or target.shape[1:] == (1,)):
    return dict(arrays), []
  found = dict(arrays)
  notes = []
  for name, array in arrays.items():
    if not _is_logits(name):
      continue
    num_axes = 2 if _is_of_several(name) else 1
    if array.ndim == num_axes + 1 and array.shape[-1] == 1:
      array = array[..., 0]
    if array.ndim != num_axes:
      raise ValueError(
        f"{name} has shape {array.shape}, but target_logits {target.shape}: expected"
        " one number a row of both, or two columns"
      )
    found[name], note = one_class.two_columns(name, array, outputs)
    notes.append(note)
  return found, notes


def _is_group(name: str) -> bool:
  return name.startswith(_GROUP)


def _array(name: str, value: Any) -> np.ndarray:
  """An array of an array, a tensor, a frame, or a list of these, one for each model."""
  if isinstance(value, list | tuple):
    value = [arrays_lib.on_host(part) for part in value]
  try:
    return np.asarray(arrays_lib.on_host(value))
  except (TypeError, ValueError) as error:
    cause = str(error).splitlines()[0]
    raise ValueError(f"{name} is no array, but {type(value)}: {cause}") from error


def _plain(name: str, value: Any) -> np.ndarray:
  """An array: membership as booleans where 0 and 1 say it, classes as integers."""
  array = _array(name, value)
  if _is_group(name):
    return array
  if name.endswith("members") and array.dtype.kind in "iuf":
    if not ((array == 0) | (array == 1)).all():
      raise ValueError(
        f"{name} holds {array.dtype} other than 0 and 1, expected a mask, not rows"
      )
    return array.astype(bool)
  is_labels = name.endswith("labels")
  if is_labels and array.dtype.kind == "f" and (array == np.rint(array)).all():
    return array.astype(np.int64)
  if is_labels and array.dtype.kind in "OSU":
    raise ValueError(
      f"{name} holds text, expected class numbers: the column of the logits that is"
      " each one's"
    )
  return array


def _given(arrays: Mapping[str, np.ndarray], of: str) -> str | None:
  """The name of the array of a kind of answers; None if there is none."""
  kinds = ["logits", *true_class.KINDS]
  found = [f"{of}_{kind}" for kind in kinds if f"{of}_{kind}" in arrays]
  if len(found) > 1:
    raise ValueError(f"{found[0]} and {found[1]} say the same, expected one of them")
  return found[0] if found else None


def _num_classes(arrays: Mapping[str, np.ndarray]) -> int:
  """The last axis of logits; without logits, one more than the highest label."""
  for name, array in arrays.items():
    if _is_logits(name):
      return array.shape[-1]
  labels = [arrays[n] for n in ("labels", "population_labels") if n in arrays]
  return 1 + max(int(array.max()) for array in labels)


def _signals(
  arrays: Mapping[str, np.ndarray],
  of: str,
  labels: np.ndarray,
  target: np.ndarray | None = None,
) -> Mapping[str, np.ndarray] | None:
  """Signals of an array of logits, or of one number a row; None if not given.

  The divergence is from `target`, plain logits.
  """
  name = _given(arrays, of)
  if name is None:
    return None
  values, num_axes = arrays[name], 1 if of in ("target", "population") else 2
  kind = name.removeprefix(f"{of}_")
  if kind != "logits":
    return true_class.signals(name, values, kind, num_axes)
  on_copies = values.ndim == num_axes + 2
  signals_of = evidence_lib.of_queries if on_copies else evidence_lib.of_logits
  return signals_of(values, labels, target)


def _plain_logits(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
  """The target's logits, of the first copies where there are copies."""
  if name not in arrays:
    return None
  logits = arrays[name]
  return logits[:, 0] if logits.ndim == 3 else logits


def _groups(
  arrays: Mapping[str, np.ndarray], labels: np.ndarray, population_labels: np.ndarray
) -> dict[str, Group]:
  """The groups of models that a file holds."""
  groups = {}
  target = _plain_logits(arrays, "target_logits")
  of_population = _plain_logits(arrays, "population_logits")
  for name in ("reference", "distilled"):
    on_samples = _signals(arrays, name, labels, target)
    on_population = _signals(
      arrays, f"{name}_population", population_labels, of_population
    )
    if on_samples is None and on_population is None:
      continue
    if on_samples is None:
      num_models = len(arrays[str(_given(arrays, f"{name}_population"))])
      fields = evidence_lib.no_samples(num_models, len(labels))
    else:
      num_models = len(arrays[str(_given(arrays, name))])
      held = arrays.get(f"{name}_members", np.zeros((num_models, len(labels)), bool))
      held, out = counts.equal(held, arrays["members"], (0,))
      fields = {"signals": on_samples, "held": held, "out": out}
    fields |= _on_population(arrays, name, num_models, on_population, population_labels)
    groups[name] = Group(**fields)
  if "reference_members" in arrays and "reference" in groups:
    groups["in_out"] = groups["reference"]
  return groups


def _of_counts(arrays: Mapping[str, np.ndarray]) -> list[str]:
  """What is said where models are left out, so that their number tells no members."""
  held = arrays.get("reference_members")
  is_so = held is not None and counts.are_balanced(held, arrays["members"])
  return [counts.NOTE] if is_so else []


def _on_population(
  arrays, name, num_models, on_population, population_labels
) -> dict[str, Any]:
  """The fields of a `Group` that are of the population."""
  if on_population is None:
    return evidence_lib.no_population(num_models)
  shape = (num_models, len(population_labels))
  held = arrays.get(f"{name}_population_members", np.zeros(shape, bool))
  return {
    "population": on_population,
    "population_held": held,
    "population_out": ~held,
    "population_labels": population_labels,
  }


def _check(arrays: Mapping[str, np.ndarray]) -> None:
  """Refuses arrays that are unknown, missing or do not fit one another."""
  letters = _letters(arrays)
  for name in arrays:
    _validate.known("array", name, letters)
  for name in _REQUIRED:
    of = name.removesuffix("_logits")
    if name not in arrays and (of == name or _given(arrays, of) is None):
      raise ValueError(f"array {name} is missing")
  target = arrays[str(_given(arrays, "target"))]
  is_logits = _given(arrays, "target") == "target_logits"
  has_axes = target.ndim == len(letters[str(_given(arrays, "target"))])
  if not has_axes or (is_logits and target.shape[-1] < 2):
    raise ValueError(
      f"{_given(arrays, 'target')} has shape {target.shape}, expected (N, C) or"
      " (N, Q, C) with C at least 2, or (N) or (N, Q) of one number a row"
    )
  sizes: dict[str, int] = {}
  for name, of in letters.items():
    if name in arrays:
      expected = tuple(sizes.get(letter) for letter in of)
      _validate.shape(name, arrays[name], expected)
      sizes.update(zip(of, arrays[name].shape, strict=True))
  for name, array in arrays.items():
    if not array.size:
      raise ValueError(f"{name} has shape {array.shape}: it is empty")
  evidence_lib.check_members(arrays["members"])
  for name, array in arrays.items():
    if not _is_group(name):
      _check_values(name, array, arrays)
  for of in ("population", "reference_population"):
    if _given(arrays, of) and "population_labels" not in arrays:
      raise ValueError(
        f"{_given(arrays, of)} needs population_labels, which is missing"
      )
  for name, answers in _READ_WITH.items():
    if name in arrays and not any(_given(arrays, of) for of in answers):
      raise ValueError(
        f"{name} is of no use without {' or '.join(f'{of}_logits' for of in answers)}:"
        " leave it out, or add the answers"
      )
  if _CALIBRATES in arrays:
    _check_calibrates(arrays[_CALIBRATES], arrays["members"])
  _check_others(arrays)


def _check_others(arrays: Mapping[str, np.ndarray]) -> None:
  """Refuses the target among its own references: its members would fit it perfectly."""
  of_target = str(_given(arrays, "target"))
  name = f"reference{of_target.removeprefix('target')}"
  held = arrays.get("reference_members")
  if name not in arrays or held is None or len(arrays["members"]) < 2:
    return
  if any(arrays[of].dtype.kind not in "fiub" for of in (of_target, name)):
    return  # refused with their units
  with np.errstate(over="ignore"):  # as in `_check_values`
    target = np.asarray(arrays[of_target], np.float32)
    others = np.asarray(arrays[name], np.float32)
  if (target == target[:1]).all():
    return  # of a model that says one thing of all rows, so may another
  for number in np.flatnonzero((held == arrays["members"]).all(axis=1)):
    if np.array_equal(others[number], target):
      raise ValueError(
        f"{name}[{number}] has the answers and the members of the target: it is no"
        " other model, so leave it out"
      )


def _letters(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
  """Every array's name -> its shape's letters, the target's first."""
  given = _given(arrays, "target")
  of_target = {"target_logits": "NC"} | {
    f"target_{kind}": "N" for kind in true_class.KINDS
  }
  has_copies = given is not None and arrays[given].ndim > len(of_target[given])
  letters = {}
  for name, of in {"target_logits": "NC", **_OPTIONAL}.items():
    if has_copies and name in ("target_logits", "reference_logits"):
      of = of.replace("N", "NQ")
    letters[name] = of
    if name.endswith("_logits"):
      for kind in true_class.KINDS:
        letters[f"{name.removesuffix('logits')}{kind}"] = of.removesuffix("C")
  of_rows = ("labels", "members", _CALIBRATES, *filter(_is_group, arrays))
  return letters | dict.fromkeys(of_rows, "N")


def _check_values(
  name: str, array: np.ndarray, arrays: Mapping[str, np.ndarray]
) -> None:
  """Refuses values that are of another type, or out of range."""
  if name.endswith("labels"):
    _validate.labels(name, array, _num_classes(arrays))
  elif name in ("members", _CALIBRATES) or name.endswith("_members"):
    if array.dtype != bool:
      raise ValueError(f"{name} has dtype {array.dtype}, expected bool")
  elif not _is_logits(name):  # those are looked at together
    if array.dtype.kind not in "fiu":
      raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers")
    with np.errstate(over="ignore"):  # what float64 holds may overflow float32
      _validate.finite(name, np.asarray(array, np.float32))


def _check_calibrates(calibrates: np.ndarray, members: np.ndarray) -> None:
  if (calibrates & members).any():
    raise ValueError(
      f"calibrates marks {(calibrates & members).sum()} members, expected non-members"
    )
  if not calibrates.any() or (calibrates | members).all():
    raise ValueError(
      f"calibrates marks {calibrates.sum()} of {(~members).sum()} non-members, expected"
      " some, and others to evaluate"
    )
