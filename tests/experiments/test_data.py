"""How the command tells of data."""

import sys

from absl.testing import flagsaver
import pytest

from experiments import data, launch


def test_a_table_of_many_columns_stays_narrow(monkeypatch, capsys, tmp_path):
  names = [f"measurement_{i}" for i in range(40)]
  lines = [",".join([*names, "y"])]
  lines += [
    ",".join([*(str(i * j % 7) for j in range(40)), str(i % 2)]) for i in range(9)
  ]
  (tmp_path / "wide.csv").write_text("\n".join(lines))
  monkeypatch.setattr(
    sys, "argv", ["data", f"--dataset=table:{tmp_path / 'wide.csv'}?target=y"]
  )
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    launch.run(data.main)
  printed = capsys.readouterr().out
  assert not stopped.value.code
  first, *rest = printed.splitlines()
  assert "9 rows of 2 classes" in first
  assert max(map(len, rest)) <= 88
  assert "Columns for --groups: measurement_0, measurement_1," in printed
  assert "measurement_39." in printed
