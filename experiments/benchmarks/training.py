"""Suite `training`: many models by the engine beside one after another in PyTorch.

Both sides train the same network from float32 parameters with the same batch size, a
fresh order each epoch, momentum and weight decay, on rows that lie on the device. Rows
and labels are random: nothing here depends on what is learnt. An epoch of the engine
and the peers' work take turns, and the first turn is not counted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmia import splits, types
from jmia.datasets import sources
from jmia.models import layers
from jmia.training import config as config_lib
from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib

from . import (
  measure,
  memory,
  products,
  torch_loop,
  torch_vmap,
)

_SGD = optimizers.OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """What is trained.

  Attributes:
    name: of the rows.
    shape: of an example, stored as uint8.
    num_classes: number of classes.
    num_rows: rows of the data.
    num_members: rows each model trains on.
    config: the model, its optimiser and its batch size.
    unit: what a cost is of, an epoch of one model or a step of one.
  """

  name: str
  shape: tuple[int, ...]
  num_classes: int
  num_rows: int
  num_members: int
  config: config_lib.TrainConfig
  unit: str = "epoch"

  @property
  def num_steps(self) -> int:
    """Minibatches of an epoch, the last, partial one too."""
    return -(-self.num_members // self.config.batch_size)

  @property
  def job(self) -> Any:
    """Shapes of a job."""
    members = jax.ShapeDtypeStruct((self.num_members,), jnp.int32)
    return of_shapes(recipe_lib.Job, members, jax.ShapeDtypeStruct((), jnp.int32))

  @property
  def data(self) -> Any:
    """Shapes of the data."""
    x = jax.ShapeDtypeStruct((self.num_rows, *self.shape), jnp.uint8)
    y = jax.ShapeDtypeStruct((self.num_rows,), jnp.int32)
    return of_shapes(recipe_lib.Data, x, y)

  def dataset(self) -> types.Dataset:
    """Returns random bits, or random pixels scaled to [0, 1]."""
    rng = np.random.default_rng(0)
    is_image = len(self.shape) == 3
    highest, size = 255 if is_image else 1, (self.num_rows, *self.shape)
    x = rng.integers(highest, size=size, dtype=np.uint8, endpoint=True)
    return types.Dataset(
      name=self.name,
      x=x,
      y=rng.integers(self.num_classes, size=self.num_rows).astype(np.int32),
      num_classes=self.num_classes,
      num_train=self.num_rows,
      feature_scale=1 / 255 if is_image else 1.0,
      is_synthetic=True,
      description="random",
    )


FC = Case(
  name="fc",
  shape=(600,),
  num_classes=100,
  num_rows=20_000,
  num_members=5_000,
  config=config_lib.TrainConfig(
    model="mlp_purchase", optimizer=_SGD(weight_decay=5e-4), batch_size=128
  ),
)
FC150 = Case(
  name="fc150",
  shape=(446,),
  num_classes=30,
  num_rows=5_010,
  num_members=4_008,
  config=config_lib.TrainConfig(
    model="mlp_mib",
    optimizer=_SGD(weight_decay=5e-4, schedule="piecewise", boundaries=(50, 80)),
    batch_size=64,
  ),
)
CNN = Case(
  name="cnn",
  shape=(32, 32, 3),
  num_classes=10,
  num_rows=5_000,
  num_members=640,
  config=config_lib.TrainConfig(
    model="cnn_32_64",
    optimizer=_SGD(learning_rate=0.01, weight_decay=5e-4),
    batch_size=64,
  ),
)
RESNET = Case(
  name="resnet18",
  shape=(32, 32, 3),
  num_classes=10,
  num_rows=2_000,
  num_members=256,
  config=config_lib.TrainConfig(
    model="resnet18",
    optimizer=_SGD(learning_rate=0.01, weight_decay=5e-4),
    batch_size=128,
  ),
  unit="step",
)


def fc() -> Iterator[measure.Row]:
  """Purchase's network: at several widths, and at the one that is chosen."""
  shapes = products.of_mlp(FC.config.batch_size, (600, 512, 256, 128, 64, 100))
  if _on_cpu():
    target = {"ratio": 1.05, "limit_share": 0.9}
    for width in (1, 4, 16, 64, None):
      yield _beside_torch(FC, width, shapes=shapes, target=target, num_turns=3)
    return
  many = {"ratio": 50, "limit_share": 0.6}
  yield _beside_torch(FC, 256, shapes=shapes, target=many, num_turns=5)
  yield beside_vmap(FC, 256, target={"ratio": 3}, num_turns=5)
  for width in (1_024, 64, 1):
    yield _beside_torch(FC, width, shapes=shapes, target={}, num_turns=5)


def fc150() -> Iterator[measure.Row]:
  """MIB's network: on a CPU part of its 150 epochs, since one is like another."""
  shapes = products.of_mlp(FC150.config.batch_size, (446, 256, 128, 30))
  target = {"ratio": 1.1 if _on_cpu() else 50}
  num_turns = 3 if _on_cpu() else 149
  yield _beside_torch(FC150, None, shapes=shapes, target=target, num_turns=num_turns)


def cnn() -> Iterator[measure.Row]:
  """A small CNN beside PyTorch, and beside the native convolution under vmap."""
  if not _on_cpu():
    many = dataclasses.replace(CNN, num_members=5_000)
    yield _beside_torch(many, 64, target={"ratio": 10}, num_turns=5)
    yield _beside(many, 64, "native", num_turns=3)
    yield _beside(_in_bfloat16(many), 64, "native", num_turns=3)
    yield _beside_torch(many, 1, target={}, num_turns=5)
    # One dense convolution after another, as `lax.map` over models would have it.
    yield _beside(many, 1, "native", num_turns=3)
    return
  for width in (1, 2, 4, None):
    yield _beside_torch(CNN, width, target={"ratio": 1.1}, num_turns=5)
  # The native one takes seconds for a step: two steps, which is still a loop.
  few = dataclasses.replace(CNN, num_members=2 * CNN.config.batch_size)
  yield _beside(few, 2, "native", target={"ratio": 10}, num_turns=1)


def resnet18() -> Iterator[measure.Row]:
  """A network that fills the device alone: width must cost nothing.

  On an accelerator in bfloat16, as PyTorch is (autocast, channels-last, compiled).
  """
  if not _on_cpu():
    case = _in_bfloat16(dataclasses.replace(RESNET, num_members=1_280))
    for width in (8, 1, 4):
      yield _beside_torch(case, width, target={"ratio": 1.0}, num_turns=5)
    yield _beside(case, 4, "patches", num_turns=3)
    return
  alone = _beside_torch(RESNET, 1, target={"ratio": 0.95}, num_turns=2)
  yield alone
  together = _run(RESNET, 4, {}, num_turns=2)
  yield measure.Row(
    suite="training/resnet18",
    name="step",
    width=4,
    ours=together.ours,
    compile_s=together.compile_s,
    peer="width 1",
    theirs=alone.ours,
    target={"ratio": 0.95},
  )
  yield measure.Row(
    suite="training/resnet18",
    name="memory at batch 32",
    width=1,
    ours=None,
    target={"temporary_mib": 350},
    more={"temporary_mib": _temporary_mib(RESNET, 32)},
  )


SUITES: Mapping[str, Callable[[], Iterable[measure.Row]]] = {
  "training/fc": fc,
  "training/fc150": fc150,
  "training/cnn": cnn,
  "training/resnet18": resnet18,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
  """What was measured of a run; costs are per unit of one model."""

  ours: measure.Cost
  peers: Mapping[str, measure.Cost]
  width: int
  compile_s: float


def _beside_torch(
  case: Case,
  width: int | None,
  *,
  shapes: list[products.Shape] | None = None,
  target: Mapping[str, float],
  num_turns: int,
) -> measure.Row:
  """Measures a case beside PyTorch and, if `shapes` are given, its bare products."""
  members = np.arange(case.num_members)
  peers, peer = _tried(
    torch_loop.name(),
    lambda: torch_loop.trainer(case.dataset(), case.config, members),
  )
  bare: dict[str, Callable[[], None]] = {}
  limit_width = width or 8
  if shapes is not None and _on_cpu():
    bare["bare"] = products.runner(shapes, limit_width)
  run = _run(case, width, peers | bare, num_turns)
  share = None
  if "bare" in bare:
    least = run.peers["bare"].wall * _units(case) / limit_width
    share = case.num_steps * least / run.ours.wall
  return _row(
    case,
    run,
    peer,
    run.peers.get(peer),
    target,
    limit_share=share,
    more={"chosen": width is None},
  )


def beside_vmap(
  case: Case, width: int, *, target: Mapping[str, float], num_turns: int
) -> measure.Row:
  """Measures a case beside `torch.func.vmap` over as many models."""
  members = splits.draw(np.arange(case.num_rows), case.num_members, width, seed=0)
  there = torch_loop.is_installed()
  graphs = ", CUDA graphs" if there and not _on_cpu() else ""
  peers, peer = _tried(
    f"torch.func.vmap{graphs}" if there else "torch.func.vmap (not installed)",
    lambda: torch_vmap.trainer(case.dataset(), case.config, members.member_idx),
  )
  run = _run(case, width, peers, num_turns)
  theirs = run.peers.get(peer)
  each = theirs and measure.Cost(theirs.wall / width, theirs.cpu / width)
  return _row(case, run, peer, each, target)


def _tried(
  name: str, build: Callable[[], Callable[[], None]]
) -> tuple[dict[str, Callable[[], None]], str]:
  """A peer by its name, called once; none where it fails, and a name that says why."""
  if not torch_loop.is_installed():
    return {}, name
  # Another library on a device that nobody tried it on must not cost our own figures.
  try:
    call = build()
    call()
  except Exception as error:
    return {}, f"{name}: {sources.first_line(error)}"
  return {name: call}, name


def _beside(
  case: Case,
  width: int,
  lowering: str,
  *,
  target: Mapping[str, float] | None = None,
  num_turns: int,
) -> measure.Row:
  """Measures a case as it is lowered by default beside another lowering."""
  options = (*case.config.model_options, ("lowering", lowering))
  config = dataclasses.replace(case.config, model_options=options)
  ours = _run(case, width, {}, num_turns)
  other = _run(dataclasses.replace(case, config=config), width, {}, num_turns)
  return _row(case, ours, f"convolution by {lowering}", other.ours, target or {})


def _row(
  case: Case,
  run: _Run,
  peer: str,
  theirs: measure.Cost | None,
  target: Mapping[str, float],
  *,
  limit_share: float | None = None,
  more: Mapping[str, Any] | None = None,
) -> measure.Row:
  num_examples = case.num_members / (case.num_steps if case.unit == "step" else 1)
  dtype = case.config.compute_dtype
  # The CPU's limit is that of the bare products; an accelerator's, its memory.
  if not _on_cpu():
    of_units = case.num_steps / _units(case)
    limit_share = of_units * bytes_of_step(case) / memory.bandwidth() / run.ours.wall
  return measure.Row(
    suite=f"training/{case.name}",
    name=case.unit if dtype == "float32" else f"{case.unit}, {dtype}",
    width=run.width,
    ours=run.ours,
    peer=peer,
    theirs=theirs,
    limit_share=limit_share,
    compile_s=run.compile_s,
    target=target,
    more={"examples_per_second": num_examples / run.ours.wall, **(more or {})},
  )


def _in_bfloat16(case: Case) -> Case:
  config = dataclasses.replace(case.config, compute_dtype="bfloat16")
  return dataclasses.replace(case, config=config)


def _run(
  case: Case, width: int | None, peers: Mapping[str, Callable], num_turns: int
) -> _Run:
  """Trains with the engine; after each of its epochs each peer is called once."""
  dataset = case.dataset()
  num_models = width or (16 if _on_cpu() else 64)
  config = dataclasses.replace(case.config, num_epochs=num_turns + 1)
  trainable = config_lib.build(config, dataset)
  ours: list[measure.Cost] = []
  theirs: dict[str, list[measure.Cost]] = {name: [] for name in peers}
  begun: list[tuple[measure.Cost, int]] = []

  def take_turns(done: int, total: int) -> None:
    del total
    if begun:
      start, before = begun.pop()
      ours.append(measure.since(start, (done - before) * _units(case)))
    for name, call in peers.items():
      start = measure.now()
      call()
      theirs[name].append(measure.since(start, _units(case)))
    begun.append((measure.now(), done))

  with measure.compilation() as seconds:
    result = parallel.run(
      trainable.recipe,
      jax.random.key(0, impl="threefry2x32"),
      recipe_lib.Job(
        *splits.draw(np.arange(case.num_rows), case.num_members, num_models, seed=0)
      ),
      recipe_lib.Data(dataset.x, dataset.y),
      width=width,
      progress=take_turns,
    )
  return _Run(
    ours=measure.median(ours),
    peers={name: measure.median(costs[1:]) for name, costs in theirs.items()},
    width=result.width,
    compile_s=sum(seconds),
  )


def _temporary_mib(case: Case, batch_size: int) -> float:
  """Returns the temporary memory of one model's compiled epoch, in MiB."""
  dataset = case.dataset()
  config = dataclasses.replace(case.config, batch_size=batch_size, num_epochs=1)
  recipe = config_lib.build(config, dataset).recipe
  job = recipe_lib.Job(
    np.arange(4 * batch_size, dtype=np.int32), np.array(batch_size, np.int32)
  )
  data = recipe_lib.Data(dataset.x, dataset.y)
  state = jax.eval_shape(recipe.init, jax.random.key(0, impl="threefry2x32"), job)

  def one(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), tree)

  update = jax.jit(jax.vmap(recipe.update, (0, 0, None)), donate_argnums=0)
  compiled = update.lower(one(state), one(job), data).compile()
  memory: Any = compiled.memory_analysis()
  return memory.temp_size_in_bytes / 2**20


def bytes_of_step(case: Case) -> int:
  """Returns the bytes that a step of one model has to move, by `memory.of_step`."""
  # Patches are a way to convolve, and no part of what has to be moved.
  with layers.on_accelerator("native"):
    recipe = config_lib.build(case.config, case.dataset()).recipe
    state = jax.eval_shape(
      recipe.init, jax.random.key(0, impl="threefry2x32"), case.job
    )
    epoch = jax.make_jaxpr(recipe.update)(state, case.job, case.data)
  num_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  return memory.of_step(epoch.jaxpr, num_parameters)


def of_shapes(kind: Callable[..., Any], *shapes: jax.ShapeDtypeStruct) -> Any:
  """Returns a tuple that holds arrays elsewhere, of shapes."""
  return kind(*shapes)


def _units(case: Case) -> int:
  return case.num_steps if case.unit == "step" else 1


def _on_cpu() -> bool:
  return jax.default_backend() == "cpu"
