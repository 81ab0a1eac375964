"""With `jax_enable_x64` the same models are trained, on the same rows."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

_AUDIT = """
import dataclasses, json
import jax
from jmia import audit, datasets, splits
from jmia.defenses import dp_sgd, registry
from jmia.training import config, parallel, recipe
import numpy as np

dataset = datasets.load("digits")
train = dataclasses.replace(
  config.preset("digits"), model="mlp", model_options=(("features", (16,)),),
  num_epochs=2, batch_size=50,
)
found = audit.run(dataset, audit.AuditConfig(
  num_references=2, num_distilled=2, train=train, num_members=150,
  num_nonmembers=150,
  attacks=("population", "reference"),
)).report
result = {name: one["auc"] for name, one in found["attacks"].items()}
result["accuracy"] = found["target"]["test_accuracy"]
# Of two sizes: the smaller has padding, which must not be trained on.
rows = [np.arange(60), np.arange(60, 80)]
job = recipe.Job(*(a[1] for a in splits.ragged(rows)))
key = jax.random.key(0)
mechanism = dp_sgd.mechanism(
  dp_sgd.DPConfig(epsilon=4, delta=1e-3), num_members=60, batch_size=20, num_epochs=1
)
for name, batches in (
  ("shuffled", recipe.shuffled(8)), ("poisson", dp_sgd.poisson(mechanism, 3))
):
  schedule = batches(key, job)
  drawn = np.where(schedule.valid, schedule.rows, -1)
  result[name] = [sorted(step) for step in drawn.tolist()]
for name in ("early_stopping:0.2", "crop:1"):
  plan = registry.plan((registry.parse(name),), train, dataset, num_members=60)
  outcome = parallel.run(
    registry.build(plan, dataset).recipe, key, recipe.Job(*splits.ragged(rows)),
    recipe.Data(dataset.x, dataset.y), width=2,
  )
  result[name] = outcome.metrics["loss"].tolist()
result["x64"] = jax.config.jax_enable_x64
print(json.dumps(result))
"""


def _start(wide):
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": str(wide)}
  return subprocess.Popen(
    [sys.executable, "-c", _AUDIT],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.fixture(scope="module")
def of_both():
  found = []
  for process in (_start(0), _start(1)):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    found.append(json.loads(out))
  ordinary, wide = found
  assert (ordinary.pop("x64"), wide.pop("x64")) == (False, True)
  return ordinary, wide


def test_the_same_rows_are_trained_on(of_both):
  ordinary, wide = of_both
  for name in ("shuffled", "poisson"):
    assert wide[name] == ordinary[name]
  visited = sorted(row for step in wide["shuffled"] for row in step if row >= 0)
  assert visited == list(range(60, 80))


def test_the_same_models_come_of_it_and_attacks_say_the_same(of_both):
  # But for rounding, as rates and Adam's corrections are computed in 64 bits.
  ordinary, wide = of_both
  assert wide.keys() == ordinary.keys()
  for name in ordinary:
    np.testing.assert_allclose(wide[name], ordinary[name], rtol=5e-3, err_msg=name)
