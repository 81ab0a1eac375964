import os
import stat
import subprocess
import sys

import pytest

from jmia import atomic


@pytest.fixture(params=[0o022, 0o077])
def umask(request):
  before = os.umask(request.param)
  yield request.param
  os.umask(before)


def _mode(path):
  return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_written_and_replaced(tmp_path):
  path = tmp_path / "results.json"
  atomic.write(path, b"first")
  atomic.write(str(path), b"second")
  assert path.read_bytes() == b"second"
  assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_an_ordinary_open(tmp_path, umask):
  (tmp_path / "ordinary").write_bytes(b"")
  atomic.write(tmp_path / "new", b"")
  assert _mode(tmp_path / "new") == _mode(tmp_path / "ordinary") == 0o666 & ~umask
  atomic.write(tmp_path / "secret", b"", mode=0o600)
  assert _mode(tmp_path / "secret") == 0o600


def test_a_secret_is_nobodys_to_read_while_it_is_written(tmp_path):
  with atomic.opened(tmp_path / "key.json", 0o600):
    (partial,) = tmp_path.iterdir()
    assert _mode(partial) == 0o600
    assert partial.name.startswith(f".key.json.{os.getpid()}-")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("is_old", [True, False])
def test_a_failure_leaves_nothing_and_the_old_file_whole(tmp_path, error, is_old):
  path = tmp_path / "results.json"
  if is_old:
    path.write_bytes(b"whole")

  def fail():
    with atomic.opened(path) as file:
      file.write(b"half")
      raise error

  with pytest.raises(type(error)):
    fail()
  assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"whole"] * is_old


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_nothing_and_the_old_file_whole(
  tmp_path, monkeypatch, step
):
  def fail(*_):
    raise OSError("disk full")

  path = tmp_path / "results.json"
  path.write_bytes(b"whole")
  monkeypatch.setattr(os, step, fail)
  with pytest.raises(OSError, match="disk full"):
    atomic.write(path, b"new")
  assert path.read_bytes() == b"whole"
  assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
  done = []
  replace = os.replace
  monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("content"))
  monkeypatch.setattr(os, "replace", lambda *a: (done.append("name"), replace(*a)))
  atomic.write(tmp_path / "one", b"1")
  assert done == ["content", "name"]
  done.clear()
  with atomic.folder(tmp_path) as folder:
    for name in ("two", "three"):
      (folder / name).write_bytes(b"")
    atomic.move(folder, tmp_path, ("two", "three"))
  assert done == ["content", "content", "name", "name"]


def test_two_that_write_at_once_do_not_meet(tmp_path):
  path = tmp_path / "choice.json"
  with atomic.opened(path) as first, atomic.opened(path) as second:
    first.write(b"first")
    second.write(b"second")
  assert path.read_bytes() == b"first"
  assert list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_come_together(tmp_path):
  (tmp_path / "a").write_bytes(b"old")
  with atomic.folder(tmp_path) as folder:
    assert folder.parent == tmp_path
    (folder / "a").write_bytes(b"new")
    with pytest.raises(FileNotFoundError):
      atomic.move(folder, tmp_path, ("a", "b"))
    assert (tmp_path / "a").read_bytes() == b"old"
    (folder / "b").write_bytes(b"new")
    atomic.move(folder, tmp_path, (name for name in ("a", "b")))
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == dict.fromkeys(
    "ab", b"new"
  )


def test_a_folder_that_fails_goes(tmp_path):
  def fail():
    with atomic.folder(tmp_path) as folder:
      (folder / "a").write_bytes(b"half")
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    fail()
  assert list(tmp_path.iterdir()) == []


_KILLED = """
import os, sys
from jmia import atomic
with atomic.folder(sys.argv[1]) as folder, atomic.opened(sys.argv[1] + "/a") as file:
  (folder / "b").write_bytes(b"half")
  os._exit(9)
"""


def test_what_the_killed_left_goes_and_what_others_make_stays(tmp_path):
  killed = [sys.executable, "-c", _KILLED, str(tmp_path)]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
  assert subprocess.run(killed, env=environment, check=False).returncode == 9
  assert len(list(tmp_path.iterdir())) == 2
  running = os.getppid()  # it is there, and it is not ours
  kept = [f".incomplete-{running}-x", f".results.json.{running}-x.partial"]
  (tmp_path / kept[0]).mkdir()
  (tmp_path / kept[1]).write_bytes(b"half")
  own = [".mine.partial", ".gitignore", "results.json"]
  for name in own:
    (tmp_path / name).write_bytes(b"")
  (tmp_path / ".incomplete-dead").mkdir()  # named by no process
  (tmp_path / f".report.json.{os.getpid()}-x.partial").write_bytes(b"")
  atomic.remove_left(tmp_path)
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted(own + kept)
  atomic.remove_left(tmp_path, of_running=True)
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted(own)
