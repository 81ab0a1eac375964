"""Rows that calibrate and non-members of another kind: nobody is named."""

import numpy as np
import pytest

from jmia import audit
from jmia.audit import importers
from jmia.report import tables

N, P, C = 300, 600, 5


def _file(path, easier):
  """Answers that leak nothing; samples are easier than the population by so much."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, C, N + P)
  ease = np.where(np.arange(N + P) < N, easier, 0.0) + rng.normal(size=N + P)

  def answers():
    z = rng.normal(size=(N + P, C))
    z[np.arange(N + P), labels] += ease
    return z

  target, references = answers(), np.stack([answers() for _ in range(4)])
  np.savez(
    path,
    labels=labels[:N],
    members=np.arange(N) < N // 2,
    target_logits=target[:N],
    population_logits=target[N:],
    population_labels=labels[N:],
    reference_logits=references[:, :N],
    reference_population_logits=references[:, N:],
  )
  return path


@pytest.mark.parametrize("easier", [0.0, 3.0])
def test_records_are_named_only_by_rows_of_their_kind(tmp_path, easier):
  (evidence,), _ = importers.load(_file(tmp_path / "signals.npz", easier))
  result = audit.from_evidence(evidence, ["population", "metric_loss", "reference"])
  notes = [note for note in result.report["notes"] if note.startswith("no p-values")]
  entries = result.report["attacks"].values()
  if easier:
    (note,) = notes
    assert "non-members score higher than the rows that calibrate" in note
    assert "found" not in result.report
    assert not result.samples.p_values
    assert not any("found_at_fdr" in entry for entry in entries)
    said = " ".join(tables.footnotes(result.report))
    assert "no rows were set apart" not in said
  else:
    assert not notes
    assert result.report["found"]["num_found"] == 0
    assert all(entry["num_calibration"] == P // 4 for entry in entries)
