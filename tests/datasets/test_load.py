import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from jmia import datasets
from jmia.datasets import purchase_synthetic


def test_digits_are_scikit_learns():
  bunch = sklearn_datasets.load_digits()
  dataset = datasets.load("digits")
  assert dataset.x.shape == (1797, 8, 8, 1)
  assert dataset.x.dtype == np.uint8
  np.testing.assert_array_equal(dataset.x.reshape(1797, 64), bunch.data)
  np.testing.assert_array_equal(dataset.y, bunch.target)
  assert dataset.y.dtype == np.int32
  assert (dataset.num_classes, dataset.num_train) == (10, 1797)
  assert (dataset.x * dataset.feature_scale).max() == 1.0
  assert not dataset.is_synthetic


def test_synthetic_purchase_is_as_generated_and_says_what_it_is(monkeypatch):
  asked = []

  def generate(num_examples, *, seed, start):
    asked.append((num_examples, seed, start))
    return np.ones((4, 600), np.uint8), np.arange(4, dtype=np.int32)

  monkeypatch.setattr(purchase_synthetic, "generate", generate)
  dataset = datasets.load("purchase100_synthetic", num_examples=4, seed=3)
  datasets.load("purchase100_synthetic")
  assert asked == [(4, 3, 0), (200_000, 0, 0)]
  np.testing.assert_array_equal(dataset.x, np.ones((4, 600)))
  np.testing.assert_array_equal(dataset.y, [0, 1, 2, 3])
  assert (dataset.num_classes, dataset.num_train) == (100, 4)
  assert (dataset.feature_scale, dataset.is_synthetic) == (1.0, True)
  assert "synthetic" in dataset.description.lower()


def test_names_are_what_load_knows():
  assert datasets.names() == (
    "digits",
    "purchase100_synthetic",
    "location30",
    "purchase100",
    "texas100",
    "mnist",
    "cifar10",
    "cifar100",
    "stl10",
  )


@pytest.mark.parametrize(
  ("name", "nearest"),
  [("minst", "mnist"), ("cifar-10", "cifar10"), ("npz", "npz:PATH")],
)
def test_unknown_name_suggests_the_nearest(name, nearest):
  with pytest.raises(ValueError, match=f"{name}.*did you mean '{nearest}'"):
    datasets.load(name)


@pytest.mark.parametrize(
  ("name", "meant"),
  [
    ("digits.npz", "npz:digits.npz"),
    ("a/b.CSV", "table:a/b.CSV?target=NAME"),
    ("b.parquet?target=y", "table:b.parquet?target=y"),
    ("images", "folder:images"),
  ],
)
def test_a_path_alone_is_told_what_to_write_before_it(
  name, meant, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "images").mkdir()
  (tmp_path / "digits").mkdir()  # hides no dataset of that name
  with pytest.raises(ValueError, match="is a path alone") as refused:
    datasets.load(name)
  assert f"did you mean '{meant}'?" in str(refused.value)
  assert datasets.load("digits").num_examples == 1797


@pytest.mark.parametrize("name", ["digits", "mnist", "location30", "npz:some.npz"])
def test_num_examples_of_a_fixed_size_is_refused(name, tmp_path):
  with pytest.raises(ValueError, match=r"num_examples=10 .* fixed size"):
    datasets.load(name, num_examples=10, data_dir=tmp_path)


def test_default_data_dir_is_that_of_tfds(monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", "/somewhere")
  assert datasets._data_dir(None) == pathlib.Path("/somewhere")
  monkeypatch.delenv("TFDS_DATA_DIR")
  monkeypatch.setenv("HOME", "/home/me")
  assert datasets._data_dir(None) == pathlib.Path("/home/me/tensorflow_datasets")
  assert datasets._data_dir("~/mine") == pathlib.Path("/home/me/mine")


_WITHOUT_TFDS = """
import json, sys
sys.modules["tensorflow_datasets"] = None  # importing it raises ImportError
from jmia import datasets
from jmia.datasets import purchase_synthetic
heavy = sorted({"jax", "sklearn", "scipy", "PIL"} & sys.modules.keys())
npz, data_dir = sys.argv[1:]
sizes = [
  datasets.load("digits").num_examples,
  datasets.load("npz:" + npz).num_examples,
]
try:
  datasets.load("mnist", data_dir=data_dir)
  error = ""
except ImportError as e:
  error = str(e)
print(json.dumps([heavy, sizes, error]))
"""


def test_without_tfds_all_else_works(tmp_path):
  path = tmp_path / "own.npz"
  np.savez(path, x=np.eye(4, 2), y=np.array([0, 1, 0, 1]))
  command = [sys.executable, "-c", _WITHOUT_TFDS, str(path), str(tmp_path)]
  root = pathlib.Path(datasets.__file__).parents[2]
  done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
  heavy, sizes, error = json.loads(done.stdout)
  assert heavy == []
  assert sizes == [1797, 4]
  assert error.startswith("mnist is read with tensorflow-datasets")
  assert "\n" not in error
