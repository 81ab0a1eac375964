"""A small audit with known numbers, as the report gets it."""

import math
from typing import Any

import numpy as np

from jmia import report as report_lib


def samples(num: int = 800, shift: float = 1.0, seed: int = 0) -> report_lib.Samples:
  """Losses log-normal around a hardness per sample; members' lie `shift` lower."""
  rng = np.random.default_rng(seed)
  members = np.arange(num) % 2 == 0
  hardness = rng.normal(-1.0, 1.5, num)
  z = rng.normal(size=num) - shift * members
  loss = np.exp(hardness + z).astype(np.float32)
  cdf = np.vectorize(lambda t: 0.5 * math.erfc(-t / math.sqrt(2)))
  width = math.sqrt(1 + 1.5**2)
  quantile = -1.2815515655  # of the standard normal at 0.1
  population = np.full(num, np.exp(-1.0 + quantile * width), np.float32)
  reference = np.exp(hardness + quantile).astype(np.float32)
  return report_lib.Samples(
    index=(3 * np.arange(num) + 100).astype(np.int64),
    members=members,
    labels=rng.integers(0, 10, num).astype(np.int32),
    loss=loss,
    scores={
      "population": -np.log(cdf((np.log(loss) + 1) / width)).astype(np.float32),
      "reference": -np.log(cdf(z)).astype(np.float32),
    },
    thresholds={"population": population, "reference": reference},
    p_values={
      "population": cdf((np.log(loss) + 1) / width),
      "reference": cdf(z),
    },
  )


def report(**changes: Any) -> dict[str, Any]:
  """A report of two attacks; `changes` replace top-level entries."""
  base: dict[str, Any] = {
    "schema": 1,
    "config": {"dataset": "purchase_synthetic", "model": "mlp", "num_references": 16},
    "versions": {"jmia": "0.1.0", "jax": "0.10.2"},
    "device": "cpu",
    "seed": 7,
    "dataset": {
      "name": "purchase_synthetic",
      "description": "Synthetic shopping baskets of 600 bits.",
      "is_synthetic": True,
      "num_examples": 20000,
      "num_classes": 100,
    },
    "target": {
      "train_accuracy": 0.993,
      "test_accuracy": 0.612,
      "num_members": 400,
      "num_nonmembers": 400,
    },
    "attacks": {
      "population": {
        "auc": 0.641,
        "auc_ci": [0.603, 0.679],
        "accuracy": 0.6062,
        "tpr_at_fpr": {"0.1": 0.215, "0.01": 0.03, "0.001": None},
        "tpr_at_fpr_ci": {"0.1": [0.176, 0.259], "0.01": [0.016, 0.052]},
      },
      "reference": {
        "auc": 0.8423,
        "auc_ci": [0.8214, 0.8632],
        "accuracy": 0.7612,
        "tpr_at_fpr": {"0.1": 0.395, "0.01": 0.0875, "0.001": None},
        "tpr_at_fpr_ci": {"0.1": [0.347, 0.445], "0.01": [0.062, 0.12]},
        "estimator": "linear",
        "num_references": 16,
        "found_at_fdr": {"0.1": {"num_found": 12, "num_members": 11}},
      },
    },
    "missing": {"distillation": "the file has no array distilled_logits"},
    "notes": ["model 3 diverged at epoch 7 and was left out"],
    "seconds": {"train": 100.0, "signals": 2.0, "attacks": 1.0, "total": 200.4},
  }
  return base | changes


def with_leave_one_out() -> tuple[dict[str, Any], report_lib.Samples]:
  """A report and its samples with a third attack, on rows 0 to 19 of 800."""
  base, audited = samples(), report()
  left_out = np.arange(800) >= 20
  scores, thresholds, p_values = (
    {**arrays, "leave_one_out": np.where(left_out, np.nan, arrays["reference"])}
    for arrays in (base.scores, base.thresholds, base.p_values)
  )
  audited["attacks"]["leave_one_out"] = {
    "auc": 0.86,
    "auc_ci": [0.61, 0.96],
    "accuracy": 0.8,
    "tpr_at_fpr": {"0.1": 0.4, "0.01": 0.3, "0.001": 0.3},
    "tpr_at_fpr_ci": {"0.1": [0.12, 0.74], "0.01": [0.06, 0.66], "0.001": [0.06, 0.66]},
    "num_samples": 20,
    "num_nonmembers": 10,
  }
  return audited, base._replace(scores=scores, thresholds=thresholds, p_values=p_values)
