"""Audits of answers that exist already, from Python."""

import json

import numpy as np
import pytest

from jmia import audit
from jmia.audit import signals_file

N, C, P, R = 60, 4, 40, 5
ATTACKS = ("population", "reference", "lira_online")


def _arrays(seed=0):
  """A target that is surer of its members, and models that held none of the rows."""
  rng = np.random.default_rng(seed)
  members = np.arange(N) % 2 == 0
  labels, of_population = rng.integers(0, C, N), rng.integers(0, C, P)

  def logits(*shape, y, sure=0.0):
    found = rng.normal(0, 1, (*shape, C))
    found += np.eye(C)[y] * (2 + np.asarray(sure)[..., None])
    return found.astype(np.float32)

  return {
    "target_logits": logits(N, y=labels, sure=3.0 * members),
    "labels": labels,
    "members": members,
    "population_logits": logits(P, y=of_population),
    "population_labels": of_population,
    "reference_logits": logits(R, N, y=labels),
    "reference_population_logits": logits(R, P, y=of_population),
    "group_half": np.where(np.arange(N) < N // 2, "first", "second"),
  }


def _said(result):
  """What a report says, but for the time and for where the answers came from."""
  report = {**result.report, "seconds": None}
  report["config"] = {**report["config"], "signals": None}
  return json.loads(json.dumps(report))


def test_arrays_are_audited_as_their_file_is(tmp_path):
  arrays = _arrays()
  np.savez(tmp_path / "signals.npz", **arrays)
  of_file = audit.from_signals(tmp_path / "signals.npz", ATTACKS, groups=["half"])
  of_arrays = audit.from_signals(arrays, ATTACKS, groups=["half"])
  assert _said(of_file) == _said(of_arrays)
  assert of_arrays.report["config"]["signals"] == sorted(arrays)
  assert of_file.report["config"]["signals"] == str(tmp_path / "signals.npz")
  for name, scores in of_file.samples.scores.items():
    np.testing.assert_array_equal(scores, of_arrays.samples.scores[name])
  assert of_arrays.report["attacks"]["reference"]["auc_ci"][0] > 0.5
  assert "lira_online" in of_arrays.report["missing"]  # no reference held a row
  # A quarter of the population calibrates, as for the command.
  assert of_arrays.samples.p_values.keys() == {"population", "reference"}
  assert any("10 of 40 population rows" in note for note in of_arrays.report["notes"])


def test_the_seed_draws_the_rows_that_calibrate():
  arrays = _arrays()
  zero, also, one = (
    audit.from_signals(arrays, ("reference",), seed=seed) for seed in (0, 0, 1)
  )
  p_values = [found.samples.p_values["reference"] for found in (zero, also, one)]
  np.testing.assert_array_equal(p_values[0], p_values[1])
  assert not np.array_equal(p_values[0], p_values[2])


def test_what_is_written_is_a_report_with_its_title(tmp_path):
  result = audit.from_signals(_arrays(), ("reference",), title="Of arrays")
  audit.write(result, tmp_path)
  report = json.loads((tmp_path / "report.json").read_text("utf-8"))
  assert report["config"]["title"] == "Of arrays"
  assert "Of arrays" in (tmp_path / "report.html").read_text("utf-8")


def test_tensors_and_lists_of_each_models_answers():
  torch = pytest.importorskip("torch")
  arrays = _arrays()
  given = {
    **arrays,
    "target_logits": torch.tensor(arrays["target_logits"], requires_grad=True),
    "labels": torch.tensor(arrays["labels"]),
    "reference_logits": [
      torch.tensor(part, requires_grad=True) for part in arrays["reference_logits"]
    ],
  }
  plain, found = (audit.from_signals(of, ("reference",)) for of in (arrays, given))
  np.testing.assert_array_equal(
    plain.samples.scores["reference"], found.samples.scores["reference"]
  )


@pytest.mark.parametrize(
  ("change", "options", "said"),
  [
    ({}, {"groups": ["sex"]}, "groups: signals has no array group_sex .*: half"),
    ({}, {"target": "3"}, "target=3, but arrays are of one target"),
    ({"members": None}, {}, "members is missing"),
    ({"reference_logits": [np.zeros((N, C)), np.zeros((N - 1, C))]}, {}, "is no array"),
    ({"reference_logits": [[1.0], [1.0, 2.0]]}, {}, "reference_logits is no arr"),
    ({}, {"attacks": ("lira_online",)}, "lira_online"),
  ],
)
def test_bad_arrays_are_named(change, options, said):
  arrays = {**_arrays(), **change}
  arrays = {name: array for name, array in arrays.items() if array is not None}
  with pytest.raises(ValueError, match=said):
    audit.from_signals(arrays, **{"attacks": ATTACKS, **options})


def test_a_folder_has_no_columns(tmp_path):
  for model in range(4):
    folder = tmp_path / "lira" / str(model)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(model)
    np.save(folder / "keep.npy", rng.random(N) < 0.5)
    np.save(folder / "scores.npy", rng.normal(size=(N, 1)).astype(np.float32))
  with pytest.raises(ValueError, match="is a folder, which has no columns"):
    audit.from_signals(tmp_path / "lira", ("reference",), groups=["half"])


def test_the_arrays_are_those_of_a_file():
  assert set(_arrays()) - {"group_half"} <= set(signals_file.ARRAYS)
