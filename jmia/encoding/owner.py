"""A model owner's steps in Python: commit, embed, and later verify.

They are those of `jmia watermark`, which adds files and flags; `write` stores what it
does, and `files` reads it. What a verdict rests on is said in `watermark`, `nonces` and
`claims`.
"""

import dataclasses
import os
import pathlib
import secrets
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import atomic, types
from jmia.encoding import (
  activations,
  claims,
  draws,
  encode,
  files,
  nonces,
  settings,
  suspect,
  watermark,
)
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib
from jmia.training import parallel

FILES = ("model.npz", "key.json", "claim.npz")
NUM_CLAIMED, ENCODED_FRACTION, KEY_ROWS = 500, 0.2, 500
LEVEL, NUM_WRONG_KEYS = 0.01, 999
_FEW_ROWS = 10_000  # below, the setup of few steps


class Committed(NamedTuple):
  """What an owner commits to.

  Attributes:
    prepared: to keep, for `embed`; secret.
    commitment: to publish, with a date, before the nonce is known.
  """

  prepared: nonces.Prepared
  commitment: str


class Watermarked(NamedTuple):
  """A watermarked model, and what claims it.

  Attributes:
    model: to publish.
    key: to keep; secret.
    claim: to keep until the model is claimed.
    num_encoded: rows that are encoded; copies count.
    known: share of encoded and other rows, synthetic ones among them, that the
      discriminator of the training tells in its last epoch. Whether a claim stands on
      it, `verify` says: ask it before the model is published.
  """

  model: files.Model
  key: claims.CommittedKey
  claim: claims.Claim
  num_encoded: int
  known: float


def default_setup(dataset: types.Dataset) -> settings.Setup:
  """Returns how a model of a dataset is trained and encoded by default."""
  return settings.SETUPS["digits" if dataset.num_train < _FEW_ROWS else "mnist_mlp"]


def new_key(
  dataset: types.Dataset,
  *,
  train: config_lib.TrainConfig | None = None,
  secret: int | None = None,
  layer: str | None = None,
  black_box: bool = False,
  num_synthetic: int = KEY_ROWS,
) -> keys_lib.Key:
  """Returns a key for a model of a dataset.

  Args:
    dataset: that the model is trained on.
    train: how, which says its module. Default: `default_setup`'s.
    secret: from 0 to 2^64 - 1. Default: the operating system's entropy.
    layer: to encode in. Default: the paper's for the model.
    black_box: whether to encode in the outputs, so that the model need not be at hand.
    num_synthetic: rows of each kind of the key.

  Raises:
    ValueError: the model has no such layer, or none by default; `layer` and `black_box`
      are both given; or as `keys.Key`.
  """
  if black_box and layer is not None:
    raise ValueError(f"layer={layer!r} is not read with black_box: it is the output")
  secret = secrets.randbits(64) if secret is None else secret
  model = config_lib.make_model(train or default_setup(dataset).train, dataset)
  if layer is None:
    key = keys_lib.default(model, secret, black_box=black_box)
  else:
    key = keys_lib.Key(secret=secret, layer=layer)
  # Refused now if the model has no such layer, and not once it was committed to.
  activations.num_units(model, key.layer, dataset.x.shape[1:])
  return dataclasses.replace(key, num_synthetic=num_synthetic)


def commit(
  dataset: types.Dataset,
  key: keys_lib.Key | None = None,
  *,
  num_claimed: int = NUM_CLAIMED,
  encoded_fraction: float = ENCODED_FRACTION,
) -> Committed:
  """Returns what to commit to before the nonce is known.

  Args:
    dataset: whose training rows may be claimed.
    key: of the watermark. Default: `new_key`.
    num_claimed: rows to claim, and as many controls; fewer where there are not as many.
    encoded_fraction: of the distinct rows, which `embed` will encode.

  Raises:
    ValueError: a fraction that is no row or all of them, or as `nonces.prepare`.
  """
  key = new_key(dataset) if key is None else key
  firsts = draws.distinct_rows(dataset)
  num_encoded = draws.num_encoded(len(firsts), encoded_fraction)
  size = min(num_claimed, num_encoded, len(firsts) - num_encoded)
  prepared = nonces.prepare(key, dataset.x[firsts], size, dataset.feature_scale)
  return Committed(prepared, nonces.commitment(prepared))


def embed(
  dataset: types.Dataset,
  *,
  prepared: nonces.Prepared | None = None,
  nonce: str | None = None,
  key: keys_lib.Key | None = None,
  train: config_lib.TrainConfig | None = None,
  discriminator_rate: float | None = None,
  num_claimed: int | None = None,
  encoded_fraction: float = ENCODED_FRACTION,
  seed: int = 0,
  **run_options: Any,
) -> Watermarked:
  """Trains a model in which a part of the rows is encoded.

  Args:
    dataset: whose training rows it is trained on.
    prepared: of `commit`, with the same rows; and
    nonce: a text of 16 characters or more that became known after the commitment was
      published, and that nobody could foresee or choose. It draws which rows are
      encoded and claimed. Without both the secret does, and a claim holds only if the
      rows were not chosen by looking at other models.
    key: where nothing is prepared. Default: `new_key`.
    train: the classifier's training, of the module that the key is for. Default:
      `default_setup`'s.
    discriminator_rate: learning rate of the encoding; more is stronger. Default: the
      setup's.
    num_claimed: where nothing is prepared; as of `commit`.
    encoded_fraction: of the distinct rows.
    seed: of all random draws of the training.
    **run_options: of `parallel.run`, such as `checkpoint_dir` or `progress`.

  Returns:
    The model, its key, and a claim of encoded rows among controls. `key.commitment` is
    to be published before the model if nothing was prepared.

  Raises:
    ValueError: one of `prepared` and `nonce` is lacking, or what `prepared` says is
      given too; the dataset is another than was committed to; a fraction that leaves no
      row, or fewer than are claimed; the training diverged; or as `encode.recipe`.
  """
  if (prepared is None) != (nonce is None):
    raise ValueError("prepared and nonce need each other")
  if prepared is not None and (key is not None or num_claimed is not None):
    raise ValueError("key and num_claimed are not read with prepared, which says them")
  train = train or default_setup(dataset).train
  if prepared is not None and nonce is not None:
    key = prepared.key
    chosen, claim = draws.by_nonce(dataset, prepared, nonce, encoded_fraction)
  else:
    key = new_key(dataset, train=train) if key is None else key
    size = NUM_CLAIMED if num_claimed is None else num_claimed
    chosen, claim = draws.by_secret(dataset, key.secret, encoded_fraction, size)
  if discriminator_rate is None:
    discriminator_rate = default_setup(dataset).discriminator_rate
  config = encode.EncodeConfig(
    train=train, layer=key.layer, discriminator_rate=discriminator_rate
  )
  # Copies of a row share its side, and one of them stands for all in the claim.
  is_encoded = watermark.is_among(dataset.x[: dataset.num_train], dataset.x[chosen])
  trained = _train(config, dataset, key, is_encoded, seed, run_options)
  return Watermarked(
    _published(train, dataset, trained),
    claims.CommittedKey(key, claims.commitment_of(key, claim)),
    claim,
    int(is_encoded.sum()),
    float(trained.metrics["encoding_accuracy"][0, -1]),
  )


def queries(
  key: claims.CommittedKey,
  claim: claims.Claim,
  *,
  num_wrong_keys: int = NUM_WRONG_KEYS,
  seed: int = 0,
) -> np.ndarray:
  """Returns what a black-box model is to be asked; see `suspect.queries`.

  Args:
    key: of the owner, that reads the output.
    claim: of the owner.
    num_wrong_keys: secrets that the key is compared with.
    seed: of these, with the key's secret, so that the rows do not say which is whose.
  """
  return suspect.queries(key.key, claim, num_wrong_keys, seed)


def verify(
  model: files.Model | suspect.Predict | np.ndarray,
  key: claims.CommittedKey,
  claim: claims.Claim,
  *,
  nonce: str | None = None,
  commitment: str | None = None,
  level: float = LEVEL,
  num_wrong_keys: int = NUM_WRONG_KEYS,
  seed: int = 0,
  asked: np.ndarray | None = None,
  progress: parallel.Progress = lambda done, total: None,
) -> claims.Verdict:
  """Tells whether a model carries a watermark.

  Args:
    model: that is suspected: at hand; or, of a key that reads the output, a function of
      float32 rows `[Q, ...]`, already multiplied by `claim.feature_scale`, to logits,
      log-probabilities or probabilities `[Q, C]`; or such answers to `queries` of the
      same `num_wrong_keys` and `seed`: with others the watermark is not found.
    key: of the owner.
    claim: of the owner.
    nonce: that assigned the rows, if one did.
    commitment: that was published. None: the verdict says what it must have been.
    level: chance of accepting a claim that is false, at most.
    num_wrong_keys: secrets that the key is compared with, at least `1 / level - 1`.
    seed: of these.
    asked: the `queries` that answers are to; they tell whether `num_wrong_keys` and
      `seed` are right. None: not checked.
    progress: told how many keys are done, and of how many.

  Returns:
    The verdict; `statement` has it in words.

  Raises:
    ValueError: the key and the claim do not belong together, the commitment is another,
      the nonce is lacking or too much (`claims.basis`); the level cannot be reached;
      the model is not one of such rows, its answers are not as said, or the key reads a
      layer that answers do not show; or as `suspect.check_asked`.
  """
  if asked is not None:
    suspect.check_asked(asked, key.key, claim, num_wrong_keys, seed)
  basis = claims.basis(key, claim, nonce=nonce, commitment=commitment)
  watermark.check_level(level, num_wrong_keys)
  scores = suspect.scores(model, key.key, claim, num_wrong_keys, seed, progress)
  return claims.judge(basis, claim, scores, level)


def check_unused(folder: str | os.PathLike[str]) -> None:
  """Raises ValueError if a folder holds one of `FILES`, which are not replaced."""
  for name in FILES:
    if pathlib.Path(folder, name).exists():
      raise ValueError(f"output_dir holds {name}, which would be lost: name another")


def write(folder: str | os.PathLike[str], made: Watermarked) -> None:
  """Writes `FILES`, all or none, as `jmia watermark embed` does.

  Key and claim are for their owner alone.

  Args:
    folder: that exists and holds none of them.
    made: of `embed`.

  Raises:
    ValueError: as `check_unused`.
    OSError: it cannot be written.
  """
  check_unused(folder)
  with atomic.folder(folder) as new:
    files.write_claim(new / "claim.npz", made.claim)
    files.write_key(new / "key.json", made.key)
    files.write_model(new / "model.npz", made.model)
    atomic.move(new, pathlib.Path(folder), reversed(FILES))  # the model last


def _train(
  config: encode.EncodeConfig,
  dataset: types.Dataset,
  key: keys_lib.Key,
  is_encoded: np.ndarray,
  seed: int,
  run_options: dict[str, Any],
) -> encode.Encoded:
  """One model of all training rows, of which some are encoded."""
  model = config_lib.make_model(config.train, dataset)
  jobs = encode.make_jobs(
    [np.arange(dataset.num_train)],
    [np.flatnonzero(is_encoded)],
    keys_lib.expand([key], model, dataset.x.shape[1:]),
  )
  start = jax.random.key(seed, impl="threefry2x32")
  trained = encode.train(config, dataset, jobs, start, **run_options)
  if trained.diverged_epoch[0] >= 0:
    raise ValueError(
      f"training diverged in epoch {trained.diverged_epoch[0]}: lower learning_rate or"
      " discriminator_rate"
    )
  return trained


def _published(
  train: config_lib.TrainConfig, dataset: types.Dataset, trained: encode.Encoded
) -> files.Model:
  """The trained model, with what it is made and asked by."""
  return files.Model(
    train.model,
    {"dtype": train.compute_dtype, **dict(train.model_options)},
    dataset.num_classes,
    dataset.feature_scale,
    trained.model(0),
  )
