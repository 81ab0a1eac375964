"""What a run of many models keeps on disk, so that it can be killed and resumed.

    DIR/run.json            the configuration that made everything else here
    DIR/chunk_00000.npz     results of a finished chunk of models
    DIR/running_00001/7/    Orbax checkpoint of a chunk in progress, after 7 epochs

Every file appears whole or not at all (a temporary file or folder is renamed), so a
kill at any moment costs the work since the last checkpoint and nothing else. On
several hosts DIR must be on a file system that all of them see.
"""

from collections.abc import Iterator, Mapping
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import threading
import time
from typing import Any
import zipfile

from absl import logging
import jax
from jax.experimental import multihost_utils
import numpy as np

from jmia import atomic

PyTree = Any
PROGRAMS = "programs"  # of a configuration: the hash of what is computed
# What a hash in a configuration is of: of two hashes nobody sees what differs.
_HASHED: Mapping[str, str] = {
  "jobs": "other jobs (some model's rows or settings)",
  "data": "other data",
  "state": "models of another shape (another network or optimizer)",
  "collected": "something else kept of each model",
  PROGRAMS: "another recipe, or by another version of this library or of JAX",
}


def digest(tree: PyTree) -> str:
  """Returns a hash of a pytree's names, shapes, dtypes and contents."""
  tree = jax.tree.map(lambda leaf: np.asarray(leaf, order="C"), tree)
  hashed = hashlib.blake2b(structure(tree).encode(), digest_size=16)
  for array in jax.tree.leaves(tree):
    hashed.update(array.reshape(-1).view(np.uint8))
  return hashed.hexdigest()


def structure(tree: PyTree) -> str:
  """Returns a hash of a pytree's names, shapes and dtypes."""
  # Names and no tree definition, which may hold functions, printed by their address.
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  described = [
    f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}" for path, leaf in leaves
  ]
  return hashlib.blake2b("\n".join(described).encode(), digest_size=16).hexdigest()


def read_config(directory: pathlib.Path) -> dict[str, Any] | None:
  """Returns the configuration of the run in `directory`, None if there is none.

  Raises:
    ValueError: if its file is damaged.
  """
  path = directory / "run.json"
  try:
    config = json.loads(path.read_text("utf-8")) if path.exists() else None
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} is damaged ({error}): delete the folder") from error
  if config is not None and not isinstance(config, dict):
    raise ValueError(f"{path} is damaged (it holds no names): delete the folder")
  return config


def claim(directory: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Makes `directory` this configuration's, or refuses it as another's.

  Args:
    directory: where the run keeps its files; made if absent.
    config: whatever results depend on, as JSON values.

  Raises:
    ValueError: if it holds a run whose configuration differs; names each difference.
  """
  # A round trip makes tuples lists, as they will be read back.
  config = json.loads(json.dumps(_flatten(config)))
  kept = read_config(directory)
  if kept is None:
    if jax.process_index() == 0:
      directory.mkdir(parents=True, exist_ok=True)
      content = json.dumps(config, indent=2).encode()
      atomic.write(directory / "run.json", content)
    return
  before, now = _flatten(kept), _flatten(config)
  other = [
    name
    for name in sorted(before.keys() | now.keys())
    if before.get(name) != now.get(name)
  ]
  differences = [
    _HASHED.get(name, f"{name}={before.get(name)!r}, not {now.get(name)!r}")
    for name in other
    # Any other difference may be why the programs differ, and tells more.
    if name != PROGRAMS or other == [PROGRAMS]
  ]
  if differences:
    raise ValueError(
      f"checkpoint {directory} was made with {'; '.join(differences)}: "
      "use its settings, another folder, or delete it"
    )


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns nested settings under dotted names, so that each can be named alone."""
  flat: dict[str, Any] = {}
  for name, value in config.items():
    if isinstance(value, Mapping):
      flat |= _flatten(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat


class Interruption:
  """A signal that came while models trained, and is to wait until they are saved."""

  def __init__(self) -> None:
    """Makes one that nothing has interrupted."""
    self.signal: int | None = None
    self._before: dict[int, Any] = {}

  def _receive(self, number: int, frame: Any) -> None:
    del frame
    if self.signal is not None:  # the second time nobody waits
      self._release(number)
      return
    self.signal = number
    logging.warning("saving after this epoch; once more ends it at once")

  def hold(self) -> None:
    """Takes Ctrl-C and the request to end, in place of who had them."""
    for number in (signal.SIGINT, signal.SIGTERM):
      if signal.getsignal(number) is signal.SIG_IGN:  # as of a script's `command &`
        continue
      self._before[number] = signal.signal(number, self._receive)

  def restore(self) -> None:
    """Gives the signals back."""
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def deliver(self) -> None:
    """Gives a signal that came to who had it before, if one came."""
    if self.signal is not None:
      self._release(self.signal)

  def _release(self, number: int) -> None:
    self.restore()
    signal.raise_signal(number)


@contextlib.contextmanager
def interruptible(directory: pathlib.Path | None) -> Iterator[Interruption]:
  """Yields what tells that a run which is saved shall end after this epoch.

  Signals are held where the run has a folder and this is the only process's main
  thread, which alone has signals; elsewhere they do what they did.

  Args:
    directory: of the run.
  """
  interruption = Interruption()
  is_main = threading.current_thread() is threading.main_thread()
  if directory is None or jax.process_count() > 1 or not is_main:
    yield interruption
    return
  interruption.hold()
  try:
    yield interruption
    interruption.deliver()  # what came last of all
  finally:
    interruption.restore()


class Store:
  """Saves and finds what a run has done; one without a folder keeps nothing."""

  def __init__(self, directory: pathlib.Path | None, seconds: float):
    """Makes the store.

    Args:
      directory: the run's folder, claimed for its configuration; or None.
      seconds: time between two checkpoints of a chunk in progress.
    """
    self._directory = directory
    self._seconds = seconds
    self._saved_at = time.monotonic()
    self._manager: Any = None

  def load_chunk(self, chunk: int, like: PyTree) -> PyTree | None:
    """Returns a finished chunk's results in the structure of `like`, None if absent."""
    if self._directory is None or not self._chunk_path(chunk).exists():
      return None
    leaves, treedef = jax.tree.flatten(like)
    path = self._chunk_path(chunk)
    try:
      with np.load(path, allow_pickle=False) as arrays:
        # A view, since NumPy's files know no bfloat16.
        kept = [arrays[str(i)].view(leaf.dtype) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(treedef, kept)
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
      logging.warning("%s is damaged (%s): its models train again", path, error)
      return None

  def save_chunk(self, chunk: int, results: PyTree) -> None:
    """Writes a finished chunk's results, host arrays, and drops its running state."""
    if self._directory is None:
      return
    self.close()
    if jax.process_index() == 0:
      arrays = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(results))}
      with atomic.opened(self._chunk_path(chunk)) as file:
        np.savez(file, **arrays)
      shutil.rmtree(self._running_path(chunk), ignore_errors=True)

  def load_running(self, chunk: int, initial: PyTree) -> tuple[int, PyTree]:
    """Returns (epochs done, state): the last checkpoint's, or 0 and `initial`.

    Args:
      chunk: index of the chunk.
      initial: the state before the first epoch, arrays in place on their devices.
    """
    if self._directory is None or not self._running_path(chunk).exists():
      return 0, initial
    manager, ocp = self._open(chunk)
    epoch = manager.latest_step()
    if epoch is None:
      return 0, initial
    like = ocp.args.StandardRestore(_unwrap_keys(initial))
    try:
      state = manager.restore(epoch, args=like)
    except (ValueError, OSError, KeyError) as error:
      path = self._running_path(chunk)
      logging.warning("%s is damaged (%s): its models train again", path, error)
      self.close()
      if jax.process_index() == 0:
        shutil.rmtree(path)
      return 0, initial
    return epoch, _wrap_keys(state, initial)

  def save_running(
    self, chunk: int, epoch: int, state: PyTree, *, is_last: bool = False
  ) -> None:
    """Saves the chunk in progress, if the last time is `seconds` ago, or `is_last`.

    Raises:
      OSError: if it cannot be written; what was saved before stays.
    """
    if self._directory is None or not (is_last or self._is_due()):
      return
    manager, ocp = self._open(chunk)
    args = ocp.args.StandardSave(_unwrap_keys(state))
    try:
      with _without_logs():  # else each of its threads tells of a full disk by itself
        manager.save(epoch, args=args)
    except (ValueError, OSError) as error:
      raise _of_the_system(error, self._running_path(chunk)) from error
    self._saved_at = time.monotonic()

  def close(self) -> None:
    """Releases Orbax's threads; the store can go on."""
    if self._manager is not None:
      self._manager.close()
      self._manager = None

  def _is_due(self) -> bool:
    due = time.monotonic() - self._saved_at >= self._seconds
    if jax.process_count() == 1:
      return due
    # A save is made by all processes together: the first one's clock decides.
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(due)))

  def _open(self, chunk: int):
    # Orbax takes 1.7 s to import, and most runs are too short to need it.
    import orbax.checkpoint as ocp

    if self._manager is None:
      options = ocp.CheckpointManagerOptions(
        max_to_keep=1, enable_async_checkpointing=False, cleanup_tmp_directories=True
      )
      directory = self._running_path(chunk).absolute()
      self._manager = ocp.CheckpointManager(directory, options=options)
    return self._manager, ocp

  def _chunk_path(self, chunk: int) -> pathlib.Path:
    assert self._directory is not None
    return self._directory / f"chunk_{chunk:05d}.npz"

  def _running_path(self, chunk: int) -> pathlib.Path:
    assert self._directory is not None
    return self._directory / f"running_{chunk:05d}"


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
  before = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def _of_the_system(error: Exception, path: pathlib.Path) -> Exception:
  """An error of the operating system, if TensorStore tells of one; else as it was."""
  number = getattr(error, "errno", None)
  if number is None:
    told = re.search(r"os_error_code='(\d+)'", str(error))
    number = None if told is None else int(told[1])
  return error if number is None else OSError(number, os.strerror(number), str(path))


def _is_key(leaf: Any) -> bool:
  return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _unwrap_keys(tree: PyTree) -> PyTree:
  """Orbax stores plain arrays: typed keys become their words."""
  return jax.tree.map(lambda a: jax.random.key_data(a) if _is_key(a) else a, tree)


def _wrap_keys(tree: PyTree, like: PyTree) -> PyTree:
  """Inverse of `_unwrap_keys`."""

  def wrap(words, like):
    if not _is_key(like):
      return words
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(like))

  return jax.tree.map(wrap, tree, like)
