import errno
import json
import random
import resource
import signal
import time

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import training_example as example

from jmia.training import checkpoint, parallel
from jmia.training import recipe as recipe_lib

KEY = jax.random.key(7)


class _StoppedError(Exception):
  pass


def _run(directory, *, stop_at=None, done=None, **kwargs):
  """Six models, two chunks of four, five epochs; interrupted after `stop_at`."""

  def progress(epochs, total):
    if done is not None:
      done.append(epochs)
    if epochs == stop_at:
      raise _StoppedError

  return parallel.run(
    kwargs.pop("recipe", example.drift(num_epochs=5)),
    kwargs.pop("key", KEY),
    kwargs.pop("jobs", example.drift_jobs(6)),
    kwargs.pop("data", example.DRIFT_DATA),
    **{"collect": example.value_of, "width": 4, "checkpoint_seconds": 0, **kwargs},
    checkpoint_dir=directory,
    progress=progress,
  )


def _interrupt(directory, stop_at, **kwargs):
  with pytest.raises(_StoppedError):
    _run(directory, stop_at=stop_at, **kwargs)


def _assert_same(actual, expected):
  example.assert_equal(actual[:3], expected[:3])


@pytest.fixture(scope="module")
def uninterrupted():
  return _run(None)


# Told 4 model-epochs after each of the first chunk's epochs, then 2 of the second's.
# A checkpoint follows what is told, so what was told last is done again.
@pytest.mark.parametrize(
  ("stop_at", "told"),
  [
    (4, [4, 8, 12, 16, 20, 22, 24, 26, 28, 30]),
    (12, [8, 12, 16, 20, 22, 24, 26, 28, 30]),
    (22, [20, 22, 24, 26, 28, 30]),
    (30, [20, 28, 30]),
  ],
)
def test_an_interrupted_run_goes_on_where_it_was(
  tmp_path, uninterrupted, stop_at, told
):
  _interrupt(tmp_path, stop_at)
  done = []
  _assert_same(_run(str(tmp_path), done=done), uninterrupted)
  assert done == told
  # A third time there is nothing left to do.
  done.clear()
  _assert_same(_run(tmp_path, done=done), uninterrupted)
  assert done == [20, 30]


def test_checkpoints_wait_for_their_time(tmp_path, uninterrupted):
  _interrupt(tmp_path, 28, checkpoint_seconds=3600)
  assert not list(tmp_path.glob("running_*"))
  done = []
  _assert_same(_run(tmp_path, done=done), uninterrupted)
  assert done[:2] == [20, 22]


def test_the_width_is_that_of_the_run_that_is_resumed(tmp_path, uninterrupted):
  _interrupt(tmp_path, 12)
  result = _run(tmp_path, width=None)  # would be 6
  assert result.width == 4
  _assert_same(result, uninterrupted)


def test_diverged_epochs_survive(tmp_path):
  rates = np.array([0, np.inf, 2e38, 0], np.float32)
  _interrupt(tmp_path, 16, jobs={"rate": rates})
  result = _run(tmp_path, jobs={"rate": rates})
  assert result.diverged_epoch.tolist() == [-1, 0, 2, -1]


def test_keys_of_any_kind_and_nothing_to_measure_are_kept(tmp_path):
  # A state of keys, empty containers and bfloat16; no metrics.
  def init(key, job):
    return {"key": key, "empty": (), "sum": jnp.zeros((), jnp.bfloat16)}

  def update(state, job, data):
    draw = jax.random.normal(jax.random.fold_in(state["key"], 1), dtype=jnp.bfloat16)
    key = jax.random.split(state["key"])[0]
    return {**state, "key": key, "sum": state["sum"] + draw}, {}

  settings = {
    "recipe": recipe_lib.Recipe(init, update, num_epochs=3),
    "key": jax.random.key(3, impl="rbg"),
    "jobs": {"rate": np.zeros(6, np.float32)},
    "collect": lambda state, job, data: state["sum"],
  }
  expected = _run(None, **settings)
  assert expected.collected.dtype == ml_dtypes.bfloat16
  _interrupt(tmp_path, 8, **settings)
  for _ in range(2):  # resumed, then read from what is finished
    actual = _run(tmp_path, **settings)
    assert actual.collected.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(
      actual.collected.astype(np.float32), expected.collected.astype(np.float32)
    )


_TRAIN = """
import pathlib, sys, time
import jax, numpy as np
import training_example as example
from jmia.training import parallel

def progress(done, total):
  print(done, flush=True)

result = parallel.run(
  example.drift(num_epochs=30), jax.random.key(7), example.drift_jobs(6),
  example.DRIFT_DATA, collect=example.value_of, width=4,
  checkpoint_dir=sys.argv[1], checkpoint_seconds=0, progress=progress,
)
np.savez(sys.argv[2], value=result.collected, both=result.metrics["both"],
         diverged=result.diverged_epoch)
"""


def test_a_run_killed_at_any_moment_is_resumed(tmp_path):
  folder, file = tmp_path / "checkpoints", tmp_path / "result.npz"
  rng, reached = random.Random(0), [0]
  for _ in range(2):
    process = example.start(_TRAIN, folder, file)
    # Seldom at the same place: within an epoch, a checkpoint's writing, or its
    # replacement of the last one.
    for _ in range(rng.randint(3, 12)):
      last = process.stdout.readline()
    time.sleep(rng.uniform(0, 0.05))
    process.kill()
    process.communicate()
    reached.append(int(last))
  assert reached == sorted(set(reached)), "each start went on from the last"
  assert not file.exists()
  told = example.finish(example.start(_TRAIN, folder, file)).split()
  assert int(told[0]) > 4
  assert int(told[-1]) == 180
  expected = _run(None, recipe=example.drift(num_epochs=30))
  actual = np.load(file)
  np.testing.assert_array_equal(actual["value"], expected.collected)
  np.testing.assert_array_equal(actual["both"], expected.metrics["both"])
  np.testing.assert_array_equal(actual["diverged"], expected.diverged_epoch)


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"key": jax.random.key(8)}, r"key=\[0, 7\], not \[0, 8\]: use"),
    (
      {"jobs": {"rate": np.ones(6, np.float32)}},
      r"with other jobs \(some model's rows or settings\): use",
    ),
    (
      {"data": {"x": np.ones(3, np.float32)}, "width": 2},
      "with other data; width=4, not 2: use",
    ),
    ({"recipe": example.drift(num_epochs=4)}, "num_epochs=5, not 4: use"),
    ({"width": 2}, "with width=4, not 2: use"),
    ({"collect": lambda state, job, data: state["value"][0]}, "something else kept of"),
    ({"config": {"rate": {"at": 1}}}, r"with rate\.at=2, not 1: use"),
    ({"config": {"rate": {"at": 2}, "more": True}}, "more=None, not True: use"),
  ],
)
def test_another_configuration_is_refused_by_name(tmp_path, change, named):
  config = {"rate": {"at": 2}, "sizes": (1, 2)}
  _interrupt(tmp_path, 12, config=config)
  before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
  if "config" in change:
    change = {"config": {**config, **change["config"]}}
  with pytest.raises(ValueError, match=f"{tmp_path} was made .*{named}"):
    _run(tmp_path, **{"config": config, **change})
  assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_another_state_is_refused_by_name(tmp_path):
  _interrupt(tmp_path, 12)
  recipe = example.drift(num_epochs=5)
  other = recipe_lib.Recipe(
    lambda key, job: {**recipe.init(key, job), "more": job["rate"]},
    lambda state, job, data: (
      {**recipe.update(state, job, data)[0], "more": job["rate"]},
      recipe.update(state, job, data)[1],
    ),
    5,
  )
  with pytest.raises(ValueError, match="made with models of another shape"):
    _run(tmp_path, recipe=other)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "no zip", "other"])
def test_a_damaged_chunk_is_trained_again(tmp_path, uninterrupted, damage):
  _interrupt(tmp_path, 24)
  path = tmp_path / "chunk_00000.npz"
  content = bytearray(path.read_bytes())
  if damage == "empty":
    content.clear()
  elif damage == "cut":
    del content[len(content) // 2 :]
  elif damage == "flipped":
    content[200] ^= 0xFF  # within the first array
  elif damage == "no zip":
    content[:] = b"\x93NUMPY"
  path.write_bytes(content)
  if damage == "other":
    np.savez(path, other=np.zeros(3))
  done = []
  _assert_same(_run(tmp_path, done=done), uninterrupted)
  assert done == [4, 8, 12, 16, 20, 22, 24, 26, 28, 30]


def test_a_damaged_state_is_trained_again(tmp_path, uninterrupted):
  _interrupt(tmp_path, 12)
  files = [path for path in tmp_path.glob("running_*/*/**/*") if path.is_file()]
  assert files
  for path in files:
    path.write_bytes(b"")
  done = []
  _assert_same(_run(tmp_path, done=done), uninterrupted)
  assert done[:2] == [4, 8]
  assert not list(tmp_path.glob("running_*"))


def test_what_a_kill_may_leave_behind_is_harmless(tmp_path, uninterrupted):
  # Between a chunk's appearance and the removal of its state; while a file or a
  # checkpoint was being written; before the first checkpoint.
  _interrupt(tmp_path, 12)
  (tmp_path / ".chunk_00000.npz.123-ab.partial").write_bytes(b"half")
  running = tmp_path / "running_00000"
  (running / "7.orbax-checkpoint-tmp-1").mkdir()
  (tmp_path / "running_00001").mkdir()
  done = []
  _assert_same(_run(tmp_path, done=done), uninterrupted)
  assert done[:2] == [8, 12]  # where it was, and an epoch more
  running.mkdir()
  (running / "3").mkdir()
  _assert_same(_run(tmp_path), uninterrupted)


@pytest.mark.parametrize("content", ["{", "", "[]", "1", "[" * 100_000])
def test_a_folder_whose_record_is_damaged_is_refused(tmp_path, content):
  (tmp_path / "run.json").write_text(content)
  with pytest.raises(ValueError, match=r"run\.json is damaged"):
    _run(tmp_path)


def test_claim_makes_the_folder_and_compares_as_json(tmp_path):
  directory = tmp_path / "new" / "folder"
  assert checkpoint.read_config(directory) is None
  checkpoint.claim(directory, {"sizes": (1, 2), "of": {"a": {"b": 1.5}}})
  checkpoint.claim(directory, {"of": {"a": {"b": 1.5}}, "sizes": [1, 2]})
  kept = {"sizes": [1, 2], "of.a.b": 1.5}
  assert checkpoint.read_config(directory) == kept
  assert json.loads((directory / "run.json").read_text()) == kept
  assert [path.name for path in directory.iterdir()] == ["run.json"]
  with pytest.raises(ValueError, match=r"of\.a\.b=1\.5, not 2; sizes=\[1, 2\], not 3"):
    checkpoint.claim(directory, {"of": {"a": {"b": 2}}, "sizes": 3})


# Of 16 bytes Orbax's own files are too large, of 400 those of TensorStore alone.
@pytest.mark.parametrize("num_bytes", [16, 400])
def test_a_full_disk_costs_nothing_that_was_saved(
  tmp_path, uninterrupted, caplog, num_bytes
):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)

  def fill(done, total):
    if done == 12:  # two epochs are saved
      resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))

  try:
    with pytest.raises(OSError, match=r"too large: .*running_00000") as raised:
      parallel.run(
        example.drift(num_epochs=5), KEY, example.drift_jobs(6), example.DRIFT_DATA,
        collect=example.value_of, width=4, checkpoint_dir=tmp_path,
        checkpoint_seconds=0, progress=fill,
      )  # fmt: skip
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert raised.value.errno == errno.EFBIG
  assert caplog.text == ""
  done = []
  _assert_same(_run(tmp_path, done=done), uninterrupted)
  assert done[:2] == [8, 12]


def test_a_store_without_a_folder_keeps_nothing():
  store = checkpoint.Store(None, 0)
  store.save_chunk(0, {"a": np.zeros(2)})
  store.save_running(0, 1, {"a": np.zeros(2)})
  assert store.load_chunk(0, {"a": np.zeros(2)}) is None
  assert store.load_running(0, "initial") == (0, "initial")


DIGESTED = {"a": np.arange(6, dtype=np.int32), "b": np.float32(1)}


@pytest.mark.parametrize(
  "other",
  [
    {**DIGESTED, "b": np.float32(2)},
    {**DIGESTED, "b": np.float64(1)},
    {**DIGESTED, "b": np.ones(1, np.float32)},
    {**DIGESTED, "a": np.arange(6, dtype=np.int32).reshape(2, 3)},
    {**DIGESTED, "a": np.arange(6, dtype=np.int32)[::-1]},
    {"a": DIGESTED["a"], "c": DIGESTED["b"]},
    {"a": DIGESTED["a"]},
  ],
)
def test_digests_tell_trees_apart(other):
  assert checkpoint.digest(other) != checkpoint.digest(DIGESTED)


def test_digests_depend_on_values_alone(tmp_path):
  expected = checkpoint.digest(DIGESTED)
  a = np.stack([DIGESTED["a"], DIGESTED["a"] + 1], axis=1)[:, 0]  # strided
  assert checkpoint.digest({"a": a, "b": jnp.float32(1)}) == expected
  np.save(tmp_path / "a.npy", DIGESTED["a"])
  mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
  assert checkpoint.digest({"a": mapped, "b": np.float32(1)}) == expected
  for dtype in (bool, np.float16, ml_dtypes.bfloat16, ">f4"):
    ones, zeros = np.ones(2, dtype), np.zeros(2, dtype)
    assert checkpoint.digest(ones) != checkpoint.digest(zeros)
  assert checkpoint.digest(np.zeros((0, 2))) != checkpoint.digest(np.zeros((0, 3)))


def _first(x):
  return x


def _second(x):
  return x


def test_structures_ignore_values_and_functions():
  a = {"x": np.zeros(2), "f": jax.tree_util.Partial(_first, np.ones(3, np.int32))}
  b = {"x": np.ones(2), "f": jax.tree_util.Partial(_second, np.zeros(3, np.int32))}
  c = {**b, "x": np.zeros(2, np.float32)}
  assert checkpoint.structure(a) == checkpoint.structure(b)
  assert checkpoint.structure(b) != checkpoint.structure(c)


def _signalled(directory, number, times=1):
  """A run that gets a signal in an epoch; who had it before raises an error."""

  def progress(done, total):
    if done == 12:
      for _ in range(times):
        signal.raise_signal(number)

  def handler(number, frame):
    raise _StoppedError

  before = signal.signal(number, handler)
  try:
    with pytest.raises(_StoppedError):
      parallel.run(
        example.drift(num_epochs=5), KEY, example.drift_jobs(6), example.DRIFT_DATA,
        collect=example.value_of, width=4, checkpoint_dir=directory,
        checkpoint_seconds=3600, progress=progress,
      )  # fmt: skip
    assert signal.getsignal(number) is handler
  finally:
    signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_epoch_is_saved(tmp_path, uninterrupted, number):
  _signalled(tmp_path, number)
  done = []
  _assert_same(_run(tmp_path, done=done), uninterrupted)
  assert done[:2] == [12, 16]


def test_a_second_signal_does_not_wait(tmp_path):
  _signalled(tmp_path, signal.SIGINT, times=2)
  assert not list(tmp_path.glob("running_*"))


def test_a_run_of_another_precision_or_device_is_not_resumed(tmp_path):
  def run():
    return parallel.run(
      example.drift(2), jax.random.key(0), example.drift_jobs(3), example.DRIFT_DATA,
      collect=example.value_of, width=1, checkpoint_dir=tmp_path,
    )  # fmt: skip

  with jax.default_matmul_precision("bfloat16"):
    first = run()
    np.testing.assert_array_equal(run().collected, first.collected)
  message = "matmul_precision='bfloat16', not 'float32'"
  with (
    jax.default_matmul_precision("float32"),
    pytest.raises(ValueError, match=message),
  ):
    run()
  kept = json.loads((tmp_path / "run.json").read_text())
  assert kept["device_kind"] == jax.devices()[0].device_kind
  (tmp_path / "run.json").write_text(json.dumps({**kept, "device_kind": "abacus"}))
  with (
    jax.default_matmul_precision("bfloat16"),
    pytest.raises(ValueError, match="device_kind='abacus', not "),
  ):
    run()
