import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jmia.training import optimizers

CURVATURE = np.array([0.5, 2.0, 4.0], np.float32)
START = np.array([1.0, -2.0, 0.5], np.float32)


def _descend(config, num_steps):
  """Minimises `CURVATURE w^2 / 2` by the update rule of `recipe.supervised`."""
  transformation = optimizers.transformation(config)
  params = jnp.asarray(START)
  state, steps = transformation.init(params), []
  for _ in range(num_steps):
    updates, state = transformation.update(CURVATURE * params, state, params)
    params = params - config.learning_rate * updates
    steps.append(np.asarray(params))
  return np.stack(steps)


@pytest.mark.parametrize(
  ("name", "momentum", "weight_decay", "nesterov"),
  [
    ("sgd", 0.0, 0.0, False),
    ("sgd", 0.9, 0.0, False),
    ("sgd", 0.9, 0.05, False),
    ("sgd", 0.9, 0.05, True),
    ("sgd", 0.0, 0.05, False),
    ("adam", 0.9, 0.0, False),
    ("adam", 0.9, 0.05, False),
  ],
)
def test_updates_are_those_of_torch(name, momentum, weight_decay, nesterov):
  torch = pytest.importorskip("torch")
  config = optimizers.OptimizerConfig(
    name=name,
    learning_rate=0.1,
    momentum=momentum,
    weight_decay=weight_decay,
    nesterov=nesterov,
  )
  params = torch.nn.Parameter(torch.from_numpy(START.copy()))
  settings = {"lr": 0.1, "weight_decay": weight_decay}
  if name == "sgd":
    settings |= {"momentum": momentum, "nesterov": nesterov}
    optimizer = torch.optim.SGD([params], **settings)
  else:
    optimizer = torch.optim.Adam([params], **settings)
  expected = []
  for _ in range(6):
    params.grad = torch.from_numpy(CURVATURE) * params.detach()
    optimizer.step()
    expected.append(params.detach().numpy().copy())
  # Adam divides by 1 - 0.999^t, which float32 holds to 1e-5.
  np.testing.assert_allclose(_descend(config, 6), expected, rtol=1e-5, atol=1e-5)


def test_momentum_and_decay_by_hand():
  # w = 1, curvature 0.5, decay 0.5: gradient 1 at the start.
  config = optimizers.OptimizerConfig(learning_rate=0.1, momentum=0.5, weight_decay=0.5)
  # w: 1 -> 1 - 0.1 * 1 = 0.9 -> 0.9 - 0.1 (0.9 + 0.5 * 1) = 0.76.
  np.testing.assert_allclose(_descend(config, 2)[:, 0], [0.9, 0.76], rtol=1e-6)


def test_nesterov_is_the_plain_loop_and_by_hand():
  config = optimizers.OptimizerConfig(
    learning_rate=0.1, momentum=0.5, nesterov=True, weight_decay=0.5
  )
  weight, momentum, expected = START.astype(np.float64), 0.0, []
  for _ in range(6):
    gradient = (CURVATURE + 0.5) * weight
    momentum = 0.5 * momentum + gradient
    weight = weight - 0.1 * (gradient + 0.5 * momentum)
    expected.append(weight)
  found = _descend(config, 6)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  # w = 1, gradient 1, momentum 1: 1 - 0.1 (1 + 0.5). Then gradient 0.85, momentum 1.35.
  np.testing.assert_allclose(found[:2, 0], [0.85, 0.85 - 0.1 * 1.525], rtol=1e-6)


def test_adam_by_hand():
  # Its first step is the rate times the gradient's sign, whatever the gradient.
  config = optimizers.OptimizerConfig(name="adam", learning_rate=0.1)
  np.testing.assert_allclose(_descend(config, 1)[0], [0.9, -1.9, 0.4], rtol=1e-5)


@pytest.mark.parametrize(
  ("settings", "expected"),
  [
    ({"schedule": "constant"}, [0.2] * 4),
    # (1 + cos(pi e / 4)) / 2 at e = 0, 1, 2, 3
    (
      {"schedule": "cosine"},
      [0.2, 0.2 * 0.8535534, 0.2 * 0.5, 0.2 * 0.1464466],
    ),
    ({"schedule": "piecewise", "boundaries": (1, 3)}, [0.2, 0.02, 0.02, 0.002]),
    (
      {"schedule": "piecewise", "boundaries": (2,), "factor": 0.5},
      [0.2, 0.2, 0.1, 0.1],
    ),
    ({"schedule": "piecewise", "boundaries": (2, 2)}, [0.2, 0.2, 0.002, 0.002]),
    ({"schedule": "linear"}, [0.2 * s / 8 for s in (7, 5, 3, 1)]),
    ({"schedule": "linear", "warmup": 0.25}, [0.1, 0.2 * 5 / 6, 0.1, 0.2 / 6]),
  ],
)
def test_schedules_by_hand(settings, expected):
  config = optimizers.OptimizerConfig(learning_rate=0.2, **settings)
  rates = jax.vmap(optimizers.schedule(config, 4))(jnp.arange(4))
  np.testing.assert_allclose(rates, expected, rtol=1e-5)
  assert rates.dtype == jnp.float32


def test_two_lines_are_those_of_optax_between_the_ends_of_an_epoch():
  config = optimizers.OptimizerConfig(
    learning_rate=0.4, schedule="linear", warmup=5 / 24
  )
  rates = jax.vmap(optimizers.schedule(config, 24))(jnp.arange(24))
  lines = optax.join_schedules(
    [optax.linear_schedule(0.0, 0.4, 5), optax.linear_schedule(0.4, 0.0, 19)], [5]
  )
  of_line = jax.vmap(lines)(jnp.arange(25))
  np.testing.assert_allclose(rates, (of_line[:-1] + of_line[1:]) / 2, rtol=1e-4)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"name": "adamm"}, "optimizer 'adamm'.*'adam'"),
    ({"schedule": "cosin"}, "schedule 'cosin'.*'cosine'"),
    ({"learning_rate": 0}, "learning_rate=0"),
    ({"learning_rate": float("nan")}, "learning_rate=nan"),
    ({"factor": -1}, "factor=-1"),
    ({"momentum": 1.5}, "momentum=1.5"),
    ({"weight_decay": -0.1}, "weight_decay=-0.1"),
    ({"weight_decay": float("nan")}, "weight_decay=nan"),
    ({"schedule": "piecewise"}, r"boundaries=\(\)"),
    ({"boundaries": (3,)}, r"boundaries=\(3,\)"),
    ({"name": "adam", "nesterov": True}, "nesterov=True goes with 'sgd'"),
    ({"momentum": 0.0, "nesterov": True}, "nesterov=True goes with 'sgd'"),
    ({"schedule": "linear", "warmup": 1.0}, "warmup=1.0"),
    ({"schedule": "cosine", "warmup": 0.1}, "warmup=0.1 with schedule='cosine'"),
  ],
)
def test_settings_are_checked(settings, message):
  with pytest.raises(ValueError, match=message):
    optimizers.OptimizerConfig(**settings)
