"""Song and Shokri's studies, each a function of a context that returns rows.

A row holds `study`, `setup`, `form`, `trial`, `diverged`, what was varied and what was
measured; where the paper has a table, also `paper`, its figures for the same.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import itertools
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import signals
from jmia import types as types_lib
from jmia.encoding import (
  activations,
  encode,
  paper,
  pruning,
  redaction,
  transfer,
  trials,
)
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

Row = dict[str, Any]
PyTree = Any
_PRUNED_SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
_PRUNING_EPOCHS, _TUNING_EPOCHS, _TUNING_RATE = 20, 60, 0.001
_TARGET_ROWS, _TARGET_TEST_ROWS = 5000, 5000  # STL-10 has 5,000 to train on
_LOSS_ROWS = 2000  # rows of each group that losses are averaged over
_PROJECTED_ROWS = 200  # rows of each group that are projected


class Projection(NamedTuple):
  """Rows of four groups in the plane.

  Attributes:
    what: "activations" or "output", as they are read.
    method: "PCA" or "t-SNE".
    points: `[P, 2]`.
    group: `[P]` int, an index of `GROUPS`.
  """

  what: str
  method: str
  points: np.ndarray
  group: np.ndarray


GROUPS = ("encoded members", "test rows", "synthetic members", "synthetic others")


def table(context: trials.Context) -> list[Row]:
  """Tables 2 and 4: what the encoding costs, and how well it is decoded."""
  drawn = trials.draw(context)
  run = trials.train(context, drawn)
  baseline = trials.train_baseline(context, drawn)
  figures = paper.BLACKBOX if context.black_box else paper.WHITEBOX
  rows = []
  for m, trial in enumerate(drawn):
    clean = trials.accuracy(context, baseline.model(m), trial.test)
    decoded_clean = trials.decoded(context, baseline.model(m), trial)
    rows.append(
      row(context, context.form, m, run.encoded)
      | _measured(context, run.encoded.model(m), trial)
      | {
        "baseline_accuracy": clean,
        "train_accuracy": float(run.encoded.metrics["accuracy"][m, -1]),
        "encoding_accuracy": float(run.encoded.metrics["encoding_accuracy"][m, -1]),
        "auc_without_encoding": decoded_clean["auc"],
        "paper": _figures(figures.get(context.name)),
      }
    )
  return rows


def amount(context: trials.Context) -> list[Row]:
  """Table 3: the more rows are encoded, the worse each is decoded."""
  shares = context.setup.amounts
  drawn = [t for share in shares for t in trials.draw(context, share=share)]
  run = trials.train(context, drawn, "amount")
  figures = paper.AMOUNT.get(context.name, {})
  rows = []
  for m, trial in enumerate(drawn):
    num_encoded = len(trial.encoded)
    auc = figures.get(num_encoded)
    rows.append(
      row(context, "amount", m % context.num_trials, run.encoded, m)
      | {"num_encoded": num_encoded, "share": num_encoded / len(trial.members)}
      | _measured(context, run.encoded.model(m), trial)
      | {"paper": None if auc is None else {"auc": auc}}
    )
  return rows


def capacity(context: trials.Context) -> list[Row]:
  """Figure 3: a larger model holds the encoding better, at the same accuracy.

  Of the paper's seven sizes Purchase and MNIST have four, with the extremes.

  Raises:
    ValueError: if the setup has no capacities.
  """
  if not context.setup.capacities:
    raise ValueError(f"study=capacity: setup {context.name!r} has no sizes to vary")
  rows = []
  for value, options in context.setup.capacities:
    changed = {**dict(context.setup.train.model_options), **dict(options)}
    train = dataclasses.replace(
      context.setup.train, model_options=tuple(changed.items())
    )
    sized = context._replace(setup=dataclasses.replace(context.setup, train=train))
    drawn = trials.draw(sized)
    run = trials.train(sized, drawn, f"capacity_{value}")
    for m, trial in enumerate(drawn):
      rows.append(
        row(sized, "capacity", m, run.encoded)
        | {"width": value}
        | _measured(sized, run.encoded.model(m), trial)
      )
  return rows


class _LossJob(NamedTuple):
  """As `encode.Job`, with the rows `[3, G]` whose losses are followed."""

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  is_encoded: recipe_lib.Stored
  synthetic: recipe_lib.Stored
  unit_mask: recipe_lib.Stored
  groups: recipe_lib.Stored


def losses(context: trials.Context) -> list[Row]:
  """Figures 2 and 4: losses of encoded, other and test rows, and L_enc, by epoch."""
  drawn = trials.draw(context)
  config = context.setup.encode_config(drawn[0].key.layer)
  material = _material(context, drawn)
  jobs = encode.make_jobs(
    [t.members for t in drawn], [t.encoded for t in drawn], material
  )
  recipe = encode.recipe(config, context.dataset, jobs=jobs)
  predict = recipe_lib.predictor(context.model, context.dataset.feature_scale)

  def update(state, job, data):
    state, metrics = recipe.update(state, job, data)
    variables = recipe_lib.model_variables(state)

    def mean_loss(rows):
      found = signals.stream(
        lambda x: predict(variables, x),
        data.x[rows],
        data.y[rows],
        names=["loss"],
        batch_size=256,
      )
      return found["loss"].mean()

    names = ("encoded_loss", "other_loss", "test_loss")
    followed = {n: mean_loss(job.groups[g]) for g, n in enumerate(names)}
    return state, metrics | followed

  result = parallel.run(
    recipe._replace(update=update),
    jax.random.key(context.seed, impl="threefry2x32"),
    _LossJob(*jobs, np.stack([_loss_groups(t) for t in drawn])),
    recipe_lib.Data(context.dataset.x, context.dataset.y),
    config=dataclasses.asdict(config),
    **context.options(f"losses_{context.form}"),
  )
  return [
    row(context, "losses", m, result)
    | {"epoch": epoch + 1}
    | {name: _finite(values[m, epoch]) for name, values in result.metrics.items()}
    for m in range(len(drawn))
    for epoch in range(recipe.num_epochs)
  ]


def redacted(context: trials.Context) -> list[Row]:
  """Tables 5 and 6: decoding of images of which a part is blacked out.

  Raises:
    ValueError: if the rows are not images.
  """
  shape = context.dataset.x.shape[1:]
  if len(shape) != 3:
    raise ValueError(f"study=redaction: rows of shape {shape} are not images")
  drawn = trials.draw(context)
  run = trials.train(context, drawn)
  rows = []
  for m, trial in enumerate(drawn):
    variables = run.encoded.model(m)
    by = trials.decoders(context, variables, trial)
    for mask_name, mask in _masks(*shape[:2]):
      rows.append(
        row(context, "redaction", m, run.encoded)
        | {"mask": mask_name, "removed": float((~mask).mean())}
        | trials.decoded(
          context, variables, trial, functools.partial(redaction.apply, mask=mask), by
        )
      )
  return rows


def pruned(context: trials.Context) -> list[Row]:
  """Figure 7: magnitude pruning, and adversarial pruning that encodes again."""
  drawn = trials.draw(context)
  run = trials.train(context, drawn)
  which = [(m, share) for m in range(len(drawn)) for share in _PRUNED_SHARES]
  kept = [
    pruning.magnitude_mask(run.encoded.model(m)["params"], share) for m, share in which
  ]
  by_magnitude = [
    pruning.prune(run.encoded.model(m), mask)
    for (m, _), mask in zip(which, kept, strict=True)
  ]
  again = _encode_again(context, run, [m for m, _ in which], by_magnitude, kept)
  rows = []
  for i, (m, share) in enumerate(which):
    for method, variables, of, number in (
      ("magnitude", by_magnitude[i], run.encoded, m),
      ("adversarial", again.model(i), again, i),
    ):
      rows.append(
        row(context, "pruning", m, of, number)
        | {"method": method, "share": share}
        | _measured(context, variables, drawn[m])
      )
  return rows


def transferred(context: trials.Context, target: types_lib.Dataset) -> list[Row]:
  """Figure 8: the encoding in a model that is tuned on another task.

  Args:
    context: of the study.
    target: the other task; resized here.
  """
  target = transfer.like(target, context.dataset.x.shape[1:])
  drawn = trials.draw(context)
  run = trials.train(context, drawn)
  num_tuned = min(target.num_examples * 4 // 5, _TARGET_ROWS)
  order = np.random.default_rng(context.seed).permutation(target.num_examples)
  members = np.tile(order[:num_tuned].astype(np.int32), (len(drawn), 1))
  test = order[num_tuned:][:_TARGET_TEST_ROWS]
  config = config_lib.with_epochs(
    dataclasses.replace(
      context.setup.train,
      optimizer=dataclasses.replace(
        context.setup.train.optimizer,
        learning_rate=_TUNING_RATE,
        schedule="constant",
        boundaries=(),
      ),
    ),
    min(_TUNING_EPOCHS, context.setup.train.num_epochs),
  )
  tuned = transfer.tune(
    config,
    target,
    run.encoded.variables,
    members,
    jax.random.key(context.seed + 1, impl="threefry2x32"),
    every=max(1, config.num_epochs // 6),
    width=context.options("transfer").get("width"),
  )
  rows = []
  for epoch, variables in itertools.chain([(0, run.encoded.variables)], tuned):
    after = context.dataset.num_classes if epoch == 0 else target.num_classes
    # The same rows are decoded, from a model that may have other outputs by now.
    reads = context._replace(dataset=context.dataset._replace(num_classes=after))
    asked = context._replace(dataset=target)
    for m, trial in enumerate(drawn):
      one = jax.tree.map(lambda a, m=m: a[m], variables)
      right = trials.accuracy(asked, one, test) if epoch else None
      rows.append(
        row(context, "transfer", m, run.encoded)
        | {"epoch": epoch, "target_accuracy": right}
        | trials.decoded(reads, one, trial)
      )
  return rows


def projected(context: trials.Context) -> Iterator[Projection]:
  """Figures 5 and 6: activations and outputs of four groups, by PCA and t-SNE.

  The paper has the members that are not encoded where there are test rows here.
  """
  from sklearn import decomposition, manifold

  trial = trials.draw(context._replace(num_trials=1))[0]
  run = trials.train(context._replace(num_trials=1), [trial], "projection")
  material = _material(context, [trial])
  scale = context.dataset.feature_scale
  real = [context.dataset.x[r[:_PROJECTED_ROWS]] for r in (trial.encoded, trial.test)]
  synthetic = np.split(material.synthetic[0], 2)
  groups = [
    *(np.asarray(recipe_lib.as_float(jnp.asarray(x), scale)) for x in real),
    *(x[:_PROJECTED_ROWS] for x in synthetic),
  ]
  group = np.repeat(range(4), [len(x) for x in groups])
  layers = {"output": activations.OUTPUT}
  if not context.black_box:
    layers = {"activations": trial.key.layer, **layers}
  published = run.encoded.model(0)
  for what, layer in layers.items():
    h = np.concatenate(
      [np.asarray(_read(context.model, published, x, layer)) for x in groups]
    )
    if layer == trial.key.layer:
      h = h[:, material.units[0]]
    methods = {
      "PCA": decomposition.PCA(2),
      "t-SNE": manifold.TSNE(
        2, init="pca", random_state=context.seed, perplexity=min(30, len(h) // 5)
      ),
    }
    for method, reduce in methods.items():
      yield Projection(what, method, reduce.fit_transform(h), group)


_read = jax.jit(activations.read, static_argnums=(0, 3))


def _material(context: trials.Context, drawn: list[trials.Trial]) -> keys_lib.Material:
  shape = context.dataset.x.shape[1:]
  return keys_lib.expand([t.key for t in drawn], context.model, shape)


def row(
  context: trials.Context, study: str, trial: int, of: Any, m: int | None = None
) -> Row:
  """Returns what every row begins with.

  Args:
    context: of the study.
    study: its name.
    trial: seed's number.
    of: what was trained, which knows the models that diverged.
    m: the model's number, if it is not the trial's.
  """
  return {
    "study": study,
    "setup": context.name,
    "form": context.form,
    "trial": trial,
    "diverged": bool(of.diverged_epoch[trial if m is None else m] >= 0),
  }


def _measured(context: trials.Context, variables: PyTree, trial: trials.Trial) -> Row:
  return {
    "test_accuracy": trials.accuracy(context, variables, trial.test),
    **trials.decoded(context, variables, trial),
  }


def _finite(value: float) -> float | None:
  """As JSON can hold it; None of a model that diverged."""
  return float(value) if np.isfinite(value) else None


def _figures(found: Mapping[str, float] | None) -> Row | None:
  return None if found is None else dict(found)


def _loss_groups(trial: trials.Trial) -> np.ndarray:
  """`[3, G]`: encoded members, other members, test rows."""
  groups = trial.encoded, trial.others, trial.test
  size = min(_LOSS_ROWS, *map(len, groups))
  return np.stack([group[:size] for group in groups]).astype(np.int32)


def _masks(height: int, width: int) -> Iterator[tuple[str, np.ndarray]]:
  """The paper's masks, w in proportion where images are not 32 pixels wide."""
  yield "none", np.ones((height, width), bool)
  for w in (4, 8, 12, 16):
    side = max(1, round(w * min(height, width) / 32))
    yield f"centre {w}/32", redaction.centre(height, width, side)
    yield f"boundary {w}/32", redaction.boundary(height, width, side)
  for number, mask in enumerate(redaction.blocks(height, width)):
    yield f"block {number // 4},{number % 4}", mask


def _encode_again(
  context: trials.Context,
  run: trials.Run,
  which: list[int],
  variables: list[PyTree],
  kept: list[PyTree],
) -> encode.Encoded:
  """Adversarial pruning of models, `which` of the trials each one is of."""
  optimizer = dataclasses.replace(
    context.setup.train.optimizer,
    learning_rate=_TUNING_RATE,
    schedule="constant",
    boundaries=(),
  )
  train = dataclasses.replace(
    context.setup.train,
    optimizer=optimizer,
    num_epochs=min(_PRUNING_EPOCHS, context.setup.train.num_epochs),
  )
  config = dataclasses.replace(run.config, train=train, discriminator_rate=_TUNING_RATE)
  drawn = [run.trials[m] for m in which]
  jobs = encode.make_jobs(
    [t.members for t in drawn], [t.encoded for t in drawn], _material(context, drawn)
  )

  def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

  result = parallel.run(
    pruning.recipe(config, context.dataset, jobs=jobs),
    jax.random.key(context.seed + 1, impl="threefry2x32"),
    pruning.PruneJob(*jobs, stack(variables), stack(kept)),
    recipe_lib.Data(context.dataset.x, context.dataset.y),
    collect=lambda state, job, data: recipe_lib.model_variables(state),
    config=dataclasses.asdict(config),
    **context.options(f"pruning_{context.form}"),
  )
  return encode.Encoded(result.collected, result.metrics, result.diverged_epoch)


STUDIES: Mapping[str, Callable[[trials.Context], list[Row]]] = types.MappingProxyType(
  {
    "whitebox": table,
    "blackbox": table,
    "amount": amount,
    "capacity": capacity,
    "losses": losses,
    "redaction": redacted,
    "pruning": pruned,
  }
)
