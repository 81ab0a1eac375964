import dataclasses

import numpy as np
import pytest
from scipy import stats

from jmia.encoding import keys as keys_lib
from jmia.encoding import nonces, watermark

KEY = keys_lib.Key(secret=11, layer="Dense_1")
X = np.random.default_rng(0).random((60, 3))


def _nonce(number):
  return f"round {number} of a public beacon"


def test_the_order_is_as_good_as_drawn():
  hashes = nonces.row_hashes(X[:20], 11)
  orders = np.array([nonces.order(hashes, _nonce(i)) for i in range(2000)])
  assert (np.sort(orders, axis=1) == np.arange(20)).all()
  first = np.bincount(orders[:, 0], minlength=20)
  assert stats.chisquare(first).pvalue > 1e-3
  # Blanks around a nonce do not count; rows keep their places in another order.
  np.testing.assert_array_equal(
    nonces.order(hashes, f" {_nonce(1)}\n"), nonces.order(hashes, _nonce(1))
  )
  turned = nonces.order(hashes[::-1], _nonce(1))
  np.testing.assert_array_equal(19 - turned, orders[1])
  # The secret draws as well as the nonce.
  assert (nonces.order(nonces.row_hashes(X[:20], 12), _nonce(1)) != orders[1]).any()
  with pytest.raises(ValueError, match="short enough to be foreseen"):
    nonces.order(hashes, "  fifteen letters ")


def test_only_the_lowest_and_the_highest_are_assigned():
  hashes, nonce = nonces.row_hashes(X, 11), _nonce(0)
  order, is_claimed = nonces.order(hashes, nonce), np.arange(20) < 10

  def is_assigned(places, secret=11, nonce=nonce, committed=hashes, sides=is_claimed):
    return nonces.is_assigned(X[places], sides, secret, nonce, committed)

  right = np.concatenate([order[:10], order[-10:]])
  mixed = np.random.default_rng(0).permutation(20)
  assert is_assigned(right)
  assert is_assigned(right[mixed], sides=is_claimed[mixed])
  assert is_assigned(right, committed=hashes[::-1])
  assert not is_assigned(right, sides=~is_claimed)
  assert not is_assigned(right, secret=12)
  assert not is_assigned(right, nonce=_nonce(1))
  # One row in place of the next, on either side; a copy; another number of either.
  assert not is_assigned(np.concatenate([order[1:11], order[-10:]]))
  assert not is_assigned(np.concatenate([order[:10], order[-11:-1]]))
  assert not is_assigned(np.concatenate([order[:9], order[:1], order[-10:]]))
  assert not is_assigned(right[:19], sides=is_claimed[:19])
  assert not is_assigned(right, committed=hashes[order[:15]])
  # Hashes twice among those committed to gain nothing.
  assert not is_assigned(right, committed=np.concatenate([hashes, hashes[order[:3]]]))


def test_commitment_binds_all_of_it():
  prepared = nonces.prepare(KEY, X, 20, 0.5)
  first = nonces.commitment(prepared)
  assert first == nonces.commitment(nonces.prepare(KEY, X[::-1], 20, 0.5))
  others = {
    nonces.commitment(nonces.prepare(key, x, number, scale))
    for key, x, number, scale in (
      (dataclasses.replace(KEY, secret=12), X, 20, 0.5),
      (dataclasses.replace(KEY, num_synthetic=3), X, 20, 0.5),
      (KEY, X[1:], 20, 0.5),
      (KEY, X.astype(np.float32), 20, 0.5),
      (KEY, X, 21, 0.5),
      (KEY, X, 20, 0.25),
    )
  }
  assert len(others | {first}) == 7
  for scale in (0.0, -1.0, np.nan):
    with pytest.raises(ValueError, match=f"feature_scale={scale}"):
      nonces.prepare(KEY, X, 20, scale)
  for number in (0, 31):
    with pytest.raises(ValueError, match=f"num_claimed={number} must be from 1 to 30"):
      nonces.prepare(KEY, X, number, 0.5)
  with pytest.raises(ValueError, match="copies of a row"):
    nonces.prepare(KEY, np.concatenate([X, X[:1]]), 20, 0.5)


def test_a_thief_who_chooses_rows_and_secret_is_held_to_the_level():
  """He chooses on models of his own, and then the nonce draws.

  As in `test_watermark`: scores are correlated between his model and one that he never
  saw. Of ten secrets and 400 rows he commits to the secret and the 160 rows that would
  suit it best if the secret assigned them (the 80 that score highest of the lower half,
  and the 80 that score lowest of the upper). Then he would be believed nearly always.
  """
  rng = np.random.default_rng(0)
  x, is_claimed, level = rng.random((400, 2)), np.arange(80) < 40, 0.05
  by_secret, by_nonce = [], []
  for trial in range(400):
    candidates = []
    for secret in range(10 * trial, 10 * trial + 10):
      common, of_proxy, of_victim = rng.normal(size=(3, 400))
      proxy, victim = common + of_proxy, common + of_victim
      low = watermark.assign(x, 200, secret)
      claimed, controls = np.flatnonzero(low), np.flatnonzero(~low)
      claimed = claimed[np.argsort(-proxy[claimed])][:80]
      controls = controls[np.argsort(proxy[controls])][:80]
      gap = proxy[claimed].mean() - proxy[controls].mean()
      candidates.append((gap, secret, victim, claimed, controls))
    _, secret, victim, claimed, controls = max(candidates, key=lambda one: one[0])
    wrong = rng.normal(size=(19, 400))

    def verdict(at, victim=victim, wrong=wrong):
      scores = np.concatenate([victim[None], wrong])[:, at]
      return watermark.verify(scores, is_claimed, level)

    at = np.concatenate([claimed[:40], controls[:40]])
    assert watermark.is_assigned(x[at], is_claimed, secret)
    by_secret.append(verdict(at).accepted)
    committed = np.concatenate([claimed, controls])
    hashes = nonces.row_hashes(x[committed], secret)
    order = nonces.order(hashes, _nonce(trial))
    at = committed[np.concatenate([order[:40], order[-40:]])]
    assert nonces.is_assigned(x[at], is_claimed, secret, _nonce(trial), hashes)
    by_nonce.append(verdict(at))
  assert np.mean(by_secret) > 0.5
  bound = level + 5 * np.sqrt(level * (1 - level) / 400)
  assert np.mean([one.accepted for one in by_nonce]) <= bound
  # The rows' test holds by itself, and is not idle.
  assert level / 5 < np.mean([one.p_rows <= level for one in by_nonce]) <= bound
