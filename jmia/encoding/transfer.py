"""Transfer: an encoded model's features, a new head, another task.

Song and Shokri, section 6 and Figure 8: all parameters but the head's are kept as a
starting point, and all are trained on. The white-box encoding is then read from the
tuned model by the same key.
"""

from collections.abc import Iterator
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import _validate, types
from jmia.encoding import published
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

PyTree = Any
HEAD = "logits"  # the output layer of every model of `jmia.models`


def like(dataset: types.Dataset, example_shape: tuple[int, ...]) -> types.Dataset:
  """Returns a dataset of images resized (bilinear) to the shape a model takes.

  Args:
    dataset: images `[N, H, W, channels]`.
    example_shape: `(H', W', channels)`.

  Raises:
    ValueError: if the rows are not images, or the number of channels differs.
  """
  shape = dataset.x.shape[1:]
  if shape == tuple(example_shape):
    return dataset
  if len(shape) != 3 or len(example_shape) != 3 or shape[-1] != example_shape[-1]:
    raise ValueError(
      f"dataset={dataset.name!r} has rows of shape {shape}, which cannot be resized to"
      f" {tuple(example_shape)}: expected images of as many channels"
    )
  resize = jax.jit(
    jax.vmap(lambda x: jax.image.resize(x.astype(np.float32), example_shape, "linear"))
  )
  parts = [
    np.asarray(resize(part))
    for part in np.array_split(dataset.x, -(-len(dataset.x) // 1000))
  ]
  x = np.concatenate(parts)
  if dataset.x.dtype == np.uint8:
    x = np.clip(np.rint(x), 0, 255).astype(np.uint8)
  return dataset._replace(x=x)


class _ResumeJob(NamedTuple):
  """As `recipe.Job`, with the state (its key apart) that training goes on from."""

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  state: PyTree


def tune(
  config: config_lib.TrainConfig,
  dataset: types.Dataset,
  variables: PyTree,
  members: np.ndarray,
  key: jax.Array,
  *,
  every: int,
  **run_options: Any,
) -> Iterator[tuple[int, PyTree]]:
  """Fine-tunes published models with a new head, and shows them on the way.

  Args:
    config: the paper's: 60 epochs at 0.001.
    dataset: of the new task, its rows of the shape the models take.
    variables: of `M` models, leaves `[M, ...]`.
    members: `[M, K]` rows that each is tuned on.
    key: typed key `[]`.
    every: epochs between two looks; they change nothing in the training.
    **run_options: of `parallel.run`; of `checkpoint_dir` each stage has a folder.

  Yields:
    Epochs done, and the variables `[M, ...]` after them.

  Raises:
    ValueError: if `every` is below 1, or as `parallel.run`.
  """
  _validate.positive("every", every)
  ordinary = config_lib.build(config, dataset).recipe
  recipe = published.start_from(ordinary, fresh=(HEAD,))
  num_members = np.full(len(members), members.shape[1], np.int32)
  jobs: Any = published.TuneJob(members, num_members, variables)
  folder = run_options.pop("checkpoint_dir", None)
  for start in range(0, config.num_epochs, every):
    done = min(start + every, config.num_epochs)
    state = parallel.run(
      recipe._replace(num_epochs=done - start),
      key,
      jobs,
      recipe_lib.Data(dataset.x, dataset.y),
      collect=lambda state, job, data: state._replace(key=()),
      checkpoint_dir=folder and pathlib.Path(folder) / f"after_{start:05d}",
      **run_options,
    ).collected
    yield done, recipe_lib.model_variables(state)
    # The whole state is handed on, and the key is the same: stages are one training.
    recipe = ordinary._replace(init=lambda key, job: job.state._replace(key=key))
    jobs = _ResumeJob(members, num_members, state)
