"""What `jmia.configure` does to JAX's settings, and what it refuses."""

import jax
import pytest

import jmia


@pytest.fixture(autouse=True)
def settings(monkeypatch):
  """JAX's settings as they would be changed, and not changed."""
  found = {}
  monkeypatch.setattr(jax.config, "update", found.__setitem__)
  return found


def test_a_cache_that_cannot_be_written_is_a_line_and_no_cache(
  settings, tmp_path, caplog
):
  (tmp_path / "file").write_text("")
  jmia.configure(cpu_devices=2, compilation_cache=str(tmp_path / "file" / "xla"))
  assert settings == {"jax_num_cpu_devices": 2}
  assert "compiled programs are not kept in" in caplog.text


def test_a_cache_is_made(settings, tmp_path):
  jmia.configure(cpu_devices=1, compilation_cache=str(tmp_path / "new" / "xla"))
  assert settings["jax_compilation_cache_dir"] == str(tmp_path / "new" / "xla")
  assert (tmp_path / "new" / "xla").is_dir()


@pytest.mark.parametrize("number", [0, 100_000])
def test_devices_that_would_end_the_process_are_refused(settings, number):
  with pytest.raises(ValueError, match=f"cpu_devices={number} must be 1 to 1024"):
    jmia.configure(cpu_devices=number)
  assert not settings
