"""A model owner's files: the key, the published model, the claim, a model's answers.

| file | holds |
|---|---|
| key, `.json` | `keys.Key`; secret |
| model, `.npz` | parameters and statistics by path; `meta`, how the module is made |
| claim, `.npz` | `x [N, ...]`, `is_claimed [N]`, `feature_scale`; secret for now |
| the same, by a nonce | and `row_hashes [D, 32]` of all rows that were committed to |
| what is committed to, `.json` | `nonces.Prepared`; secret |
| queries, `.npz` | `x [Q, ...]` float32, what a black-box model is asked |
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
import re
from typing import Any, NamedTuple
import zipfile

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate, atomic, models
from jmia.encoding import claims, nonces
from jmia.encoding import keys as keys_lib

_Path = str | os.PathLike[str]
_SHA256 = re.compile("[0-9a-f]{64}")
_SCHEMA = 1
_SECRET = 0o600  # readable to its owner alone
# What NumPy raises of a file that is none of its own; MemoryError of a header that asks
# for more than is stored.
_BROKEN = (
  AttributeError, EOFError, MemoryError, TypeError, ValueError, zipfile.BadZipFile,
)  # fmt: skip


class Model(NamedTuple):
  """A published model.

  Attributes:
    name: of `models.names()`.
    options: of the module.
    num_classes: `C`.
    feature_scale: a model sees `x.astype(float32) * feature_scale`.
    variables: parameters and other collections.
  """

  name: str
  options: dict[str, Any]
  num_classes: int
  feature_scale: float
  variables: Any

  @property
  def module(self) -> nn.Module:
    """The Flax module."""
    return models.make(self.name, self.num_classes, **self.options)


def write_key(path: _Path, key: claims.CommittedKey) -> None:
  """Writes a key as JSON, with its commitment; readable to its owner alone."""
  content = {
    "schema": key.schema,
    **_of_key(key.key),
    "commitment": key.commitment,
  }
  _write_json(path, content)


def read_key(path: _Path) -> claims.CommittedKey:
  """Returns a key with its commitment and its schema, which tells its age.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no key; names the file.
  """
  try:
    content = json.loads(_existing(path).read_text("utf-8"))
    schema = content.pop("schema")
    if schema not in range(1, claims.SCHEMA + 1):
      raise ValueError(f"its schema is not one of 1 to {claims.SCHEMA}")
    commitment = content.pop("commitment")
    if not (isinstance(commitment, str) and _SHA256.fullmatch(commitment)):
      raise ValueError("its commitment is not 64 lower-case hexadecimal digits")
    return claims.CommittedKey(_to_key(content), commitment, int(schema))
  except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
    raise ValueError(f"{path}: not a key of experiments.watermark ({error})") from error


def write_prepared(path: _Path, prepared: nonces.Prepared) -> None:
  """Writes what is committed to as JSON, readable to its owner alone."""
  content = {
    "schema": claims.SCHEMA,
    **prepared._asdict(),
    "key": _of_key(prepared.key),
    "commitment": nonces.commitment(prepared),
  }
  _write_json(path, content)


def read_prepared(path: _Path) -> nonces.Prepared:
  """Returns what was committed to.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no such file, or not that of its commitment; names the file.
  """
  try:
    content = json.loads(_existing(path).read_text("utf-8"))
    if content.pop("schema") != claims.SCHEMA:
      raise ValueError(f"its schema is not {claims.SCHEMA}")
    commitment = content.pop("commitment")
    prepared = nonces.Prepared(**{**content, "key": _to_key(content["key"])})
    if nonces.commitment(prepared) != commitment:
      raise ValueError("it is not what its commitment was made for")
    return prepared
  except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
    raise ValueError(
      f"{path}: not a secret.json of experiments.watermark ({error})"
    ) from error


def write_model(path: _Path, model: Model) -> None:
  """Writes a model whole."""
  flat = traverse_util.flatten_dict(dict(model.variables), sep="/")
  meta = {"schema": _SCHEMA, **model._replace(variables=None)._asdict()}
  arrays = {name: np.asarray(leaf) for name, leaf in flat.items()}
  _write_npz(path, {**arrays, "meta": np.array(json.dumps(meta))})


def read_model(path: _Path, example_shape: tuple[int, ...] | None = None) -> Model:
  """Returns a published model.

  Args:
    path: of the file.
    example_shape: shape of the rows that it will be asked about; None: not checked.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not a model that `write_model` wrote, or not one of such rows;
      names the file.
  """
  arrays = _read_npz(path)
  try:
    meta = json.loads(str(arrays.pop("meta")))
    if meta.pop("schema") != _SCHEMA:
      raise ValueError(f"its schema is not {_SCHEMA}")
    variables = traverse_util.unflatten_dict(
      {tuple(name.split("/")): leaf for name, leaf in arrays.items()}
    )
    model = Model(**{**meta, "variables": variables})
    _validate.positive("feature_scale", model.feature_scale)
    if example_shape is not None:
      check_model(model, example_shape)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    cause = str(error).splitlines()[0]
    raise ValueError(f"{path}: not a model file ({cause})") from error
  return model


def check_model(model: Model, example_shape: tuple[int, ...]) -> None:
  """Raises ValueError unless a model's arrays are those of its module for such rows."""
  arrays = traverse_util.flatten_dict(dict(model.variables), sep="/")
  x = jax.ShapeDtypeStruct((1, *example_shape), jnp.float32)
  variables = jax.eval_shape(
    model.module.init, jax.random.key(0, impl="threefry2x32"), x
  )
  expected = traverse_util.flatten_dict(dict(variables), sep="/")
  if arrays.keys() != expected.keys():
    differ = sorted(arrays.keys() ^ expected.keys())
    raise ValueError(f"{differ[0]} is missing, or too many, for {model.name}")
  for name, leaf in expected.items():
    found = arrays[name]
    if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
      raise ValueError(
        f"{name} is {found.dtype} of shape {found.shape}, expected {leaf.dtype} of"
        f" {leaf.shape} for rows of {tuple(example_shape)}"
      )


def write_claim(path: _Path, claim: claims.Claim) -> None:
  """Writes a claim, readable to its owner alone."""
  arrays = {name: value for name, value in claim._asdict().items() if value is not None}
  _write_npz(path, arrays, mode=_SECRET)


def read_claim(path: _Path) -> claims.Claim:
  """Returns a claim.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if an array is missing or not of its shape, or the scale is not finite
      and positive; names the file.
  """
  arrays = _read_npz(path)
  for name in ("x", "is_claimed", "feature_scale"):
    if name not in arrays:
      raise ValueError(
        f"{path}: {name} is missing, expected x, is_claimed and feature_scale"
      )
  _validate.shape(f"{path}: feature_scale", arrays["feature_scale"], ())
  claim = claims.Claim(
    arrays["x"],
    arrays["is_claimed"],
    float(arrays["feature_scale"]),
    arrays.get("row_hashes"),
  )
  if claim.row_hashes is not None:
    _validate.shape(f"{path}: row_hashes", claim.row_hashes, (None, nonces.HASH_BYTES))
    if claim.row_hashes.dtype != np.uint8:
      raise ValueError(f"{path}: row_hashes has dtype {claim.row_hashes.dtype}")
  _validate.positive(f"{path}: feature_scale", claim.feature_scale)
  _validate.shape(f"{path}: is_claimed", claim.is_claimed, (len(claim.x),))
  if claim.is_claimed.dtype != np.bool_:
    raise ValueError(f"{path}: is_claimed has dtype {claim.is_claimed.dtype}, not bool")
  return claim


def write_queries(path: _Path, x: np.ndarray) -> None:
  """Writes what a black-box model is to be asked."""
  _write_npz(path, {"x": x})


def read_queries(path: _Path) -> np.ndarray:
  """Returns what a black-box model was asked, `[Q, ...]`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not what `write_queries` wrote; names the file.
  """
  arrays = _read_npz(path)
  if arrays.keys() != {"x"}:
    raise ValueError(f"{path}: not the queries.npz of experiments.watermark")
  return arrays["x"]


def read_answers(path: _Path, num_queries: int) -> np.ndarray:
  """Returns a black-box model's answers, as they are.

  Args:
    path: `.npy` of `[Q, C]` numbers; see `answers.log_probabilities`.
    num_queries: `Q`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not such an array; names the file.
  """
  try:
    answers = np.load(_existing(path), allow_pickle=False)
  except _BROKEN as error:
    raise ValueError(f"{path}: not a .npy array ({error})") from error
  _validate.shape(f"{path}", answers, (num_queries, None))
  return answers


def _of_key(key: keys_lib.Key) -> dict[str, Any]:
  """A key as JSON; the secret as text, since readers may take it for a float."""
  return {**dataclasses.asdict(key), "secret": str(key.secret)}


def _to_key(content: Mapping[str, Any]) -> keys_lib.Key:
  return keys_lib.Key(**{**content, "secret": int(content["secret"])})


def _existing(path: _Path) -> pathlib.Path:
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file")
  return path


def _read_npz(path: _Path) -> dict[str, np.ndarray]:
  try:
    with np.load(_existing(path), allow_pickle=False) as held:
      return dict(held)
  except _BROKEN as error:
    raise ValueError(f"{path}: not an .npz of plain arrays ({error})") from error


def _write_json(path: _Path, content: Mapping[str, Any]) -> None:
  atomic.write(path, (json.dumps(content, indent=2) + "\n").encode(), _SECRET)


def _write_npz(path: _Path, arrays: Mapping[str, Any], mode: int = 0o666) -> None:
  with atomic.opened(path, mode) as file:
    np.savez(file, **arrays)
