"""Columns of a user's data that say which group a row belongs to."""

import numpy as np
from PIL import Image
import pytest

from jmia import datasets
from jmia.datasets import groups


def test_arrays_of_an_npz(tmp_path):
  rng = np.random.default_rng(0)
  path = tmp_path / "a.npz"
  arrays = {"x": rng.normal(size=(6, 2)), "y": np.arange(6) % 2, "sex": np.arange(6)}
  np.savez(path, **arrays)
  dataset = datasets.load(f"npz:{path}")
  found = groups.load(dataset, ("sex",))
  np.testing.assert_array_equal(found["sex"], np.arange(6))
  with pytest.raises(ValueError, match=r"has no column 'age' .has: sex, y"):
    groups.load(dataset, ("age",))
  assert groups.files(dataset) == {}
  test = {"x_test": rng.normal(size=(3, 2)), "y_test": np.arange(3) % 2}
  np.savez(path, **arrays, **test, sex_test=np.full(3, 9))
  found = groups.load(datasets.load(f"npz:{path}"), ("sex",))
  np.testing.assert_array_equal(found["sex"], [0, 1, 2, 3, 4, 5, 9, 9, 9])


def test_an_array_of_objects_is_not_in_the_way_of_others(tmp_path):
  path = tmp_path / "a.npz"
  arrays = {"x": np.eye(6), "y": np.arange(6) % 2, "sex": np.arange(6)}
  np.savez(path, **arrays, who=np.array(["a", None] * 3, object))
  dataset = datasets.load(f"npz:{path}")
  assert set(groups.names(dataset)) == {"y", "sex"}
  np.testing.assert_array_equal(groups.load(dataset, ("sex",))["sex"], np.arange(6))
  with pytest.raises(ValueError, match=r"who holds Python objects.* who\.astype"):
    groups.load(dataset, ("who",))


def test_an_array_of_one_column_is_a_column(tmp_path):
  path = tmp_path / "a.npz"
  sex = np.arange(6)[:, None]
  np.savez(path, x=np.eye(6), y=np.arange(6) % 2, sex=sex, two=np.eye(6)[:, :2])
  dataset = datasets.load(f"npz:{path}")
  assert set(groups.names(dataset)) == {"y", "sex"}
  np.testing.assert_array_equal(groups.load(dataset, ("sex",))["sex"], np.arange(6))


def test_an_array_of_another_length(tmp_path):
  path = tmp_path / "a.npz"
  np.savez(path, x=np.eye(6), y=np.arange(6) % 2, sex=np.arange(5))
  dataset = datasets.load(f"npz:{path}")
  with pytest.raises(ValueError, match=r"sex has shape \(5,\), expected \(6,\)"):
    groups.load(dataset, ("sex",))


def _save(folder, *names):
  for n, name in enumerate(names):
    (folder / name).parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((4, 4), n, np.uint8)).save(folder / name)


@pytest.mark.parametrize("csv_name", ["labels.csv", "L.CSV"])
def test_further_columns_of_a_folder(tmp_path, csv_name):
  _save(tmp_path, *(f"{n}.png" for n in range(4)))
  lines = ["file,class,region"]
  for n in range(4):
    lines.append(f"{n}.png,{n % 2},{'north' if n < 2 else 'south'}")
  (tmp_path / csv_name).write_text("\n".join(lines))
  dataset = datasets.load(f"folder:{tmp_path}")
  found = groups.load(dataset, ("region",))
  assert found["region"].tolist() == ["north", "north", "south", "south"]
  assert groups.files(dataset)["file"].tolist() == [f"{n}.png" for n in range(4)]


def test_folders_without_titles_have_no_columns(tmp_path):
  (tmp_path / "each").mkdir()
  (tmp_path / "listed").mkdir()
  names = [f"{c}/{n}.png" for c in "ab" for n in range(2)]
  _save(tmp_path / "each", *names)
  _save(tmp_path / "listed", *names)
  lines = [f"{name},{name[0]},north" for name in names]
  (tmp_path / "listed" / "labels.csv").write_text("\n".join(lines))
  for folder in ("each", "listed"):
    dataset = datasets.load(f"folder:{tmp_path / folder}")
    assert groups.names(dataset) == ()
    assert groups.files(dataset)["file"].tolist() == names
    with pytest.raises(ValueError, match=r"has no column 'region' .has: none"):
      groups.load(dataset, ("region",))


def test_a_title_that_two_columns_share_is_no_column(tmp_path):
  _save(tmp_path, *(f"{n}.png" for n in range(4)))
  lines = ["file,class,site,site", *(f"{n}.png,{n % 2},a,{n}" for n in range(4))]
  (tmp_path / "labels.csv").write_text("\n".join(lines))
  dataset = datasets.load(f"folder:{tmp_path}")
  with pytest.raises(ValueError, match=r"has no column 'site' .has: class, file"):
    groups.load(dataset, ("site",))


def test_columns_of_a_table():
  given = np.array([(1.0, "f"), (2.0, "m")], [("age", float), ("sex", "U1")])
  dataset = datasets.load("digits")._replace(x=np.ones((2, 2)), y=np.zeros(2, np.int32))
  if not hasattr(dataset, "given"):
    pytest.skip("datasets do not keep their tables")
  found = groups.load(dataset._replace(given=given), ("sex",))
  assert found["sex"].tolist() == ["f", "m"]


def test_data_without_columns():
  with pytest.raises(ValueError, match=r"digits has no column 'sex' .has: none"):
    groups.load(datasets.load("digits"), ("sex",))
