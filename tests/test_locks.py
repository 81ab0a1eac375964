"""A folder is one's at a time: of processes and of threads."""

import threading

import pytest

from jmia import locks


def _in_a_thread(call):
  found = []

  def work():
    try:
      found.append(call())
    except ValueError as error:
      found.append(error)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  return found[0]


def _hold(folder):
  with locks.held(folder):
    return "held"


def test_another_thread_is_refused_and_the_holder_is_not(tmp_path):
  with locks.held(tmp_path):
    assert isinstance(_in_a_thread(lambda: _hold(tmp_path)), ValueError)
    (tmp_path / "link").symlink_to(tmp_path)
    assert _hold(tmp_path / "link") == "held"
    # What was held once more is held still.
    assert isinstance(_in_a_thread(lambda: _hold(tmp_path)), ValueError)
    assert (tmp_path / locks.NAME).exists()
  (tmp_path / "link").unlink()
  assert locks.is_empty(tmp_path)
  assert _in_a_thread(lambda: _hold(tmp_path)) == "held"
  assert list(tmp_path.iterdir()) == []


def test_a_folder_is_given_back_where_the_work_fails(tmp_path):
  with pytest.raises(KeyError), locks.held(tmp_path):
    raise KeyError
  assert _in_a_thread(lambda: _hold(tmp_path)) == "held"
