"""Datasets whose labels are clusters of their rows, as some of the papers' are.

Song and Shokri train on Purchase with 5 classes and on Texas with 10, each found by
k-means, as the 100 classes of the public files were (Shokri et al., *Membership
Inference Attacks against Machine Learning Models*, 2017).
"""

import numpy as np

from jmia import types

_FIT_ROWS = 20_000  # k-means on more rows finds the same few clusters


def relabel(dataset: types.Dataset, num_classes: int, *, seed: int = 0):
  """Returns the dataset with k-means clusters of its features for labels.

  Args:
    dataset: any; rows are flattened.
    num_classes: number of clusters, found on at most 20,000 rows.
    seed: of the rows and of k-means (scikit-learn's, four starts).

  Returns:
    A `types.Dataset` of `num_classes` classes, numbered from the largest.

  Raises:
    ValueError: if `num_classes` is below 2 or not below the number of rows.
  """
  from sklearn import cluster

  if not 2 <= num_classes < dataset.num_examples:
    raise ValueError(
      f"num_classes={num_classes} must be from 2 to {dataset.num_examples - 1}"
    )
  flat = dataset.x.reshape(dataset.num_examples, -1)
  rng = np.random.default_rng(seed)
  rows = rng.permutation(len(flat))[:_FIT_ROWS]
  means = cluster.KMeans(num_classes, n_init=4, random_state=seed)
  means.fit(flat[rows].astype(np.float32))
  found = np.concatenate(
    [
      means.predict(part.astype(np.float32))
      for part in np.array_split(flat, -(-len(flat) // _FIT_ROWS))
    ]
  )
  by_size = np.argsort(-np.bincount(found, minlength=num_classes), kind="stable")
  return dataset._replace(
    name=f"{dataset.name}, {num_classes} clusters",
    y=np.argsort(by_size)[found].astype(np.int32),
    num_classes=num_classes,
    class_names=(),
    description=f"{dataset.description} Relabelled: {num_classes} classes by k-means.",
  )
