"""Synthetic answers of models that held some of the samples, and evidence of them."""

import numpy as np

from jmia.attacks import evidence


def losses_of(phi):
  """`-log p` of logit-scaled confidences."""
  return np.logaddexp(0, -np.asarray(phi, np.float64))


def draw(seed, shape, *, num_models, effect=1.0, max_phi=np.inf):
  """Returns phi `shape`, its references', who held what, and who is a member."""
  rng = np.random.default_rng(seed)
  members = rng.random(shape[0]) < 0.5
  held = np.argsort(rng.random((num_models, shape[0])), axis=0) < num_models // 2
  extra = (1,) * (len(shape) - 1)
  hardness = rng.normal(2, 2, shape)
  spread = np.exp(rng.normal(0, 0.4, shape))
  widen = lambda mask: mask.reshape(mask.shape + extra)  # noqa: E731
  noise = rng.standard_normal((num_models + 1, *shape))
  of_all = hardness + spread * (noise + effect * widen(np.vstack([members, held])))
  of_all = np.minimum(of_all, max_phi)  # ties, as of saturated answers
  return of_all[0], of_all[1:], held, members


def evidence_of(phi, references, held, members, num_samples):
  """The first samples are evaluated, the rest are a population; both groups' models."""

  def signals_of(array):
    return {
      "scaled_logit": array.astype(np.float32),
      "loss": losses_of(array).astype(np.float32),
    }

  def rows(signals, part):
    return {name: array[..., part] for name, array in signals.items()}

  first, rest = slice(num_samples), slice(num_samples, None)
  of_target, of_models = signals_of(phi), signals_of(references)
  labels = np.zeros(len(phi), np.int32)
  group = evidence.Group(
    held=held[:, first],
    out=~held[:, first],
    signals=rows(of_models, first),
    population_held=held[:, rest],
    population_out=~held[:, rest],
    population=rows(of_models, rest),
    population_labels=labels[rest],
  )
  return evidence.Evidence(
    index=np.arange(num_samples),
    labels=labels[first],
    members=members[first],
    num_classes=2,
    signals=rows(of_target, first),
    population_labels=labels[rest],
    population=rows(of_target, rest),
    groups={"reference": group, "in_out": group},
  )
