"""Trials of a setup: who is a member, who is encoded, and what is decoded after."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import numpy as np

from jmia import splits, types
from jmia.defenses import registry
from jmia.encoding import decode, encode, settings
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

PyTree = Any
Transform = Callable[[np.ndarray], np.ndarray]
# Options of `parallel.run` for a training of this name: width, checkpoint_dir, ...
RunOptions = Callable[[str], dict[str, Any]]
_PREDICT_ROWS = 1000


class Trial(NamedTuple):
  """One seed: `members [K]`, `encoded [E]` among them, `test [T]`, all rows; a key.

  Rows are in random order: the first so many are a sample.
  """

  members: np.ndarray
  encoded: np.ndarray
  test: np.ndarray
  key: keys_lib.Key

  @property
  def others(self) -> np.ndarray:
    """`[K - E]`, the members that are not encoded."""
    return self.members[~np.isin(self.members, self.encoded)]


class Context(NamedTuple):
  """What a study is run with.

  Attributes:
    name: of the setup, under which the paper's figures are found.
    setup: settings.
    dataset: with the setup's labels.
    black_box: which form of the encoding.
    num_trials: seeds.
    seed: of all draws.
    options: of `parallel.run`, by the name of a training.
  """

  name: str
  setup: settings.Setup
  dataset: types.Dataset
  black_box: bool
  num_trials: int
  seed: int
  options: RunOptions

  @property
  def model(self) -> nn.Module:
    """The module that the setup trains."""
    return config_lib.make_model(self.setup.train, self.dataset)

  @property
  def form(self) -> str:
    """`blackbox` or `whitebox`."""
    return "blackbox" if self.black_box else "whitebox"


class Run(NamedTuple):
  """Trained trials.

  Attributes:
    context: what they were trained with.
    config: of the encoding.
    trials: `M` trials.
    encoded: the models.
  """

  context: Context
  config: encode.EncodeConfig
  trials: list[Trial]
  encoded: encode.Encoded


def draw(
  context: Context,
  *,
  share: float | None = None,
  where: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> list[Trial]:
  """Draws the trials: rows at random, in each a key and the encoded members.

  Args:
    context: of the study.
    share: of the members that is encoded. Default: the setup's.
    where: a predicate (x `[K, ...]`, y `[K]`) -> `[K]` bool that chooses the encoded
      members instead of a draw.

  Raises:
    ValueError: if the dataset has too few rows, or the predicate chooses no member or
      every member.
  """
  setup, dataset = context.setup, context.dataset
  if setup.num_members + setup.num_test > dataset.num_examples:
    raise ValueError(
      f"num_members={setup.num_members} and num_test={setup.num_test} exceed the"
      f" {dataset.num_examples} rows of {dataset.name}"
    )
  drawn = splits.draw(
    np.arange(dataset.num_examples),
    setup.num_members + setup.num_test,
    context.num_trials,
    seed=(context.seed, 0),
  ).member_idx
  trials = []
  for m, rows in enumerate(drawn):
    members, test = rows[: setup.num_members], rows[setup.num_members :]
    encoded = members[: round((share or setup.encoded_share) * len(members))]
    if where is not None:
      encoded = members[where(dataset.x[members], dataset.y[members])]
    if not 0 < len(encoded) < len(members):
      raise ValueError(
        f"{len(encoded)} of {len(members)} members would be encoded: expected some, not"
        " all"
      )
    words = np.random.SeedSequence([context.seed, m]).generate_state(1, np.uint64)
    key = setup.key(context.model, int(words[0]), black_box=context.black_box)
    trials.append(Trial(members, encoded, test, key))
  return trials


def train(context: Context, trials: Sequence[Trial], name: str = "encoded") -> Run:
  """Trains one encoded model for each trial, all in one run.

  Args:
    context: of the study.
    trials: of `draw`.
    name: of the training, for its checkpoints.

  Raises:
    ValueError: as `encode.train`.
  """
  config = context.setup.encode_config(trials[0].key.layer)
  jobs = encode.make_jobs(
    [t.members for t in trials],
    [t.encoded for t in trials],
    keys_lib.expand(
      [t.key for t in trials], context.model, context.dataset.x.shape[1:]
    ),
  )
  encoded = encode.train(
    config,
    context.dataset,
    jobs,
    jax.random.key(context.seed, impl="threefry2x32"),
    **context.options(f"{name}_{context.form}"),
  )
  return Run(context, config, list(trials), encoded)


def train_baseline(
  context: Context, trials: Sequence[Trial], name: str = "baseline"
) -> encode.Encoded:
  """Trains the same models without an encoding, from the same initial weights.

  Args:
    context: of the study.
    trials: of `draw`.
    name: of the training, for its checkpoints.
  """
  setup, dataset = context.setup, context.dataset
  defended = registry.plan(
    setup.defenses, setup.train, dataset, num_members=setup.num_members
  )
  result = parallel.run(
    registry.build(defended, dataset).recipe,
    jax.random.key(context.seed, impl="threefry2x32"),
    recipe_lib.Job(*splits.ragged([t.members for t in trials])),
    recipe_lib.Data(dataset.x, dataset.y),
    collect=lambda state, job, data: recipe_lib.model_variables(state),
    config={
      **dataclasses.asdict(setup.train),
      "defenses": [dataclasses.asdict(one) for one in setup.defenses],
    },
    **context.options(name),
  )
  return encode.Encoded(result.collected, result.metrics, result.diverged_epoch)


def accuracy(context: Context, variables: PyTree, rows: np.ndarray) -> float | None:
  """Returns a model's accuracy on rows `[n]` of the dataset; None if it diverged."""
  logits = _answers(context, variables, rows)
  if not np.isfinite(logits).all():
    return None
  return float((logits.argmax(-1) == context.dataset.y[rows]).mean())


def predict(context: Context, variables: PyTree, rows: np.ndarray) -> np.ndarray:
  """Returns `[n]` int, the labels that a model gives to rows `[n]` of the dataset."""
  return _answers(context, variables, rows).argmax(-1)


def _answers(context: Context, variables: PyTree, rows: np.ndarray) -> np.ndarray:
  """`[n, C]` logits."""
  x, found = context.dataset.x, []
  for part in np.array_split(rows, -(-len(rows) // _PREDICT_ROWS)):
    # The last rows are filled up with copies, so that one program does for all.
    fill = np.minimum(np.arange(min(len(rows), _PREDICT_ROWS)), len(part) - 1)
    logits = _logits(
      context.model, context.dataset.feature_scale, variables, x[part[fill]]
    )
    found.append(np.asarray(logits)[: len(part)])
  return np.concatenate(found)


def decoders(context: Context, variables: PyTree, trial: Trial) -> decode.Decoders:
  """Returns the decoder of a model by the trial's key."""
  shape = context.dataset.x.shape[1:]
  return decode.fit(context.model, variables, [trial.key], shape)


def decoded(
  context: Context,
  variables: PyTree,
  trial: Trial,
  transform: Transform = lambda x: x,
  by: decode.Decoders | None = None,
) -> dict[str, float | None]:
  """Returns how well a trial's encoded rows are told from its test rows.

  Args:
    context: of the study.
    variables: of the model as published, perhaps changed since.
    trial: whose key decodes.
    transform: what is done to the rows (members' and others' alike) before.
    by: what `decoders` gives for these; None: fitted here.

  Returns:
    `precision`, `recall`, `fpr`, `auc`, `auc_low`, `auc_high`; see `decode.Decoded`.
    None each, of a model that diverged.
  """
  x = transform(context.dataset.x[np.concatenate([trial.encoded, trial.test])])
  is_member = np.arange(len(x)) < len(trial.encoded)
  by = by or decoders(context, variables, trial)
  scale = context.dataset.feature_scale
  log_odds = decode.scores(context.model, variables, by, x, scale)[0]
  if not np.isfinite(log_odds).all():
    return dict.fromkeys(decode.Decoded._fields)
  found = decode.measure(log_odds, is_member)
  return {name: float(value) for name, value in found._asdict().items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logits(model: nn.Module, feature_scale: float, variables: PyTree, x):
  return recipe_lib.predictor(model, feature_scale)(variables, x)
