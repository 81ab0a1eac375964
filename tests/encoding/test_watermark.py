import dataclasses
import io
import itertools
import zipfile

import numpy as np
import pytest
from scipy import stats

from jmia.encoding import files, watermark
from jmia.encoding import keys as keys_lib

KEY = keys_lib.Key(secret=11, layer="Dense_1")


def test_the_share_by_hand():
  is_claimed = np.array([True, True, False, False, False])
  scores = np.array(
    [[5.0, 4, 3, 2, 1], [5, 1, 4, 3, 2], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]
  )
  found = watermark.claimed_share(scores, is_claimed)
  np.testing.assert_array_equal(found, [1, 0.5, 0, 0])  # all tied: controls first


def test_p_rows_counts_assignments():
  """Against every assignment of 3 claimed among 8 rows, ties included."""
  scores = np.array([3.0, 1, 4, 1, 5, 9, 2, 6])
  for claimed in itertools.combinations(range(8), 3):
    is_claimed = np.isin(np.arange(8), claimed)
    share = watermark.claimed_share(scores[None], is_claimed)[0]
    top = set(np.argsort(-scores)[:3])
    hits = [len(top & set(c)) for c in itertools.combinations(range(8), 3)]
    expected = np.mean(np.array(hits) >= round(3 * share))
    assert watermark.rows_p_value(share, 3, 5) == pytest.approx(expected)


def _rejected(p_values, level):
  """Asserts that p-values under a null respect the level, up to 5 sigma."""
  rate = np.mean(np.asarray(p_values) <= level)
  assert rate <= level + 5 * np.sqrt(level * (1 - level) / len(p_values))
  return rate


def test_false_claims_respect_the_level():
  rng = np.random.default_rng(0)
  num_wrong, trials, level = 39, 1500, 0.05
  is_claimed = np.arange(50) < 20
  unrelated, wrong_key = [], []
  for _ in range(trials):
    # The right key sees a structure in the rows which the assignment knows nothing of,
    # with many ties; other keys see nothing.
    scores = rng.normal(size=(1 + num_wrong, 50))
    scores[0] = np.round(3 * rng.exponential(size=50))
    unrelated.append(watermark.verify(scores, rng.permutation(is_claimed), level))
    # A model that does hold its members apart, in a direction of each key's own.
    apart = rng.normal(size=(1 + num_wrong, 1)) * is_claimed
    scores = np.round(3 * (rng.normal(size=(1 + num_wrong, 50)) + 2 * apart))
    wrong_key.append(watermark.verify(scores, is_claimed, level))
  for level in (0.05, 0.2):
    _rejected([v.p_value for v in unrelated], level)
    _rejected([v.p_rows for v in unrelated], level)
    _rejected([v.p_value for v in wrong_key], level)
    # The key's test is not idle, and the rows' test alone would not do.
    assert _rejected([v.p_key for v in wrong_key], level) > level / 2
    assert np.mean([v.p_rows <= level for v in wrong_key]) > 1.5 * level


def test_a_true_claim_is_accepted():
  rng = np.random.default_rng(1)
  is_claimed = np.arange(100) < 40
  scores = rng.normal(size=(100, 100))
  scores[0] += 3 * is_claimed - 1.5
  found = watermark.verify(scores, is_claimed, 0.01)
  assert found.accepted
  assert found.p_key == 1 / 100
  assert found.p_rows < 1e-9
  assert found.p_value == found.p_key
  assert found.share > 0.85
  assert found.claimed_called == (scores[0, :40] > 0).mean()
  assert found.controls_called == (scores[0, 40:] > 0).mean()
  assert not watermark.verify(scores[::-1], is_claimed, 0.01).accepted


def test_assignment_is_as_good_as_drawn_and_can_be_checked():
  x = np.random.default_rng(0).random((30, 4)).astype(np.float32)
  drawn = np.array([watermark.assign(x, 12, secret) for secret in range(2000)])
  assert (drawn.sum(axis=1) == 12).all()
  counts = drawn.sum(axis=0)
  # Counts are binomial(2000, 0.4), with a fixed sum.
  statistic = ((counts - 800) ** 2 / (2000 * 0.4 * 0.6)).sum() * 29 / 30
  assert stats.chi2.sf(statistic, 29) > 1e-3
  # It is of the content: an order of its own, and a part of the rows, will do.
  rng = np.random.default_rng(1)
  for secret in range(50):
    part = rng.permutation(30)[:20]
    if 0 < drawn[secret][part].sum() < 20:
      assert watermark.is_assigned(x[part], drawn[secret][part], secret)
      assert not watermark.is_assigned(x[part], drawn[secret][part], secret + 5000)
      assert not watermark.is_assigned(x[part], ~drawn[secret][part], secret)
  copies = np.concatenate([x[:1], x[:1]])
  assert not watermark.is_assigned(copies, np.array([True, False]), 3)
  for number in (0, 30):
    with pytest.raises(ValueError, match=f"num_claimed={number}"):
      watermark.assign(x, number, 1)


def test_a_key_is_hidden_from_who_tries_all_seeds():
  found = watermark.shuffled(KEY, 50, seed=3)
  assert len({*found}) == 51
  assert KEY in found
  assert [k.secret for k in found] == sorted(k.secret for k in found)
  assert {dataclasses.replace(k, secret=KEY.secret) for k in found} == {KEY}
  assert found == watermark.shuffled(KEY, 50, seed=3)
  assert not {*found} & {*watermark.shuffled(KEY, 50, seed=4)} - {KEY}
  # The seed is known, the secret is not.
  assert not {*found} & {*watermark.wrong_keys(KEY, 50, seed=3)}
  other = dataclasses.replace(KEY, secret=KEY.secret + 1)
  assert not {*found} & {*watermark.shuffled(other, 50, seed=3)}
  with pytest.raises(ValueError, match="number"):
    watermark.shuffled(KEY, 0, seed=3)


def test_wrong_keys_differ_in_the_secret_alone():
  wrong = watermark.wrong_keys(KEY, 50, seed=3)
  assert len({key.secret for key in wrong} | {KEY.secret}) == 51
  assert all(dataclasses.replace(key, secret=11) == KEY for key in wrong)
  assert wrong == watermark.wrong_keys(KEY, 50, seed=3)
  assert wrong != watermark.wrong_keys(KEY, 50, seed=4)
  with pytest.raises(ValueError, match="number=0"):
    watermark.wrong_keys(KEY, 0, seed=3)


def test_commitment_binds_key_rows_and_assignment():
  claimed, controls = np.ones((2, 3), np.uint8), np.zeros((4, 3), np.uint8)
  first = watermark.commitment(KEY, claimed, controls, 1.0)
  assert first == watermark.commitment(KEY, claimed.copy(), controls.copy(), 1.0)
  others = {
    watermark.commitment(dataclasses.replace(KEY, secret=12), claimed, controls, 1.0),
    watermark.commitment(KEY, controls, claimed, 1.0),
    watermark.commitment(
      KEY, claimed[:1], np.append(claimed[1:], controls, axis=0), 1.0
    ),
    watermark.commitment(KEY, claimed.astype(np.float32), controls, 1.0),
    watermark.commitment(KEY, claimed, controls, 1e-9),
    watermark.commitment(KEY, claimed, controls, float(np.nextafter(1, 2))),
    watermark.old_commitment(KEY, claimed, controls),
  }
  assert len(others | {first}) == 8
  for scale in (0.0, -3.0, np.nan, np.inf):
    with pytest.raises(ValueError, match=f"feature_scale={scale}"):
      watermark.commitment(KEY, claimed, controls, scale)


def test_old_commitments_are_as_they_were():
  claimed, controls = np.ones((2, 3), np.uint8), np.zeros((4, 3), np.uint8)
  found = watermark.old_commitment(KEY, claimed, controls)
  assert found == "e2852c76d1630c048cbd30e025c230ada0967fa05b5db3190df1f0049bf50073"


def test_copies_count_once():
  x = np.array([[3, 1], [0, 2], [3, 1], [3, 0], [0, 2]], np.float32)
  np.testing.assert_array_equal(watermark.distinct(x), [0, 1, 3])
  np.testing.assert_array_equal(watermark.distinct(x[:0]), [])
  among = watermark.is_among(x, x[1:2])
  np.testing.assert_array_equal(among, [False, True, False, False, True])


def test_p_rows_has_a_floor():
  assert watermark.rows_p_value(1.0, 600, 600) == watermark.P_FLOOR
  # 1 / C(40, 20), which a float holds.
  assert watermark.rows_p_value(1.0, 20, 20) == pytest.approx(1 / 137846528820)


def _accepted(rows_are_chosen):
  """Share of claims accepted at 5 % on models that were never encoded.

  A decoder's scores of 400 rows are correlated by 0.5 between a model that is the
  claimant's own and one that he never saw. By the hash, half of the rows may be claimed
  and half be controls; 40 of each are.
  """
  rng = np.random.default_rng(0)
  x = rng.random((400, 2))
  is_claimed, accepted = np.arange(80) < 40, []
  for secret in range(300):
    common, of_proxy, of_victim = rng.normal(size=(3, 400))
    proxy, victim = common + of_proxy, common + of_victim
    low = watermark.assign(x, 200, secret)
    claimed, controls = rng.permutation(np.flatnonzero(low)), np.flatnonzero(~low)
    if rows_are_chosen:
      claimed = claimed[np.argsort(-proxy[claimed])]
      controls = controls[np.argsort(proxy[controls])]
    at = np.concatenate([claimed[:40], controls[:40]])
    assert watermark.is_assigned(x[at], is_claimed, secret)
    wrong = rng.normal(size=(19, 400))
    scores = np.concatenate([victim[None], wrong])[:, at]
    accepted.append(watermark.verify(scores, is_claimed, 0.05).accepted)
  return np.mean(accepted)


def test_rows_that_were_chosen_break_the_level_and_look_assigned():
  """Why a claim says that it assumes otherwise."""
  assert _accepted(True) > 0.5
  assert _accepted(False) <= 0.05 + 5 * np.sqrt(0.05 * 0.95 / 300)


def test_claims_that_cannot_be_tested_are_refused():
  scores, is_claimed = np.zeros((101, 4)), np.array([True, False, False, False])
  with pytest.raises(ValueError, match=r"99 wrong keys cannot reach level=0.001.*999"):
    watermark.verify(scores[:100], is_claimed, 0.001)
  with pytest.raises(ValueError, match="level=1"):
    watermark.verify(scores, is_claimed, 1.0)
  with pytest.raises(ValueError, match="scores has shape"):
    watermark.verify(scores[:, :3], is_claimed, 0.05)
  with pytest.raises(ValueError, match="scores holds 1 NaN"):
    watermark.verify(np.where(np.arange(4) == 2, np.nan, scores)[:1], is_claimed, 0.05)
  for bad in (is_claimed | True, is_claimed & False, is_claimed.astype(int)):
    with pytest.raises(ValueError, match="is_claimed must be bool"):
      watermark.verify(scores, bad, 0.05)


def test_a_header_that_asks_for_too_much_is_one_line(tmp_path):
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}
  )
  path = tmp_path / "model.npz"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("x.npy", header.getvalue())
  with pytest.raises(ValueError, match=r"model\.npz: not an \.npz of plain arrays"):
    files.read_model(path)
  path = tmp_path / "answers.npy"
  path.write_bytes(header.getvalue())
  with pytest.raises(ValueError, match=r"answers\.npy: not a \.npy array"):
    files.read_answers(path, 1)
