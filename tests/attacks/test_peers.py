"""LiRA and RMIA against numbers that the public codes gave on the same arrays.

`peers.json` holds the arrays and what `run_rmia` of privacytrustlab/ml_privacy_meter
(e384af8), and `generate_ours` and `generate_ours_offline` of orientino/lira-pytorch
(50dc2a3) returned for the last model. Where they depart from jmia, the departure is
made here.
"""

import json
import pathlib

import numpy as np
import pytest
from scipy import stats

from jmia.attacks import lira, rmia

PEERS = json.loads(pathlib.Path(__file__).with_name("peers.json").read_text())


def _arrays(of, *names):
  return [np.array(PEERS[of][name]) for name in names]


@pytest.mark.parametrize("a", [0.0, 0.33, 1.0])
def test_rmia_offline_is_privacy_meters_where_its_rows_are(a):
  phi, z, held = _arrays(
    "privacy_meter", "scaled_logits", "population_scaled_logits", "held"
  )
  # The target is model 7; model 6, its pair, is not used.
  loss, z_loss, out = np.logaddexp(0, -phi), np.logaddexp(0, -z), held[:6] == 0
  of_x = rmia.log_ratio_offline(loss[7], loss[:6], out, a=a)
  # Of a population row's six models the three surest alone are averaged.
  surest = stats.rankdata(z_loss[:6], axis=0) <= 3
  of_z = rmia.log_ratio_offline(z_loss[7], z_loss[:6], surest, a=a)
  theirs = PEERS["privacy_meter"]["run_rmia"][str(a)]
  np.testing.assert_allclose(rmia.share(of_x, of_z, gamma=1.0), theirs, atol=1e-9)
  # The share rises with our score: both rank alike.
  assert (np.diff(np.array(theirs)[np.argsort(of_x)]) >= 0).all()


def _copies(references, held):
  """Each model 2,000 times: a variance over n - 1 is theirs, over n, to 1 / 4,000.

  Two models hold each row and two do not, of which the median, theirs, is the mean.
  """
  return np.repeat(references, 2000, axis=0), np.repeat(held == 1, 2000, axis=0)


def test_lira_online_is_lira_pytorchs():
  phi, held, theirs = _arrays("lira_pytorch", "scaled_logits", "held", "generate_ours")
  references, is_in = _copies(phi[:4], held[:4])
  ours = lira.score_online(phi[4], references, is_in, ~is_in, variance="own")
  # Theirs is lower for members, and a mean over the two queries.
  np.testing.assert_allclose(ours, -2 * theirs, rtol=2e-3, atol=2e-3)


def test_lira_offline_is_lira_pytorchs_with_one_side():
  phi, held, theirs = _arrays(
    "lira_pytorch", "scaled_logits", "held", "generate_ours_offline_first_query"
  )
  references, is_in = _copies(phi[:4, :, 0], held[:4])
  ours = lira.score_offline(phi[4, :, 0], references, ~is_in, variance="own")
  z = stats.norm.isf(np.exp(-ours))
  std = np.array([phi[:4, n, 0][held[:4, n] == 0].std() for n in range(len(z))])
  # Their log density has lost the sign: far below the models is as far above.
  far = np.sqrt(-2 * (theirs + np.log(std) + np.log(2 * np.pi) / 2))
  usable = (ours > 1e-9) & (np.abs(z) < 8)
  assert usable.sum() >= 5
  np.testing.assert_allclose(np.abs(z[usable]), far[usable], rtol=2e-3)
  assert (z < 0).any()
