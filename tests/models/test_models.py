import doctest
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia import models
from jmia.models import alexnet, cnn, mlp, resnet, resnet9, vgg

# Small networks of every module, for what must run and not only be shaped.
TINY = {
  "mlp": {"features": (7, 5)},
  "cnn": {"features": (3, 4), "hidden": (6,)},
  "vgg": {"blocks": ((3,), (4,)), "hidden": (16,), "batch_norm": True},
  "resnet9": {"widths": (3, 4, 5)},
  "resnet18": {"stage_sizes": (1, 1), "widths": (3, 5)},
  "resnet32": {"stage_sizes": (1, 1), "widths": (3, 6)},
}
WITH_BATCH_NORM = ("vgg", "resnet9", "resnet18")


def _images(batch=4):
  return np.random.default_rng(9).random((batch, 8, 8, 3), np.float32)


def _tiny(name, **options):
  return models.make(name, 4, **TINY[name], **options)


def _variables(module, x, seed=0):
  """Random parameters and positive statistics: nothing is compiled to draw them."""
  rng = np.random.default_rng(seed)
  init = functools.partial(module.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), x)

  def draw(path, leaf):
    if path[0].key == "batch_stats":
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    return rng.normal(0, 0.4, leaf.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def _num_parameters(name, num_classes, shape):
  module = models.make(name, num_classes)
  x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), x)
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _assert_close(actual, expected, tolerance=1e-5):
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance),
    actual,
    expected,
  )


@pytest.mark.parametrize("name", models.names())
def test_every_model_returns_float32_logits(name):
  module = models.make(name, 7, dtype=jnp.bfloat16)
  x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  key = jax.random.key(0)
  eval_logits, variables = jax.eval_shape(module.init_with_output, key, x)
  mask = jax.ShapeDtypeStruct((2,), bool)

  def train(variables, x, mask):
    options = {"train": True, "mask": mask, "mutable": ["batch_stats"]}
    return module.apply(variables, x, rngs={"dropout": key}, **options)

  logits, _ = jax.eval_shape(train, variables, x, mask)
  assert logits.shape == (2, 7)
  assert logits.dtype == jnp.float32
  assert eval_logits == logits
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
  ("name", "num_classes", "shape", "expected"),
  [
    # Dense layers: (inputs + 1) * outputs.
    (
      "mlp_purchase",
      100,
      (600,),
      601 * 512 + 513 * 256 + 257 * 128 + 129 * 64 + 65 * 100,
    ),
    ("mlp_mib", 30, (446,), 447 * 256 + 257 * 128 + 129 * 30),
    ("mlp_512_128", 10, (28, 28, 1), 785 * 512 + 513 * 128 + 129 * 10),
    ("mlp_1024_256", 10, (600,), 601 * 1024 + 1025 * 256 + 257 * 10),
    # Convolutions: (side^2 * inputs + 1) * outputs; 28 -> 14 -> 7 and 32 -> 16 -> 8.
    (
      "cnn_32_64",
      10,
      (28, 28, 1),
      10 * 32 + (9 * 32 + 1) * 64 + (7 * 7 * 64 + 1) * 10,
    ),
    (
      "cnn_5x5_64_128",
      10,
      (28, 28, 1),
      26 * 64 + (25 * 64 + 1) * 128 + (7 * 7 * 128 + 1) * 10,
    ),
    (
      "cnn_report",
      10,
      (32, 32, 3),
      28 * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128 + (4 * 4 * 128 + 1) * 10,
    ),
    # Figures of widely used implementations.
    ("alexnet", 10, (32, 32, 3), 2_472_266),
    ("vgg_9", 10, (32, 32, 3), 3_491_530),
    ("resnet9", 10, (32, 32, 3), 6_573_120),
    ("resnet18", 10, (32, 32, 3), 11_173_962),
    ("resnet32", 10, (32, 32, 3), 464_154),
  ],
)
def test_number_of_parameters(name, num_classes, shape, expected):
  assert _num_parameters(name, num_classes, shape) == expected


def test_resnet32_has_the_statistics_of_31_normalisations():
  # One in the stem, two in each of 15 blocks, none on a shortcut.
  x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  module = models.make("resnet32", 10)
  stats = jax.eval_shape(module.init, jax.random.key(0), x)["batch_stats"]
  assert len(jax.tree.leaves(stats)) == 2 * 31


@pytest.mark.parametrize("size", [7, 8])
def test_shortcut_without_parameters(size):
  block = resnet.ResidualBlock(
    5, 2, projection=False, lowering="native", dtype="float32"
  )
  x = _images()[:, :size, :size]
  variables = _variables(block, x)
  # The residual is scaled to nothing, so what remains is the shortcut.
  for leaf in variables["params"]["BatchNorm_1"].values():
    leaf[:] = 0
  out = jax.jit(functools.partial(block.apply, train=False))(variables, x)
  expected = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (1, 1)))
  np.testing.assert_array_equal(out, expected)


def test_mlp_is_the_formula():
  x = _images(2)
  module = _tiny("mlp")
  variables = _variables(module, x)
  params = variables["params"]
  hidden = x.reshape(2, 8 * 8 * 3)
  for name in ("Dense_0", "Dense_1"):
    hidden = np.maximum(hidden @ params[name]["kernel"] + params[name]["bias"], 0)
  expected = hidden @ params["logits"]["kernel"] + params["logits"]["bias"]
  _assert_close(module.apply(variables, x), expected)


@pytest.mark.parametrize(
  ("mean", "std", "as_if"),
  [
    ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))),
    ((0.1, 0.3), (), (0.2, 1.0)),
    ((), (2.0,), (0.0, 2.0)),
  ],
)
def test_resnet9_sees_standardised_images(mean, std, as_if):
  x = _images()
  variables = _variables(_tiny("resnet9"), x)
  found = _tiny("resnet9", mean=mean, std=std).apply(variables, x)
  expected = _tiny("resnet9").apply(variables, (x - np.array(as_if[0])) / as_if[1])
  _assert_close(found, expected, tolerance=1e-5)


@pytest.mark.parametrize("name", ["cnn", "resnet9", "resnet18"])
def test_lowerings_share_parameters_and_agree(name):
  x = _images()
  variables = _variables(_tiny(name), x)

  def train(lowering):
    module = _tiny(name, lowering=lowering)
    options = {"train": True, "mutable": ["batch_stats"]}
    return jax.jit(functools.partial(module.apply, **options))(variables, x)

  _assert_close(train("patches"), train("native"), tolerance=1e-4)


def test_auto_on_an_accelerator(monkeypatch):
  calls = []
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(
    "jmia.models.layers.conv_by_patches",
    lambda lhs, rhs, *args, **kwargs: (
      calls.append(rhs.shape) or jax.lax.conv_general_dilated(lhs, rhs, *args, **kwargs)
    ),
  )
  x = _images(1)
  jax.eval_shape(_tiny("resnet18").init, jax.random.key(0), x)
  assert not calls
  jax.eval_shape(_tiny("cnn").init, jax.random.key(0), x)
  assert calls == [(3, 3, 3, 3), (3, 3, 3, 4)]


@pytest.mark.parametrize("name", ["mlp", "cnn", "vgg"])
def test_dropout_follows_its_key_and_is_off_in_eval(name):
  x = _images()
  native = {} if name == "mlp" else {"lowering": "native"}
  module = _tiny(name, dropout_rate=0.5, **native)
  variables = _variables(module, x)

  @jax.jit
  def train(seed):
    rngs = {"dropout": jax.random.key(seed)}
    options = {"train": True, "rngs": rngs, "mutable": ["batch_stats"]}
    return module.apply(variables, x, **options)[0]

  np.testing.assert_array_equal(train(0), train(0))
  assert not np.array_equal(train(0), train(1))
  plain = jax.jit(_tiny(name, **native).apply)(variables, x)
  np.testing.assert_array_equal(jax.jit(module.apply)(variables, x), plain)


def test_dropout_is_before_the_output():
  x = _images()
  module = _tiny("mlp", dropout_rate=1.0)
  variables = _variables(module, x)
  variables["params"]["logits"]["bias"] = jnp.arange(4.0)
  logits = module.apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)})
  np.testing.assert_array_equal(logits, np.tile(np.arange(4.0), (4, 1)))


@pytest.mark.parametrize("name", ["mlp", "cnn", "vgg", "resnet9", "resnet32"])
def test_vmapped_models_equal_one_by_one(name):
  x = _images()
  module = _tiny(name)
  each = [_variables(module, x, seed) for seed in range(3)]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)

  @jax.jit
  def train(variables):
    return module.apply(variables, x, train=True, mutable=["batch_stats"])

  together = jax.jit(jax.vmap(train))(stacked)
  for m, variables in enumerate(each):
    mine = jax.tree.map(lambda leaf, m=m: leaf[m], together)
    _assert_close(mine, train(variables), tolerance=1e-4)


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_masked_padding_leaves_no_trace(name):
  x = _images(5)
  module = _tiny(name, lowering="native")
  variables = _variables(module, x)
  mask = np.arange(8) < 5

  @jax.jit
  def train(x, mask):
    options = {"train": True, "mask": mask, "mutable": ["batch_stats"]}
    logits, state = module.apply(variables, x, **options)
    return logits[:5], state

  expected = train(x, None)
  for padding in (0, 100):
    padded = np.concatenate([x, np.full((3, 8, 8, 3), padding, np.float32)])
    _assert_close(train(padded, mask), expected, tolerance=1e-4)
    # The mask is what does it: with every row counted the statistics differ.
    with pytest.raises(AssertionError):
      _assert_close(train(padded, np.ones(8, bool))[1], expected[1], tolerance=1e-2)


def test_running_statistics():
  x = _images()
  module = _tiny("vgg", lowering="native")
  variables = _variables(module, x)

  @jax.jit
  def train(variables):
    _, state = module.apply(variables, x, train=True, mutable=["batch_stats"])
    conv = nn.Conv(3, (3, 3)).apply({"params": variables["params"]["Conv_0"]}, x)
    return state["batch_stats"]["BatchNorm_0"], conv

  new, conv = train(variables)
  old = variables["batch_stats"]["BatchNorm_0"]
  _assert_close(new["mean"], 0.9 * old["mean"] + 0.1 * conv.mean((0, 1, 2)))
  _assert_close(new["var"], 0.9 * old["var"] + 0.1 * conv.var((0, 1, 2)), 1e-4)


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_wrong_mask_is_refused(name):
  module = _tiny(name)
  with pytest.raises(ValueError, match=r"mask has shape \(3,\), expected \(4,\)"):
    jax.eval_shape(
      functools.partial(module.init, train=True, mask=np.ones(3, bool)),
      jax.random.key(0),
      _images(),
    )


@pytest.mark.parametrize("name", ["cnn", "alexnet", "vgg", "resnet9", "resnet18"])
def test_features_that_are_no_images_are_refused(name):
  with pytest.raises(ValueError, match=r"x has shape \(2, 600\), expected images"):
    models.make(name, 10).init(jax.random.key(0), np.zeros((2, 600)))


def test_images_too_small_are_refused():
  x = jnp.zeros((1, 28, 28, 3))
  with pytest.raises(ValueError, match="x has shape"):
    jax.eval_shape(models.make("alexnet", 10).init, jax.random.key(0), x)


@pytest.mark.parametrize(
  ("name", "module"),
  [
    ("mlp_mib", mlp.MLP(30, features=(256, 128), dropout_rate=0.5)),
    ("mlp_256_128", mlp.MLP(30, features=(256, 128))),
    ("mlp_report", mlp.MLP(30, features=(2048, 2048, 1024, 512, 64))),
    ("cnn_5x5_64_128", cnn.CNN(30, features=(64, 128), kernel_size=5)),
    ("alexnet", alexnet.AlexNet(30)),
    ("vgg_3block", vgg.VGG(30, ((64, 64), (128, 128), (256, 256)), (128,))),
    ("resnet9", resnet9.ResNet9(30, (128, 256, 512))),
    ("resnet18", resnet.ResNet(30, (2, 2, 2, 2), (64, 128, 256, 512), True)),
    ("resnet32", resnet.ResNet(30, (5, 5, 5), (16, 32, 64), False)),
  ],
)
def test_named_variants(name, module):
  assert models.make(name, 30) == module


def test_options_replace_the_variants_own_and_lists_are_tuples():
  module = models.make("mlp_mib", 5, features=[64], dropout_rate=0.1)
  assert module == mlp.MLP(5, features=(64,), dropout_rate=0.1)
  nested = models.make("vgg", 5, blocks=[[8], [8, 8]])
  assert hash(nested) == hash(models.make("vgg", 5, blocks=((8,), (8, 8))))
  assert models.make("mlp_mib", 5).features == (256, 128)


@pytest.mark.parametrize(
  ("name", "num_classes", "options", "message"),
  [
    ("resnet_18", 10, {}, "unknown model 'resnet_18'; did you mean 'resnet18'"),
    ("mlp", 10, {"feature": (3,)}, "unknown option of model 'mlp' 'feature'; did you"),
    ("mlp", 10, {"num_classes_": 3}, "unknown option of model 'mlp'"),
    ("cnn", 10, {"lowering": "patch"}, "unknown lowering 'patch'"),
    ("mlp", 0, {}, "num_classes=0 must be an integer of at least 1"),
    ("mlp", 2.5, {}, "num_classes=2.5 must be"),
    ("mlp", 10, {"features": (64, 0)}, "features=0 must be"),
    ("vgg", 10, {"blocks": ((8,), (-8,))}, "blocks=-8 must be"),
    ("cnn", 10, {"kernel_size": 0}, "kernel_size=0 must be"),
    ("mlp", 10, {"dropout_rate": 1.5}, "dropout_rate=1.5 must lie in"),
    ("resnet18", 10, {"widths": (8, 8)}, "differ in length"),
    ("resnet9", 10, {"std": (1.0, 0.0)}, "std=0.0 must be"),
  ],
)
def test_bad_requests_are_refused(name, num_classes, options, message):
  with pytest.raises(ValueError, match=message):
    models.make(name, num_classes, **options)


def test_docstring_examples():
  assert doctest.testmod(models) == doctest.TestResults(failed=0, attempted=2)
