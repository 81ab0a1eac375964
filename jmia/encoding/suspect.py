"""What a key and wrong ones read of a model that is suspected.

A model at hand is read in the key's layer. One that can only be asked is known by its
answers to `queries`, if the key reads the output.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jmia import _validate
from jmia.encoding import activations, claims, decode, files, synthetic, watermark
from jmia.encoding import answers as answers_lib
from jmia.encoding import keys as keys_lib
from jmia.training import parallel

# Rows as a model sees them `[Q, ...]` -> answers `[Q, C]`.
Predict = Callable[[np.ndarray], np.ndarray]


def scores(
  model: files.Model | Predict | np.ndarray,
  key: keys_lib.Key,
  claim: claims.Claim,
  num_wrong_keys: int,
  seed: int,
  progress: parallel.Progress = lambda done, total: None,
) -> np.ndarray:
  """Returns log-odds that the rows of a claim were encoded, by the key and wrong ones.

  Args:
    model: at hand, or a function of rows, or its answers to `queries` of the same
      `num_wrong_keys` and `seed`.
    key: of the watermark.
    claim: whose rows are asked about.
    num_wrong_keys: K.
    seed: of the wrong keys.
    progress: told how many keys are done, and of how many.

  Returns:
    `[1 + K, N]` float32, of `key` first.

  Raises:
    ValueError: the model is not one of such rows, its answers are not as said
      (`answers.log_probabilities`), or as `check_is_asked`.
  """
  if isinstance(model, files.Model):
    keys = [key, *watermark.wrong_keys(key, num_wrong_keys, seed)]
    return _of_model(model, keys, claim, progress)
  check_is_asked(key)
  keys = watermark.shuffled(key, num_wrong_keys, seed)
  if callable(model):
    model = np.concatenate([np.asarray(model(x)) for x in _asked(keys, claim)])
  found = _of_answers(model, keys, claim, progress)
  own = keys.index(key)
  return np.concatenate([found[own : own + 1], np.delete(found, own, axis=0)])


def queries(
  key: keys_lib.Key, claim: claims.Claim, num_wrong_keys: int, seed: int
) -> np.ndarray:
  """Returns what a model is to be asked that can only be asked.

  Nothing in them says which key is the owner's (`watermark.shuffled`).

  Args:
    key: of the watermark.
    claim: whose rows are asked about.
    num_wrong_keys: K.
    seed: of the wrong keys.

  Returns:
    `[Q, ...]` float32, as a model sees them: synthetic rows of each key, and then the
    rows of the claim.

  Raises:
    ValueError: as `check_is_asked`, or if `num_wrong_keys` is below 1.
  """
  check_is_asked(key)
  keys = watermark.shuffled(key, num_wrong_keys, seed)
  return np.concatenate([*_asked(keys, claim)])


def num_queries(key: keys_lib.Key, claim: claims.Claim, num_wrong_keys: int) -> int:
  """Returns how many rows `queries` holds, `Q`."""
  return (1 + num_wrong_keys) * 2 * key.num_synthetic + len(claim.x)


def check_asked(
  asked: np.ndarray,
  key: keys_lib.Key,
  claim: claims.Claim,
  num_wrong_keys: int,
  seed: int,
) -> None:
  """Raises ValueError unless a model was asked what `queries` returns.

  Answers to the queries of other wrong keys have the same shape, and would be read in
  another order than they are in.

  Args:
    asked: `[Q, ...]` what the model was asked.
    key: of the watermark.
    claim: whose rows are asked about.
    num_wrong_keys: K.
    seed: of the wrong keys.
  """
  check_is_asked(key)
  number = num_queries(key, claim, num_wrong_keys)
  if asked.shape != (number, *claim.x.shape[1:]):
    raise ValueError(
      f"queries of shape {asked.shape} are not those of this key and claim with"
      f" num_wrong_keys={num_wrong_keys}, which are {(number, *claim.x.shape[1:])}"
    )
  start = 0
  for rows in _asked(watermark.shuffled(key, num_wrong_keys, seed), claim):
    if not np.array_equal(asked[start : start + len(rows)], rows):
      raise ValueError(
        "queries are not those of this key and claim with"
        f" num_wrong_keys={num_wrong_keys} and seed={seed}: give the seed that made"
        " them"
      )
    start += len(rows)


def check_is_asked(key: keys_lib.Key) -> None:
  """Raises ValueError unless a key reads what a model answers."""
  if key.layer != activations.OUTPUT:
    raise ValueError(
      f"the key reads layer {key.layer!r}, which answers do not show: expected the"
      " model itself"
    )


def _asked(keys: Sequence[keys_lib.Key], claim: claims.Claim) -> Iterator[np.ndarray]:
  """Synthetic rows of one key after another, and then the claim's."""
  shape = claim.x.shape[1:]
  for key in keys:
    yield synthetic.rows(
      key.secret, shape, key.num_synthetic, low=key.low, high=key.high
    )
  yield claim.x.astype(np.float32) * np.float32(claim.feature_scale)


def _of_model(
  model: files.Model,
  keys: Sequence[keys_lib.Key],
  claim: claims.Claim,
  progress: parallel.Progress,
) -> np.ndarray:
  """`[M, N]` scores of a model that is at hand."""
  shape = claim.x.shape[1:]
  files.check_model(model, shape)
  decoders = decode.fit(model.module, model.variables, keys, shape, progress=progress)
  return decode.scores(
    model.module, model.variables, decoders, claim.x, model.feature_scale
  )


def _of_answers(
  answers: np.ndarray,
  keys: Sequence[keys_lib.Key],
  claim: claims.Claim,
  progress: parallel.Progress,
) -> np.ndarray:
  """`[M, N]` scores by the answers of a model that was asked."""
  num_synthetic = 2 * keys[0].num_synthetic
  number = num_queries(keys[0], claim, len(keys) - 1)
  _validate.shape("answers", answers, (number, None))
  h = answers_lib.log_probabilities("answers", answers)
  of_synthetic = h[: len(keys) * num_synthetic]
  return decode.scores_of_readings(
    of_synthetic.reshape(len(keys), num_synthetic, -1),
    h[len(of_synthetic) :],
    keys,
    progress=progress,
  )
