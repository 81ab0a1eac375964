import jax
import jax.numpy as jnp
import numpy as np
import training_example as example

from jmia.training import distillation, optimizers, parallel
from jmia.training import recipe as recipe_lib

# softmax([log 2, 0, 0]) = [1/2, 1/4, 1/4]
LOGITS = np.log(np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2]], np.float32))


def test_a_students_targets_are_its_teachers_probabilities():
  rows = jnp.array([2, 0])
  targets = jax.nn.one_hot(jnp.array([1, 1]), 3)
  batch = recipe_lib.Batch(jnp.zeros((2, 1)), targets, rows, jnp.ones(2, bool))
  both = np.stack([LOGITS, LOGITS[::-1]])
  data = distillation.Data(np.zeros((4, 1)), np.zeros(4, np.int32), both)
  for teacher, expected in [
    (0, [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]),
    (1, [[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]),
    (distillation.NO_TEACHER, [[0, 1, 0], [0, 1, 0]]),
  ]:
    job = distillation.Job(np.arange(3), np.int32(3), np.int32(teacher))
    out = distillation.soft_labels(None, batch, job, data)
    np.testing.assert_allclose(out.targets, expected, rtol=1e-6)
    assert out.rows is rows
    assert out.x is batch.x


def test_students_imitate_and_their_neighbours_learn_the_labels():
  # One teacher says the class after the true one, the other the class before. Side by
  # side in one run each student comes to agree with its own, and the third model with
  # the labels.
  x, y = example.data()
  teachers = 8 * np.eye(3, dtype=np.float32)[[(y + 1) % 3, (y + 2) % 3]]
  members = example.jobs(12, 12, 12)
  recipe = recipe_lib.supervised(
    example.Linear(),
    optimizers.transformation(optimizers.OptimizerConfig()),
    example_shape=example.SHAPE,
    num_classes=3,
    batch_size=12,
    num_epochs=150,
    learning_rate=lambda epoch: 0.5,
    transform=recipe_lib.chain(distillation.soft_labels, recipe_lib.normalize(1)),
  )
  predict = recipe_lib.predictor(example.Linear(), 1)

  def answers(state, job, data):
    logits = predict(recipe_lib.model_variables(state), data.x[job.member_idx])
    return logits.argmax(-1), data.y[job.member_idx]

  result = parallel.run(
    recipe,
    jax.random.key(0),
    distillation.Job(*members, np.array([0, 1, distillation.NO_TEACHER])),
    distillation.Data(x, y, teachers),
    collect=answers,
    width=3,
  )
  said, labels = result.collected
  np.testing.assert_array_equal(said[0], (labels[0] + 1) % 3)
  np.testing.assert_array_equal(said[1], (labels[1] + 2) % 3)
  np.testing.assert_array_equal(said[2], labels[2])
  # Accuracy is agreement with the targets that a model was given.
  np.testing.assert_allclose(result.metrics["accuracy"][:, -1], 1, rtol=1e-6)
