"""One small encoding that several tests share: digits, two models, two keys."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np

from jmia import datasets
from jmia.encoding import encode
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib
from jmia.training import optimizers

NUM_MEMBERS, NUM_ENCODED = 400, 80


class Encoded(NamedTuple):
  dataset: object
  model: object
  keys: list
  jobs: encode.Job
  variables: list
  metrics: dict

  def members(self, m):
    return self.jobs.member_idx[m][self.jobs.is_encoded[m]]

  def others(self, m):
    return np.setdiff1d(np.arange(self.dataset.num_examples), self.jobs.member_idx[m])


def config(num_epochs=100):
  train = config_lib.TrainConfig(
    model="mlp_256_128",
    optimizer=optimizers.OptimizerConfig(
      learning_rate=0.02, schedule="piecewise", boundaries=(num_epochs * 3 // 4,)
    ),
    batch_size=60,
    num_epochs=num_epochs,
  )
  return encode.EncodeConfig(train=train, layer="Dense_1", discriminator_rate=0.1)


@functools.cache
def encoded(num_models=2) -> Encoded:
  """Digits, encoded by Algorithm 1."""
  dataset = datasets.load("digits")
  settings = config()
  model = config_lib.make_model(settings.train, dataset)
  key = keys_lib.Key(secret=0, layer=settings.layer, num_synthetic=100)
  keys = [dataclasses.replace(key, secret=100 + m) for m in range(num_models)]
  rng = np.random.default_rng(0)
  rows = [rng.permutation(dataset.num_examples) for _ in keys]
  jobs = encode.make_jobs(
    [r[:NUM_MEMBERS] for r in rows],
    [r[:NUM_ENCODED] for r in rows],
    keys_lib.expand(keys, model, dataset.x.shape[1:]),
  )
  result = encode.train(settings, dataset, jobs, jax.random.key(0))
  assert (result.diverged_epoch == -1).all()
  variables = [result.model(m) for m in range(num_models)]
  return Encoded(dataset, model, keys, jobs, variables, result.metrics)
