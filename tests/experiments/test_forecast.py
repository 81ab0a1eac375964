import jax
import pytest

from experiments import forecast
from jmia.training import parallel


@pytest.fixture
def clock(monkeypatch):
  """Sets what the time is."""
  now = [0.0]
  monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])
  return now


def _start(**changes):
  run = {"num_models": 32, "width": 16, "num_epochs": 60, "num_rows": 1252}
  jax.monitoring.record_scalar(parallel.MEMORY_EVENT, 3e8, **run | changes)


def test_a_line_once_the_rate_is_known(clock):
  said = []
  with forecast.listening(said.append) as progress:
    _start()
    for epoch in range(1, 6):
      clock[0] = 0.4 * epoch
      progress("training", 16 * epoch, 1920)
      assert bool(said) == (epoch > 3)  # 1 s after the first epoch, which compiled
  (line,) = said
  # 40 models' epochs a second, and 1,856 left after the fourth.
  assert line.startswith(
    "training: 32 models, 16 at a time, 60 epochs of up to 1,252 rows; about 46 s to"
    " go, in about "
  )
  assert line.endswith(" of memory")
  _start()  # nobody listens any more
  progress("training", 1920, 1920)
  assert len(said) == 1


def test_what_a_checkpoint_held_is_not_timed(clock):
  said = []
  with forecast.listening(said.append) as progress:
    _start(num_models=48, num_rows=0)
    for seconds, done in ((0, 960), (1, 1920), (3, 1936), (5, 1952)):
      clock[0] = seconds
      progress("others", done, 2880)
  (line,) = said
  assert "others: 48 models, 16 at a time, 60 epochs; about 1 min 58 s to go" in line


def test_nothing_is_said_of_what_is_done_soon(clock):
  said = []
  with forecast.listening(said.append) as progress:
    _start()
    for seconds, done in ((0, 1888), (2, 1904), (4, 1920)):
      clock[0] = seconds
      progress("training", done, 1920)
    progress("a stage that trains nothing", 1, 10)
  assert said == []
