"""What the attacks are given: answers of the target and of the models compared with it.

Evidence comes from training (`audit.run`) or, for a model from any framework, from a
file of logits (`load`). Everything is a host array, and what is absent is None.
"""

from collections.abc import Mapping
import os
from typing import NamedTuple
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np

from jmia import _validate, signals
from jmia.attacks import similarity


class Evidence(NamedTuple):
  """Losses of `N` evaluated samples, members and non-members, and of their nulls.

  Attributes:
    index: `[N]` int, the samples' rows in their dataset or file.
    labels: `[N]` int32.
    members: `[N]` bool.
    num_classes: `C`.
    losses: `[N]` float32, the target's cross-entropy.
    correct: `[N]` bool, whether the target predicts the label.
    population_losses: `[P]`, the target's losses on rows that nobody trained on.
    population_labels: `[P]`.
    reference_losses: `[R, N]`, of models trained like the target on other rows.
    reference_held: `[R, N]` bool, whether reference r was trained on sample n.
    reference_population_losses: `[R, P]`.
    reference_population_held: `[R, P]` bool.
    distilled_losses: `[R', N]`, of models distilled from the target.
    distilled_held: `[R', N]` bool, whether it was distilled on sample n; absent if
      never.
    logits: `[N, C]` float32, the target's.
    shadow_logits: `[R, P, C]`, the references' on the population, on which
      `reference_population_held` tells their members from others.
    paired_divergences: `[D, N]`, of the target's answers from those of models of which
      some were trained on sample n and some were not (`similarity.divergence`).
    paired_held: `[D, N]` bool, which.
    left_out: `[Q]` int, positions in `N` of the samples with leave-one-out models.
    left_out_losses: `[L, Q]`, of models trained on the members without that sample.
    left_out_valid: `[L, Q]` bool, false where such a model diverged.
  """

  index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, on purpose
  labels: np.ndarray
  members: np.ndarray
  num_classes: int
  losses: np.ndarray
  correct: np.ndarray
  population_losses: np.ndarray | None = None
  population_labels: np.ndarray | None = None
  reference_losses: np.ndarray | None = None
  reference_held: np.ndarray | None = None
  reference_population_losses: np.ndarray | None = None
  reference_population_held: np.ndarray | None = None
  distilled_losses: np.ndarray | None = None
  distilled_held: np.ndarray | None = None
  logits: np.ndarray | None = None
  shadow_logits: np.ndarray | None = None
  paired_divergences: np.ndarray | None = None
  paired_held: np.ndarray | None = None
  left_out: np.ndarray | None = None
  left_out_losses: np.ndarray | None = None
  left_out_valid: np.ndarray | None = None


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
ARRAYS = (*_REQUIRED, *_OPTIONAL)  # what a file of signals may hold


def load(path: str | os.PathLike[str]) -> Evidence:
  """Reads the answers of a model from any framework.

  Args:
    path: an `.npz` of `target_logits [N, C]`, `labels [N]`, `members [N]` bool and,
      for the attacks that need them: `population_logits [P, C]`, `population_labels
      [P]`, `reference_logits [R, N, C]`, `reference_members [R, N]` bool (true where a
      reference was trained on the row; absent if never), `reference_population_logits
      [R, P, C]`, `reference_population_members [R, P]` bool (likewise), and
      `distilled_logits [D, N, C]`.

  Raises:
    ValueError: names the array that is missing, misshapen, not finite or out of range.
    FileNotFoundError: if there is no such file.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f"{path}: no such file")
  try:
    with np.load(path, allow_pickle=False) as file:  # TypeError: a bare .npy
      arrays = {name: file[name] for name in file.files}
  except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f"{path} is not a readable .npz file: {error}") from error
  try:
    return from_arrays(arrays)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Evidence:
  """As `load`, from a mapping of arrays."""
  _check(arrays)
  labels = arrays["labels"].astype(np.int32)
  population_labels = arrays.get("population_labels")
  num_classes = arrays["target_logits"].shape[1]
  target = losses_and_correct(arrays["target_logits"], labels)

  def losses_of(name, labels):
    if name not in arrays:
      return None
    return losses_and_correct(arrays[name], labels)[0]

  def held(name, losses):
    if losses is None:
      return None
    return arrays[name] if name in arrays else np.zeros(losses.shape, bool)

  reference_held = arrays.get("reference_members")
  is_paired = (
    "reference_logits" in arrays
    and reference_held is not None
    and (reference_held.any(axis=0) & ~reference_held.all(axis=0)).all()
  )
  target_logits = as_logits(arrays["target_logits"])
  reference = losses_of("reference_logits", labels)
  reference_population = losses_of("reference_population_logits", population_labels)
  return Evidence(
    index=np.arange(len(labels)),
    labels=labels,
    members=arrays["members"],
    num_classes=num_classes,
    losses=target[0],
    correct=target[1],
    population_losses=losses_of("population_logits", population_labels),
    population_labels=population_labels,
    reference_losses=reference,
    reference_held=held("reference_members", reference),
    reference_population_losses=reference_population,
    reference_population_held=held(
      "reference_population_members", reference_population
    ),
    distilled_losses=losses_of("distilled_logits", labels),
    logits=target_logits,
    shadow_logits=_shadow_logits(arrays),
    paired_divergences=divergences(target_logits, arrays["reference_logits"])
    if is_paired
    else None,
    paired_held=reference_held if is_paired else None,
  )


def divergences(target_logits: np.ndarray, predictions: np.ndarray) -> np.ndarray:
  """Returns the divergence of the target's answers from each model's, `[R, N]`.

  Args:
    target_logits: `[N, C]`.
    predictions: `[R, N, C]` finite logits or probabilities, taken one model at a time.
  """
  return np.stack(
    [
      np.asarray(similarity.divergence(target_logits, as_logits(of_model)))
      for of_model in predictions
    ]
  )


def _shadow_logits(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
  """The references' answers on the population, if they held some of it and not all."""
  held = arrays.get("reference_population_members")
  answers = arrays.get("reference_population_logits")
  if answers is None or held is None or held.all() or not held.any():
    return None
  return np.stack([as_logits(of_model) for of_model in answers])


def losses_and_correct(
  logits: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the cross-entropy, float32, and whether the label is predicted, bool.

  Args:
    logits: `[N, C]` finite logits, or probabilities (see `as_logits`); or `[R, N, C]`
      of several models, taken one by one to bound memory.
    labels: `[N]`.
  """
  if logits.ndim > 2:
    each = [losses_and_correct(of_model, labels) for of_model in logits]
    return np.stack([e[0] for e in each]), np.stack([e[1] for e in each])
  values = signals.compute(
    jnp.asarray(as_logits(logits)), jnp.asarray(labels), ("loss", "correctness")
  )
  return np.asarray(values["loss"]), np.asarray(values["correctness"]) > 0


def as_logits(predictions: np.ndarray) -> np.ndarray:
  """Returns a black box's answers as logits; probabilities become their logarithms.

  Rows that are nowhere negative and all sum to one are taken for probabilities. A
  probability of 0 becomes the smallest normal float32, a loss of 87.3.

  Args:
    predictions: `[..., C]` finite logits or probabilities.
  """
  predictions = np.asarray(predictions, np.float32)
  sums = predictions.sum(axis=-1, dtype=np.float64)
  if predictions.min() >= 0 and np.allclose(sums, 1, atol=1e-3):
    return np.log(np.maximum(predictions, np.finfo(np.float32).tiny))
  return predictions


def check_members(members: np.ndarray) -> None:
  """Raises ValueError unless there are members and non-members."""
  if members.dtype != bool:
    raise ValueError(f"members has dtype {members.dtype}, expected bool")
  if members.all() or not members.any():
    kind = "non-members" if members.all() else "members"
    raise ValueError(f"members marks {members.sum()} of {members.size} rows: no {kind}")


def _check(arrays: Mapping[str, np.ndarray]) -> None:
  """Refuses arrays that are unknown, missing or do not fit one another."""
  for name in arrays:
    _validate.known("array", name, (*_REQUIRED, *_OPTIONAL))
  for name in _REQUIRED:
    if name not in arrays:
      raise ValueError(f"array {name} is missing")
  _validate.shape("target_logits", arrays["target_logits"], (None, None))
  num_samples, num_classes = arrays["target_logits"].shape
  sizes: dict[str, int] = {"N": num_samples, "C": num_classes}
  for name in ("labels", "members"):
    _validate.shape(name, arrays[name], (num_samples,))
  for name, letters in _OPTIONAL.items():
    if name in arrays:
      expected = tuple(sizes.get(letter) for letter in letters)
      _validate.shape(name, arrays[name], expected)
      sizes.update(zip(letters, arrays[name].shape, strict=True))
  for name, array in arrays.items():
    if not array.size:
      raise ValueError(f"{name} has shape {array.shape}: it is empty")
  check_members(arrays["members"])
  for name, array in arrays.items():
    if name.endswith("logits"):
      if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers")
      with np.errstate(over="ignore"):  # what float64 holds may overflow float32
        _validate.finite(name, np.asarray(array, np.float32))
    elif name.endswith("labels"):
      _validate.labels(name, array, num_classes)
    elif array.dtype != bool:
      raise ValueError(f"{name} has dtype {array.dtype}, expected bool")
  for name in ("population_logits", "reference_population_logits"):
    if name in arrays and "population_labels" not in arrays:
      raise ValueError(f"{name} needs population_labels, which is missing")
