"""Small folders of the layouts of other tools, and files of one number a row."""

import shutil

import mpmath
import numpy as np
import pytest
from scipy import special

from jmia import audit
from jmia.attacks import evidence as evidence_lib
from jmia.audit import calibration, importers, outcome, signals_file, true_class

M, N, P, Q, C = 6, 80, 60, 3, 4


def _models(seed=0):
  """Logits `[M, N, Q, C]`, higher for the label where held, keep and labels."""
  rng = np.random.default_rng(seed)
  keep, labels = rng.random((M, N)) < 0.5, rng.integers(0, C, N)
  labels[:C] = np.arange(C)
  logits = rng.normal(0, 2, (M, N, Q, C)).astype(np.float32)
  one_hot = np.eye(C, dtype=np.float32)[labels]
  logits += 3 * (keep[:, :, None] * one_hot)[:, :, None]
  return logits, keep, labels


def _phi(logits, labels):
  """log p_y - log(1 - p_y) of `[..., N, Q, C]`, in float64."""
  p = special.softmax(logits.astype(np.float64), axis=-1)
  at = np.broadcast_to(labels[:, None], p.shape[:-1])[..., None]
  return special.logit(np.take_along_axis(p, at, axis=-1)[..., 0])


def _save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  np.save(path, array)


def _lira_pytorch(folder, what="scores"):
  logits, keep, labels = _models()
  for m in range(M):
    _save(folder / str(m) / "keep.npy", keep[m])
    array = logits[m] if what == "logits" else _phi(logits[m], labels)
    _save(folder / str(m) / f"{what}.npy", array)
  return logits, keep, labels


def _tf_privacy(folder):
  logits, keep, labels = _models()
  _save(folder / "y_train.npy", labels)
  for m in range(M):
    model = folder / f"experiment-{m}_{M}"
    _save(model / "keep.npy", np.append(keep[m], [True]))  # a row nobody asked about
    for epoch in (10, 100):
      old = 0 if epoch == 100 else 1
      _save(model / "logits" / f"{epoch:010d}.npy", logits[m][:, None] + old * m)
  return logits, keep, labels


def _privacy_meter(folder):
  rng = np.random.default_rng(1)
  keep, p = rng.random((M, N)) < 0.5, rng.random((N, M), np.float32)
  _save(folder / "models/memberships.npy", keep)
  _save(folder / "signals/rmia_signals.npy", p)
  _save(folder / "signals/rmia_signals_pop.npy", rng.random((P, M), np.float32))
  _save(folder / "signals/rmia_ramia_signals.npy", rng.random((3 * N, M)))
  return keep, p


@pytest.mark.parametrize("make", [_lira_pytorch, _tf_privacy])
def test_lira_folders(make, tmp_path):
  logits, keep, labels = make(tmp_path)
  ((found,), _) = importers.load(tmp_path, "2")
  expected, others = _phi(logits, labels), np.delete(np.arange(M), 2)
  group = found.groups["in_out"]
  for of, wanted in ((found, expected[2]), (group, expected[others])):
    phi = evidence_lib.queried(of.signals, "scaled_logit")
    np.testing.assert_allclose(phi, wanted, rtol=1e-4, atol=1e-4)
    losses = of.signals["loss"]
    np.testing.assert_allclose(losses, np.log1p(np.exp(-wanted[..., 0])), atol=1e-4)
  np.testing.assert_array_equal(found.members, keep[2])
  np.testing.assert_array_equal(group.held, keep[others])
  np.testing.assert_array_equal(group.out, ~keep[others])
  assert not (found.calibrates & found.members).any()
  assert found.calibrates.sum() == (~keep).sum(axis=1).min() // 4


def test_logits_of_lira_say_what_scores_do_not(tmp_path):
  logits, _, labels = _tf_privacy(tmp_path)
  ((found,), notes) = importers.load(tmp_path, "experiment-3_6")
  right = logits[3, :, 0].argmax(-1) == labels
  np.testing.assert_array_equal(found.signals["correctness"] > 0, right)
  np.testing.assert_array_equal(found.labels, labels)
  assert notes == []


def test_each_model_in_turn_is_reported_over_targets(tmp_path):
  _lira_pytorch(tmp_path)
  targets, notes = importers.load(tmp_path)
  assert len(targets) == M
  assert "labels are not known" in notes[0]
  attacks = ("lira_online", "lira_offline", "correctness", "classifier")
  report = audit.from_evidence(targets, attacks).report
  assert set(report["attacks"]) == {"lira_online", "lira_offline"}
  assert set(report["missing"]) == {"correctness", "classifier"}
  assert report["attacks"]["lira_online"]["num_targets"] == M
  assert report["attacks"]["lira_online"]["auc"] > 0.7
  assert "train_accuracy" not in report["target"]


def test_privacy_meter_folder(tmp_path):
  keep, p = _privacy_meter(tmp_path)
  ((found,), _) = importers.load(tmp_path, "4")
  np.testing.assert_array_equal(found.members, keep[4])
  np.testing.assert_allclose(found.signals["loss"], -np.log(p[:, 4]), atol=1e-6)
  group, others = found.groups["reference"], np.delete(np.arange(M), 4)
  np.testing.assert_array_equal(group.signals["true_class_probability"], p.T[others])
  assert group.population["loss"].shape == (M - 1, P)
  assert not np.isnan(outcome.evaluate(found, "rmia_offline").scores).all()


def test_privacy_meters_signals_of_the_first_models_alone(tmp_path):
  """As a run leaves them that asked for fewer models than are trained there."""
  keep, p = _privacy_meter(tmp_path)
  _, notes = importers.load(tmp_path, "3")
  assert not any("first" in note for note in notes)
  for name in ("rmia_signals.npy", "rmia_signals_pop.npy"):
    path = tmp_path / "signals" / name
    np.save(path, np.load(path)[:, :4])
  ((found,), notes) = importers.load(tmp_path, "3")
  assert f"4 of the folder's {M} models are read, the first: of the others" in notes[-1]
  np.testing.assert_array_equal(found.members, keep[3])
  group = found.groups["reference"]
  np.testing.assert_array_equal(group.held, keep[:3])
  np.testing.assert_array_equal(group.signals["true_class_probability"], p.T[:3])
  with pytest.raises(ValueError, match="5"):
    importers.load(tmp_path, "5")
  np.save(tmp_path / "signals" / "rmia_signals.npy", np.tile(p, 2))
  with pytest.raises(ValueError, match=rf"rmia_signals\.npy has shape .*{2 * M}"):
    importers.load(tmp_path, "3")


def _remove(name):
  return lambda folder: (folder / name).unlink()


def _put(name, array):
  return lambda folder: np.save(folder / name, array, allow_pickle=True)


@pytest.mark.parametrize(
  ("make", "change", "message"),
  [
    (_lira_pytorch, _remove("3/scores.npy"), "3 has neither scores.npy nor logits.npy"),
    (
      _lira_pytorch,
      _put("0/keep.npy", np.ones(N)),
      "keep.npy has .* expected .N. of b",
    ),
    (_lira_pytorch, _put("0/keep.npy", np.ones(3, bool)), "keep.npy has 3 rows"),
    (_lira_pytorch, _put("0/keep.npy", np.ones(N, bool)), "model 0: .*no non-members"),
    (_lira_pytorch, _put("1/scores.npy", np.zeros((N, 1))), "expected as many rows"),
    (_lira_pytorch, _put("1/scores.npy", np.full((N, Q), np.nan)), "scores.npy holds"),
    (_lira_pytorch, _put("1/scores.npy", np.full((N, Q), None)), "Python objects"),
    (_tf_privacy, _remove("y_train.npy"), "needs the rows' labels"),
    (_privacy_meter, _remove("signals/rmia_signals.npy"), "found none"),
    (
      _privacy_meter,
      _put("models/memberships.npy", np.ones((M, 7), bool)),
      "rows and the memberships 7",
    ),
    (
      _privacy_meter,
      _put("signals/rmia_signals.npy", np.full((N, M), 1.5)),
      "expected probabilities",
    ),
  ],
)
def test_what_is_missing_is_named(make, change, message, tmp_path):
  make(tmp_path)
  change(tmp_path)
  with pytest.raises(ValueError, match=message) as raised:
    importers.load(tmp_path)
  assert str(tmp_path) in str(raised.value)


def test_targets_and_layouts_that_are_not_there(tmp_path):
  with pytest.raises(ValueError, match="a folder of no known layout"):
    importers.load(tmp_path)
  _save(tmp_path / "attack_cache/sm_0_ab_logits.npy", np.zeros((2, 2)))
  with pytest.raises(ValueError, match="memberships are in pickles"):
    importers.load(tmp_path)
  _lira_pytorch(tmp_path / "lira")
  with pytest.raises(ValueError, match="target=6 is no model, expected 0 to 5"):
    importers.load(tmp_path / "lira", "6")


def test_one_number_gives_the_others():
  phi = np.array([-200.0, -40, -1, 0, 0.5, 20, 80])
  with mpmath.workdps(50):
    losses = np.array([float(mpmath.log1p(mpmath.exp(-x))) for x in phi])
  np.testing.assert_allclose(true_class.scaled_logits(losses), phi, rtol=1e-13)
  p = np.exp(-losses)
  for kind, values, at in (
    ("losses", losses, slice(None)),
    ("scaled_logits", phi, slice(None)),
    ("true_class_probabilities", p, slice(1, 5)),
  ):
    found = true_class.signals("x", values, kind, 1)
    for name, wanted in (("scaled_logit", phi), ("loss", losses)):
      assert found[name].dtype == np.float32
      np.testing.assert_allclose(found[name][at], wanted[at], rtol=1e-6, atol=1e-12)
  certain = true_class.signals(
    "x", np.array([0, 1], np.float32), "true_class_probabilities", 1
  )
  np.testing.assert_allclose(certain["scaled_logit"], [-87.3365, 17.3287], rtol=1e-5)


def _arrays(kind, seed=0, held=0.0):
  """A signals file of one number a row, and a population."""
  rng = np.random.default_rng(seed)
  losses = {
    "target": rng.exponential(size=N),
    "population": rng.exponential(size=P),
    "reference": rng.exponential(size=(M, N)),
    "reference_population": rng.exponential(size=(M, P)),
  }
  change = {
    "losses": lambda x: x,
    "scaled_logits": true_class.scaled_logits,
    "true_class_probabilities": lambda x: np.exp(-x),
  }[kind]
  return {f"{name}_{kind}": change(x) for name, x in losses.items()} | {
    "labels": rng.integers(0, C, N),
    "population_labels": rng.integers(0, C, P),
    "members": np.arange(N) % 2 == 0,
    "reference_members": rng.random((M, N)) < held,
  }


def test_files_of_losses_scaled_logits_and_probabilities_agree():
  scores = []
  for kind in true_class.KINDS:
    evidence = signals_file.from_arrays(_arrays(kind))
    assert (
      "needs target_logits" in outcome.lacking(evidence, ["classifier"])["classifier"]
    )
    names = ("population", "reference", "lira_offline", "rmia_offline")
    assert outcome.lacking(evidence, names) == {}
    scores.append([outcome.evaluate(evidence, name).scores for name in names])
  np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(scores[0], scores[2], rtol=1e-3, atol=1e-4)
  both = _arrays("losses") | {"target_scaled_logits": np.zeros(N)}
  with pytest.raises(ValueError, match="say the same, expected one of them"):
    signals_file.from_arrays(both)
  negative = _arrays("losses") | {"reference_losses": np.full((M, N), -1.0)}
  with pytest.raises(ValueError, match="reference_losses holds a loss of -1"):
    signals_file.from_arrays(negative)


def test_rows_that_calibrate_leave_the_population():
  plain = signals_file.from_arrays(_arrays("losses"))
  found, notes = calibration.set_apart(plain)
  number = P // 4
  assert found.calibrates.sum() == number
  assert f"{number} of {P} population rows" in notes[0]
  rows = found.index[found.calibrates] - N
  kept = np.delete(np.arange(P), rows)
  for name in ("loss", "scaled_logit"):
    for of, source in (
      (found, plain),
      (found.groups["reference"], plain.groups["reference"]),
    ):
      whole = np.concatenate(
        [source.signals[name], source.population[name][..., rows]], axis=-1
      )
      np.testing.assert_array_equal(of.signals[name], whole)
      np.testing.assert_array_equal(
        of.population[name], source.population[name][..., kept]
      )
  result = outcome.evaluate(found, "rmia_offline")
  assert len(result.scores) == N
  assert result.p_values.min() >= 1 / (1 + number)


def test_why_there_are_no_p_values():
  arrays = _arrays("losses")
  bare = {k: v for k, v in arrays.items() if "population" not in k}
  for changed, reason in (
    (bare, "they take answers on rows that no model was trained on"),
    (_arrays("losses", held=0.5), "models compared with were trained on samples"),
    (
      arrays | {"reference_population_members": np.ones((M, P), bool)},
      "0 of 60 population rows were trained on by no model",
    ),
  ):
    evidence = signals_file.from_arrays(changed)
    same, (note,) = calibration.set_apart(evidence)
    assert same.calibrates is None
    assert note.startswith(f"no p-values: {reason}")
  marked = arrays | {"calibrates": np.arange(N) % 4 == 1}
  evidence, notes = calibration.set_apart(signals_file.from_arrays(marked))
  assert (evidence.calibrates.sum(), notes) == (N // 4, [])
  with pytest.raises(ValueError, match="calibrates marks 40 members"):
    signals_file.from_arrays(arrays | {"calibrates": arrays["members"]})


def test_a_header_that_asks_for_more_than_the_file_holds_is_refused(tmp_path):
  _lira_pytorch(tmp_path)
  path = tmp_path / "0/keep.npy"
  content = path.read_bytes()
  path.write_bytes(content.replace(b"(80,), }", b"(8**9,)}"))
  with pytest.raises(ValueError, match=r"keep\.npy: not a whole .npy"):
    importers.load(tmp_path)
  path.write_bytes(content.replace(b"(80,)", b"(99,)"))
  with pytest.raises(ValueError, match=r"99 bytes, but 80 bytes"):
    importers.load(tmp_path)


def test_probabilities_in_the_place_of_logits_are_told(tmp_path):
  logits, _, _ = _lira_pytorch(tmp_path / "logits", "logits")
  _save(tmp_path / "logits/labels.npy", _models()[2])
  _lira_pytorch(tmp_path / "p", "logits")
  _save(tmp_path / "p/labels.npy", _models()[2].astype(float))
  for m in range(M):
    _save(tmp_path / f"p/{m}/logits.npy", special.softmax(logits[m], axis=-1))
    keep = np.load(tmp_path / f"p/{m}/keep.npy")
    _save(tmp_path / f"p/{m}/keep.npy", keep.astype(int))
  (plain,), no_notes = importers.load(tmp_path / "logits", "0")
  (found,), notes = importers.load(tmp_path / "p", "0")
  assert no_notes == []
  assert notes == ["the files of logits hold probabilities, taken for that"]
  np.testing.assert_array_equal(found.members, plain.members)
  for name in ("loss", "scaled_logit"):
    np.testing.assert_allclose(
      found.signals[name], plain.signals[name], rtol=1e-4, atol=1e-5
    )
  _save(tmp_path / "p/3/logits.npy", logits[3])
  with pytest.raises(ValueError, match="logits hold logits and probabilities"):
    importers.load(tmp_path / "p", "0")


@pytest.mark.parametrize("make", [_lira_pytorch, _tf_privacy])
def test_a_model_that_is_there_twice_is_refused(make, tmp_path):
  make(tmp_path)
  first = min(path for path in tmp_path.iterdir() if path.is_dir())
  shutil.copytree(first, tmp_path / "z")
  with pytest.raises(ValueError, match=f"model z has the .* of model {first.name}"):
    importers.load(tmp_path, "2")


def test_answers_of_a_model_whose_members_are_not_known_are_refused(tmp_path):
  _lira_pytorch(tmp_path)
  (tmp_path / "3/keep.npy").unlink()
  with pytest.raises(
    ValueError, match=r"3/scores.npy is there and .*3/keep.npy is not"
  ):
    importers.load(tmp_path, "2")
