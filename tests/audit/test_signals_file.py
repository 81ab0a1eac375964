import numpy as np
import pytest
from scipy import special

from jmia.attacks import evidence as evidence_lib
from jmia.audit import signals_file
from jmia.outputs import units

N, C, P, R, D = 12, 4, 15, 5, 3


def _arrays(seed=0):
  """A file of signals with every array."""
  rng = np.random.default_rng(seed)
  logits = lambda *shape: rng.normal(0, 3, (*shape, C)).astype(np.float32)  # noqa: E731
  return {
    "target_logits": logits(N),
    "labels": rng.integers(0, C, N),
    "members": np.arange(N) % 3 == 0,
    "population_logits": logits(P),
    "population_labels": rng.integers(0, C, P),
    "reference_logits": logits(R, N),
    "reference_members": rng.random((R, N)) < 0.3,
    "reference_population_logits": logits(R, P),
    "reference_population_members": rng.random((R, P)) < 0.3,
    "distilled_logits": logits(D, N),
  }


def _loss(logits, labels):
  log_p = special.log_softmax(logits.astype(np.float64), axis=-1)
  return -np.take_along_axis(
    log_p, np.broadcast_to(labels, logits.shape[:-1])[..., None], axis=-1
  )[..., 0]


def test_arrays_names_them_all():
  assert set(signals_file.ARRAYS) == set(_arrays())


@pytest.mark.parametrize(
  "change",
  [
    lambda name, a: a.astype(int) if name.endswith("members") else a,
    lambda name, a: a.astype(float) if name.endswith(("members", "labels")) else a,
    lambda name, a: a.tolist(),
  ],
)
def test_masks_of_0_and_1_labels_as_floats_and_lists(change):
  arrays = _arrays()
  plain = signals_file.from_arrays(arrays)
  found = signals_file.from_arrays({n: change(n, a) for n, a in arrays.items()})
  np.testing.assert_array_equal(found.members, plain.members)
  np.testing.assert_array_equal(found.labels, plain.labels)
  np.testing.assert_array_equal(
    found.groups["reference"].held, plain.groups["reference"].held
  )
  np.testing.assert_allclose(found.signals["loss"], plain.signals["loss"], rtol=1e-6)


def test_losses_are_the_cross_entropies_of_the_file(tmp_path):
  arrays = _arrays()
  np.savez(tmp_path / "signals.npz", **arrays)
  evidence = signals_file.load(tmp_path / "signals.npz")
  y, population_y = arrays["labels"], arrays["population_labels"]
  reference, distilled = evidence.groups["reference"], evidence.groups["distilled"]
  for signals, array, labels in (
    (evidence.signals, "target_logits", y),
    (evidence.population, "population_logits", population_y),
    (reference.signals, "reference_logits", y),
    (reference.population, "reference_population_logits", population_y),
    (distilled.signals, "distilled_logits", y),
  ):
    assert signals["loss"].dtype == np.float32
    expected = _loss(arrays[array], labels)
    np.testing.assert_allclose(signals["loss"], expected, atol=1e-5)
  np.testing.assert_array_equal(
    evidence.signals["correctness"] > 0, arrays["target_logits"].argmax(-1) == y
  )
  for found, array in (
    (evidence.labels, "labels"),
    (evidence.members, "members"),
    (evidence.population_labels, "population_labels"),
    (reference.held, "reference_members"),
    (~reference.out, "reference_members"),
    (reference.population_held, "reference_population_members"),
    (~reference.population_out, "reference_population_members"),
  ):
    np.testing.assert_array_equal(found, arrays[array])
  np.testing.assert_array_equal(evidence.index, np.arange(N))
  assert evidence.num_classes == C
  assert set(evidence.groups) == {"reference", "in_out", "distilled"}


@pytest.mark.parametrize("kind", ["logits", "losses"])
def test_the_target_among_its_references_is_refused(kind):
  """As of `logits` where `logits[1:]` is meant; its members would all fit perfectly."""
  arrays = _arrays()
  arrays["reference_members"][2] = arrays["members"]
  signals_file.from_arrays(arrays)  # a model of the same members, as shadows may be
  if kind == "losses":
    for of in ("target", "reference"):
      arrays[f"{of}_losses"] = np.abs(arrays.pop(f"{of}_logits")[..., 0])
    del arrays["distilled_logits"]
    for name in [name for name in arrays if "population" in name]:
      del arrays[name]
  of_target = arrays[f"target_{kind}"].astype(np.float64)  # in another type, too
  arrays[f"reference_{kind}"][2] = of_target
  with pytest.raises(
    ValueError, match=rf"reference_{kind}\[2\] has the answers and the"
  ):
    signals_file.from_arrays(arrays)
  other = arrays["reference_members"].copy()
  other[2, 0] ^= True
  signals_file.from_arrays(arrays | {"reference_members": other})


def test_models_that_say_one_thing_of_all_rows_may_agree():
  arrays = _arrays()
  arrays["reference_members"][2] = arrays["members"]
  arrays["target_logits"][:] = arrays["reference_logits"][2] = np.arange(C)
  signals_file.from_arrays(arrays)


def test_what_is_absent_is_empty_and_references_held_nothing_by_default():
  arrays = _arrays()
  required = {name: arrays[name] for name in ("target_logits", "labels", "members")}
  evidence = signals_file.from_arrays(required)
  np.testing.assert_array_equal(evidence.signals["logits"], arrays["target_logits"])
  assert (evidence.groups, dict(evidence.population)) == ({}, {})
  for name in ("reference_members", "reference_population_members"):
    del arrays[name]
  evidence = signals_file.from_arrays(arrays)
  reference = evidence.groups["reference"]
  assert "in_out" not in evidence.groups
  np.testing.assert_array_equal(reference.held, np.zeros((R, N), bool))
  np.testing.assert_array_equal(reference.population_held, np.zeros((R, P), bool))


def test_references_may_be_asked_about_the_population_alone():
  arrays = _arrays()
  del arrays["reference_logits"], arrays["reference_members"]
  group = signals_file.from_arrays(arrays).groups["reference"]
  assert (group.signals, group.held.shape) == ({}, (R, N))
  assert group.population["loss"].shape == (R, P)


def test_probabilities_give_the_losses_of_their_logits():
  arrays = _arrays()
  probabilities = {
    name: special.softmax(a, axis=-1) if name.endswith("logits") else a
    for name, a in arrays.items()
  }
  expected = signals_file.from_arrays(arrays)
  actual = signals_file.from_arrays(probabilities)
  for found, wanted in (
    (actual, expected),
    (actual.groups["reference"], expected.groups["reference"]),
    (actual.groups["distilled"], expected.groups["distilled"]),
  ):
    for which in ("signals", "population"):
      for name in {"loss", "divergence"} & set(getattr(wanted, which)):
        pair = getattr(found, which)[name], getattr(wanted, which)[name]
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=2e-5)


def test_a_probability_of_zero_by_hand():
  answers = np.array([[0.0, 1.0], [0.25, 0.75], [0.0, 1.0]])
  logits = units.recognise({"a": answers}).logits("a", answers)
  found = evidence_lib.of_logits(logits, np.array([0, 0, 1]))
  losses, correct = found["loss"], found["correctness"] > 0
  # The smallest normal float32 is 2^-126.
  np.testing.assert_allclose(losses, [126 * np.log(2), np.log(4), 0], atol=1e-5)
  np.testing.assert_array_equal(correct, [False, False, True])


def test_logits_are_not_mistaken_for_probabilities():
  for logits in ([[0.5, 1.6]], [[-0.5, 1.5]], [[2.0, 0.0]]):
    logits = np.array(logits, np.float32)
    told = units.recognise({"a": logits})
    np.testing.assert_array_equal(told.logits("a", logits), logits)


def _without(*names):
  return dict.fromkeys(names)


def _with(name, index, value, dtype=None):
  array = _arrays()[name].astype(dtype) if dtype else _arrays()[name].copy()
  array[index] = value
  return {name: array}


def test_answers_on_copies_have_the_row_itself_first():
  rng = np.random.default_rng(1)
  arrays = _arrays()
  on_copies = {
    "target_logits": rng.normal(0, 3, (N, 5, C)).astype(np.float32),
    "reference_logits": rng.normal(0, 3, (R, N, 5, C)).astype(np.float32),
  }
  found = signals_file.from_arrays({**arrays, **on_copies})
  first = {name: array[..., 0, :] for name, array in on_copies.items()}
  plain = signals_file.from_arrays({**arrays, **first})
  group, alone = found.groups["reference"], plain.groups["reference"]
  for name in plain.signals:
    np.testing.assert_array_equal(found.signals[name], plain.signals[name])
    np.testing.assert_array_equal(group.signals[name], alone.signals[name])
  labels = np.repeat(arrays["labels"][:, None], 5, axis=1)
  for of, logits in zip((found, group), on_copies.values(), strict=True):
    losses = evidence_lib.queried(of.signals, "loss")
    np.testing.assert_allclose(losses, _loss(logits, labels), atol=1e-5)
  with pytest.raises(ValueError, match=r"reference_logits has shape \(5, 12, 4\), exp"):
    signals_file.from_arrays({**arrays, "target_logits": on_copies["target_logits"]})


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (_without("target_logits"), "array target_logits is missing"),
    (_without("labels"), "array labels is missing"),
    (_without("members"), "array members is missing"),
    (_without("population_labels"), "population_logits needs population_labels"),
    (
      _without("population_labels", "population_logits"),
      "reference_population_logits needs population_labels",
    ),
    *(
      (_without(*answers), f"{name} is of no use without {answers[0]}")
      for name, answers in (
        ("population_labels", ("population_logits", "reference_population_logits")),
        ("reference_members", ("reference_logits",)),
        ("reference_population_members", ("reference_population_logits",)),
      )
    ),
    ({"refrence_logits": np.zeros(3)}, "did you mean 'reference_logits'?"),
    ({"target_logits": np.zeros((N, C, 1))}, r"target_logits has shape \(12, 4, 1\)"),
    ({"labels": np.zeros(N - 1, int)}, r"labels has shape \(11,\), expected \(12\)"),
    ({"members": np.zeros((N, 1), bool)}, r"members has shape \(12, 1\)"),
    ({"reference_logits": np.zeros((R, N, C + 1))}, r"reference_logits has .*12, 4\)"),
    ({"reference_members": np.zeros((R + 1, N), bool)}, r"reference_members has shape"),
    ({"population_labels": np.zeros(P + 1, int)}, r"population_labels has shape"),
    ({"distilled_logits": np.zeros((0, N, C))}, r"distilled_logits .* it is empty"),
    (_with("target_logits", (3, 1), np.nan), r"target_logits holds 1 .* at \(3, 1\)"),
    (_with("distilled_logits", (1, 2, 0), np.inf), r"distilled_logits holds 1 NaN or"),
    (
      _with("reference_logits", (3, 0, 1), 1e39, float),
      r"reference_logits holds 1 NaN or infinite values, first at \(3, 0, 1\)",
    ),
    ({"target_logits": np.full((N, C), "a")}, "target_logits has dtype <U1, expected"),
    (_with("labels", 2, C), "labels holds labels from 0 to 4, expected 0 to 3"),
    (_with("population_labels", 2, -1), "population_labels holds labels from -1"),
    (
      {"members": np.arange(N)},
      "members holds int64 other than 0 and 1, expected a mask",
    ),
    ({"members": np.full(N, "yes")}, "members has dtype <U3, expected bool"),
    ({"labels": np.full(N, "cat")}, "labels holds text, expected class numbers"),
    ({"labels": np.full(N, 0.5)}, "labels has dtype float64, expected integer"),
    ({"reference_members": np.full((R, N), 0.5)}, "reference_members holds float64"),
    ({"members": np.ones(N, bool)}, "members marks 12 of 12 rows: no non-members"),
    ({"members": np.zeros(N, bool)}, "members marks 0 of 12 rows: no members"),
  ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(changes, message, tmp_path):
  arrays = {k: v for k, v in (_arrays() | changes).items() if v is not None}
  np.savez(tmp_path / "signals.npz", **arrays)
  with pytest.raises(ValueError, match=message) as raised:
    signals_file.load(tmp_path / "signals.npz")
  assert str(raised.value).startswith(f"{tmp_path / 'signals.npz'}: ")


def test_files_that_are_no_archive_are_refused_by_name(tmp_path):
  path = tmp_path / "signals.npz"
  with pytest.raises(FileNotFoundError, match=r"signals\.npz: no such file"):
    signals_file.load(path)
  np.savez(path, **_arrays())
  whole = path.read_bytes()
  np.save(tmp_path / "bare.npy", np.zeros(3))
  bare = (tmp_path / "bare.npy").read_bytes()
  for content in (b"", b"text", whole[:-30], whole[: len(whole) // 2], bare):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"signals\.npz: not a whole \.npz"):
      signals_file.load(path)
  np.savez(path, **(_arrays() | {"labels": np.array([None] * N)}))
  with pytest.raises(ValueError, match=r"labels holds Python objects"):
    signals_file.load(path)


def test_a_flipped_bit_is_noticed(tmp_path):
  path = tmp_path / "signals.npz"
  np.savez_compressed(path, **_arrays())
  content = bytearray(path.read_bytes())
  content[120] ^= 0xFF  # within the first array's compressed values
  path.write_bytes(content)
  with pytest.raises(ValueError, match="not a whole"):
    signals_file.load(path)
