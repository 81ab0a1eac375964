import ast
import itertools
import re
import resource
import socket

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_example as example

from jmia import models
from jmia.training import optimizers, parallel
from jmia.training import programs as programs_lib
from jmia.training import recipe as recipe_lib

KEY = jax.random.key(7)


def _drift(num_models=6, width=4, num_epochs=3, jobs=None, **kwargs):
  return parallel.run(
    example.drift(num_epochs),
    kwargs.pop("key", KEY),
    example.drift_jobs(num_models) if jobs is None else jobs,
    example.DRIFT_DATA,
    collect=example.value_of,
    width=width,
    **kwargs,
  )


def test_models_are_those_of_a_plain_loop_over_models_and_epochs():
  result = _drift(num_models=6, width=4)  # two chunks, the second half full
  expected = example.drift_oracle(KEY, example.drift_jobs(6)["rate"], 3)
  np.testing.assert_allclose(result.collected, expected[:, -1], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(result.metrics["both"], expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    result.metrics["first"], expected[..., 0], rtol=1e-5, atol=1e-6
  )
  assert result.diverged_epoch.tolist() == [-1] * 6
  assert result.diverged_epoch.dtype == np.int32
  assert result.width == 4


def test_by_default_metrics_alone_are_kept():
  result = parallel.run(
    example.drift(), KEY, example.drift_jobs(2), example.DRIFT_DATA, width=2
  )
  assert result.collected == ()
  assert result.metrics["first"].shape == (2, 3)


def test_progress_counts_model_epochs_of_a_run_that_is_announced():
  told, heard = [], []

  def listen(event, value, **run):
    if event == parallel.MEMORY_EVENT:
      heard.append((value, run))

  jax.monitoring.register_scalar_listener(listen)
  try:
    _drift(num_models=6, width=4, progress=lambda *done: told.append(done))
  finally:
    jax.monitoring.unregister_scalar_listener(listen)
  ((num_bytes, run),) = heard
  assert run == {"num_models": 6, "width": 4, "num_epochs": 3, "num_rows": 0}
  assert num_bytes >= sum(a.nbytes for a in jax.tree.leaves(example.DRIFT_DATA))
  assert told == [(4, 18), (8, 18), (12, 18), (14, 18), (16, 18), (18, 18)]


@pytest.fixture(scope="module")
def networks():
  """Five networks with dropout and batch statistics: width -> their variables.

  Sizes differ, so that some train on while others have done their epoch.
  """
  config = optimizers.OptimizerConfig(weight_decay=0.01)
  recipe = recipe_lib.supervised(
    example.Net(),
    optimizers.transformation(config),
    example_shape=example.SHAPE,
    num_classes=example.NUM_CLASSES,
    batch_size=8,
    num_epochs=2,
    learning_rate=optimizers.schedule(config, 2),
  )

  def train(width, num_models=5):
    jobs = example.jobs(21, 16, 5, 12, 20)
    return parallel.run(
      recipe,
      KEY,
      jax.tree.map(lambda a: a[:num_models], jobs),
      example.data(),
      collect=lambda state, job, data: recipe_lib.model_variables(state),
      width=width,
    )

  return train


@pytest.fixture(scope="module")
def networks_of_width_4(networks):
  return networks(4)


def test_training_is_bitwise_equal_at_one_width(networks, networks_of_width_4):
  # Again, and without the last model: other neighbours, and a fuller last chunk.
  fewer = networks(4, num_models=4)
  first = jax.tree.map(lambda a: a[:4], networks_of_width_4[:3])
  example.assert_equal(fewer[:3], first)


def test_training_agrees_across_widths(networks, networks_of_width_4):
  # Equal but for the order of float32 sums, which 6 steps carry to at most 1e-5.
  wide, narrow = networks_of_width_4, networks(2)
  example.assert_close(narrow.collected, wide.collected, 5e-5)
  example.assert_close(narrow.metrics, wide.metrics, 5e-5)


def test_models_with_one_training_set_differ_in_all_that_is_random():
  jobs = {"rate": np.zeros(3, np.float32)}
  values = _drift(jobs=jobs, width=3).collected
  assert len(np.unique(values)) == 6
  other = _drift(jobs=jobs, width=3, key=jax.random.key(8)).collected
  assert not np.isin(other, values).any()


def test_a_diverged_model_is_named_and_spoils_no_other():
  # Of five models, the second and the last step over what float32 holds.
  rates = np.linspace(0, 1, 5, dtype=np.float32)
  wild = rates.copy()
  wild[1], wild[4] = 2e38, np.inf  # sums to 3.5e38 at the third epoch; at once
  sound = _drift(jobs={"rate": rates}, num_epochs=4)
  result = _drift(jobs={"rate": wild}, num_epochs=4)
  assert result.diverged_epoch.tolist() == [-1, 2, -1, -1, 0]
  converged = result.diverged_epoch < 0
  example.assert_equal(result.collected[converged], sound.collected[converged])
  assert np.isinf(result.metrics["first"][1, 2:]).all()
  assert np.isfinite(result.metrics["first"][1, :2]).all()


def test_a_key_among_what_is_collected_is_refused_by_name():
  with pytest.raises(
    ValueError, match=r"random key, collected\['key'\]: expected none"
  ):
    parallel.run(
      example.drift(), KEY, example.drift_jobs(2), example.DRIFT_DATA,
      collect=lambda state, job, data: state,
    )  # fmt: skip


def test_a_state_without_numbers_cannot_diverge():
  recipe = recipe_lib.Recipe(
    lambda key, job: jnp.int32(0),
    lambda state, job, data: (state + job, ()),
    num_epochs=3,
  )
  result = parallel.run(
    recipe, KEY, np.arange(3, dtype=np.int32), (), collect=lambda s, j, d: s, width=2
  )
  assert result.collected.tolist() == [0, 3, 6]
  assert result.metrics == ()
  assert result.diverged_epoch.tolist() == [-1, -1, -1]


def test_arrays_of_any_dtype_are_taken():
  recipe = recipe_lib.Recipe(
    lambda key, job: jnp.float32(0),
    lambda state, job, data: (state + jnp.where(job[0], job[1], data.sum()), ()),
    num_epochs=1,
  )
  jobs = (np.array([True, False]), np.array([3, 4], np.int64))
  for data in (np.arange(3), np.arange(3.0), np.arange(3, dtype=np.uint8)):
    result = parallel.run(recipe, KEY, jobs, data, collect=lambda s, j, d: s, width=2)
    assert result.collected.tolist() == [3, 3]


@pytest.mark.parametrize(
  "jobs",
  [
    {"rate": np.zeros(0, np.float32)},
    {"rate": np.float32(0)},
    {"rate": np.zeros(2, np.float32), "more": np.zeros(3, np.float32)},
    {},
  ],
)
def test_jobs_must_have_one_leading_size(jobs):
  with pytest.raises(ValueError, match="jobs have leading sizes"):
    _drift(jobs=jobs)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_whose_draws_depend_on_other_models_are_refused(impl):
  with pytest.raises(ValueError, match=f"key is of {impl}.*impl='threefry2x32'"):
    _drift(key=jax.random.key(7, impl=impl))


def test_other_draws_of_the_same_key_are_refused():
  with (
    jax.threefry_partitionable(False),
    pytest.raises(ValueError, match="jax_threefry_partitionable=False"),
  ):
    _drift()


def test_the_librarys_own_keys_are_of_one_kind():
  # Whatever JAX_DEFAULT_PRNG_IMPL says.
  makes = 0
  for folder in ("jmia", "experiments"):
    for path in (example.ROOT / folder).rglob("*.py"):
      for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
          continue
        if ast.unparse(node.func) in ("jax.random.key", "jax.random.PRNGKey"):
          assert "impl='threefry2x32'" in ast.unparse(node), (path, node.lineno)
          makes += 1
  assert makes > 10  # else nothing was looked at


@pytest.mark.parametrize("width", [0, -4])
def test_width_must_be_positive(width):
  with pytest.raises(ValueError, match=f"width={width}"):
    _drift(width=width)


def test_a_given_width_is_spread_over_as_many_devices_as_divide_it():
  assert parallel._num_devices(4, 6, 4) == 4  # not 1, though 3 would do for 6 models
  assert parallel._num_devices(4, 6, 6) == 3
  assert parallel._num_devices(8, 3, 7) == 7
  assert parallel._num_devices(4, 9, 5) == 1


def test_a_run_resumed_at_its_width_has_the_devices_that_it_had():
  for most, num_models in itertools.product(range(1, 17), range(1, 70)):
    num = parallel._num_devices(most, num_models, None)
    for at_once in range(1, -(-num_models // num) + 1):
      assert parallel._num_devices(most, num_models, at_once * num) == num


def test_nothing_compiles_between_chunks_or_epochs_or_for_the_last_chunk():
  compiled = []

  def listen(name, seconds, **kwargs):
    if name == "/jax/core/compile/backend_compile_duration":
      compiled.append(name)

  def count(num_models, num_epochs):
    compiled.clear()
    _drift(num_models, width=4, num_epochs=num_epochs)
    return len(compiled)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    count(1, 1)
    once = count(4, 1)  # one chunk, one epoch
    assert once >= 3  # init, update and collect: the listener does hear
    assert count(14, 5) == once  # four chunks, the last with two of four models
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def test_a_recipe_is_traced_once():
  traced = []
  recipe = example.drift()

  def update(*args):
    traced.append(args)
    return recipe.update(*args)

  parallel.run(
    recipe._replace(update=update),
    KEY,
    example.drift_jobs(9),
    example.DRIFT_DATA,
    width=4,
  )
  assert len(traced) == 1


def test_width_is_the_least_of_the_fewest_chunks():
  # 17 models in chunks of at most 8 on a CPU: three of 6, and not 8, 8 and 1.
  assert _drift(num_models=17, width=None).width == 6
  assert _drift(num_models=3, width=None).width == 3


def test_a_mesh_of_another_axis_is_refused():
  mesh = jax.make_mesh((1,), ("data",))
  with pytest.raises(
    ValueError, match=r"mesh has axes \('data',\), expected .*'model'"
  ):
    _drift(mesh=mesh)


def test_256_purchase_networks_train_in_one_call_within_the_budget(monkeypatch):
  num_models, num_members, budget = 256, 8, 128 * 2**20
  config = optimizers.OptimizerConfig()
  recipe = recipe_lib.supervised(
    models.make("mlp_purchase", 100),
    optimizers.transformation(config),
    example_shape=(600,),
    num_classes=100,
    batch_size=num_members,
    num_epochs=1,
    learning_rate=optimizers.schedule(config, 1),
  )
  rng = np.random.default_rng(0)
  data = recipe_lib.Data(
    rng.integers(2, size=(512, 600), dtype=np.uint8),
    rng.integers(100, size=512, dtype=np.int32),
  )
  jobs = recipe_lib.Job(
    rng.integers(512, size=(num_models, num_members), dtype=np.int32),
    np.full(num_models, num_members, np.int32),
  )
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  needed = []

  def bytes_needed(*args):
    needed.append(measure(*args))
    return needed[-1]

  measure = programs_lib.bytes_needed
  monkeypatch.setattr(programs_lib, "bytes_needed", bytes_needed)
  result = parallel.run(recipe, KEY, jobs, data, memory_budget=budget)
  # All models at once would be 256 * 486,000 parameters and their momentum, 1 GB.
  # Beside the budget stand the compiler and what malloc keeps. Linux counts KiB.
  grown = 2**10 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
  assert grown < budget + 2**29
  assert 1 < result.width <= 16
  assert 0 < needed[-1] <= budget
  assert result.metrics["loss"].shape == (num_models, 1)
  assert (result.diverged_epoch < 0).all()
  # Untrained, each is at chance: log 100.
  np.testing.assert_allclose(result.metrics["loss"].mean(), np.log(100), atol=0.1)


_ON_MANY_DEVICES = """
import sys
import jax, numpy as np
import training_example as example
from jmia.training import parallel, programs

assert len(jax.devices()) == 8
result, compiled = {}, []
lower = programs.lower
programs.lower = lambda *args: compiled.append(lower(*args)) or compiled[-1]
for num_models in (3, 23):  # fewer than devices; not a multiple of them
  out = parallel.run(
    example.drift(), jax.random.key(7), example.drift_jobs(num_models),
    example.DRIFT_DATA, collect=example.value_of, checkpoint_dir=sys.argv[2],
    checkpoint_seconds=0,
  ) if num_models == 3 else parallel.run(
    example.drift(), jax.random.key(7), example.drift_jobs(num_models),
    example.DRIFT_DATA, collect=example.value_of,
  )
  result[f"value_{num_models}"] = out.collected
  result[f"both_{num_models}"] = out.metrics["both"]
  result[f"width_{num_models}"] = out.width
half = parallel.run(  # a width that 4 of them divide
  example.drift(), jax.random.key(7), example.drift_jobs(23), example.DRIFT_DATA,
  collect=example.value_of, width=12,
)
np.testing.assert_allclose(half.collected, out.collected, rtol=1e-5, atol=1e-6)
result["width_asked"] = half.width
mesh = jax.sharding.Mesh(np.array(jax.devices()), (parallel.AXIS,))
try:
  parallel.run(example.drift(), jax.random.key(7), example.drift_jobs(3),
               example.DRIFT_DATA, width=12, mesh=mesh)
except ValueError as error:
  result["error"] = str(error)
np.savez(sys.argv[1], **result)
for lowered in compiled:
  for program in lowered[:3]:
    print(program.compile().as_text())
"""
_COLLECTIVES = re.compile(
  "all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|"
  "reduce-scatter|ragged-all"
)


def test_eight_devices_train_as_one_and_never_talk(tmp_path):
  file = tmp_path / "result.npz"
  process = example.start(
    _ON_MANY_DEVICES, file, tmp_path / "checkpoints", num_devices=8
  )
  text = example.finish(process)
  result = np.load(file)
  for num_models, width in ((3, 3), (23, 24)):
    one = _drift(num_models, width=None)
    assert result[f"width_{num_models}"] == width
    np.testing.assert_allclose(
      result[f"value_{num_models}"], one.collected, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
      result[f"both_{num_models}"], one.metrics["both"], rtol=1e-5, atol=1e-6
    )
  assert result["width_asked"] == 12
  assert "width=12 must be a multiple of the 8 devices" in str(result["error"])
  for num_devices in (3, 6, 8):  # these are the sharded programs
    assert len(re.findall(rf"num_partitions={num_devices}\b", text)) >= 3
  assert not _COLLECTIVES.findall(text)


def test_the_search_for_collectives_finds_one():
  assert _COLLECTIVES.findall("%x = f32[] all-reduce(%y), replica_groups={}")


_ONE_OF_TWO_PROCESSES = """
import pathlib, sys
import jax, numpy as np
port, process_id, folder, file = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(process_id))
import training_example as example
from jmia.training import parallel

assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2

class Stop(Exception):
  pass

def stop(done, total):  # within the second chunk, after a checkpoint of it
  if done == 16:
    raise Stop

def run(progress):
  return parallel.run(
    example.drift(), jax.random.key(7), example.drift_jobs(6), example.DRIFT_DATA,
    collect=example.value_of, width=4, checkpoint_dir=folder, checkpoint_seconds=0,
    progress=progress,
  )

try:
  run(stop)
except Stop:
  pass
done = []
result = run(lambda epochs, total: done.append(epochs))
np.savez(file, value=result.collected, both=result.metrics["both"], done=done)
"""


def test_two_processes_train_save_and_resume_as_one(tmp_path):
  with socket.socket() as listener:
    listener.bind(("localhost", 0))
    port = listener.getsockname()[1]
  files = [tmp_path / f"{i}.npz" for i in range(2)]
  processes = [
    example.start(
      _ONE_OF_TWO_PROCESSES, port, i, tmp_path / "shared", file, num_devices=2
    )
    for i, file in enumerate(files)
  ]
  for process in processes:
    example.finish(process)
  first, second = (dict(np.load(file)) for file in files)
  example.assert_equal(first, second)
  one = _drift(num_models=6)
  np.testing.assert_allclose(first["value"], one.collected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(first["both"], one.metrics["both"], rtol=1e-5, atol=1e-6)
  # The first chunk was kept whole; the second went on after its first epoch.
  assert first["done"].tolist() == [12, 14, 16, 18]
