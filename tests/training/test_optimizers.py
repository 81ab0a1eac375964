import jax
import jax.numpy as jnp
import numpy as np
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
  ("name", "momentum", "weight_decay"),
  [
    ("sgd", 0.0, 0.0),
    ("sgd", 0.9, 0.0),
    ("sgd", 0.9, 0.05),
    ("sgd", 0.0, 0.05),
    ("adam", 0.9, 0.0),
    ("adam", 0.9, 0.05),
  ],
)
def test_updates_are_those_of_torch(name, momentum, weight_decay):
  torch = pytest.importorskip("torch")
  config = optimizers.OptimizerConfig(
    name=name, learning_rate=0.1, momentum=momentum, weight_decay=weight_decay
  )
  params = torch.nn.Parameter(torch.from_numpy(START.copy()))
  settings = {"lr": 0.1, "weight_decay": weight_decay}
  if name == "sgd":
    optimizer = torch.optim.SGD([params], momentum=momentum, **settings)
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
  ],
)
def test_schedules_by_hand(settings, expected):
  config = optimizers.OptimizerConfig(learning_rate=0.2, **settings)
  rates = jax.vmap(optimizers.schedule(config, 4))(jnp.arange(4))
  np.testing.assert_allclose(rates, expected, rtol=1e-5)
  assert rates.dtype == jnp.float32


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
  ],
)
def test_settings_are_checked(settings, message):
  with pytest.raises(ValueError, match=message):
    optimizers.OptimizerConfig(**settings)
