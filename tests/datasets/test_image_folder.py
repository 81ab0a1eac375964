import numpy as np
from PIL import Image
import pytest

from jmia import datasets
from jmia.datasets import image_folder


def _folder(tmp_path, images, rows, header="file,category"):
  for name, image in images.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(tmp_path / name)
  (tmp_path / "train.csv").write_text("\n".join([header, *rows]))
  return f"folder:{tmp_path}"


def _image(seed, *shape):
  return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def test_images_and_classes_are_read_in_the_order_of_the_csv(tmp_path):
  colour = {f"in/{i}.png": _image(i, 4, 5, 3) for i in range(3)}
  rows = ["in/2.png,cat", "in/0.png,ant", "", "in/1.png,cat"]
  dataset = datasets.load(_folder(tmp_path, colour, rows))
  expected = np.stack([colour[f"in/{i}.png"] for i in (2, 0, 1)])
  np.testing.assert_array_equal(dataset.x, expected)
  np.testing.assert_array_equal(dataset.y, [1, 0, 1])
  assert dataset.y.dtype == np.int32
  assert (dataset.num_classes, dataset.num_train) == (2, 3)
  assert dataset.feature_scale == 1 / 255
  assert not dataset.is_synthetic


def test_numbered_classes_keep_their_order_and_further_columns_are_ignored(tmp_path):
  images = {f"{i}.png": _image(i, 3, 3) for i in range(3)}
  rows = ["0.png,10,x", "1.png,9,y", "2.png,10,z"]
  dataset = datasets.load(_folder(tmp_path, images, rows, "Id,Class,Note"))
  np.testing.assert_array_equal(dataset.y, [1, 0, 1])  # as text "10" is before "9"
  assert dataset.x.shape == (3, 3, 3, 1)
  np.testing.assert_array_equal(dataset.x[0, ..., 0], images["0.png"])


def test_a_grey_image_among_coloured_ones_becomes_one(tmp_path):
  images = {"a.png": _image(0, 3, 3, 3), "b.png": _image(1, 3, 3)}
  dataset = datasets.load(_folder(tmp_path, images, ["a.png,0", "b.png,1"]))
  np.testing.assert_array_equal(
    dataset.x[1], np.repeat(images["b.png"][..., None], 3, 2)
  )


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    ([], "expected columns of a filename"),
    (["a.png"], r"row 2 is \['a.png'\], expected a filename and a label"),
    (["../a.png,1"], "is no file inside the folder"),
    (["a.png,1", "./a.png,2"], "lists a.png more than once"),
    (["a.png,1"], "all images are of class '1'"),
    (["a.png,1", "big.png,2"], r"big.png: of shape \(9, 3, 3\), expected \(3, 3, 3\)"),
    (["a.png,1", "bad.png,2"], "bad.png: not a whole image"),
  ],
)
def test_what_is_wrong_is_named(tmp_path, rows, message):
  name = _folder(tmp_path, {"a.png": _image(0, 3, 3, 3)}, rows)
  Image.fromarray(_image(0, 9, 3, 3)).save(tmp_path / "big.png")
  (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
  with pytest.raises(ValueError, match=message):
    datasets.load(name)


def test_what_is_absent_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="no such folder"):
    datasets.load(f"folder:{tmp_path / 'none'}")
  with pytest.raises(ValueError, match="holds 0 CSV files"):
    image_folder.read_table(tmp_path)
  name = _folder(tmp_path, {"a.png": _image(0, 3, 3)}, ["a.png,0", "gone.png,1"])
  with pytest.raises(FileNotFoundError, match=r"gone\.png"):
    datasets.load(name)
  (tmp_path / "second.csv").write_text("")
  with pytest.raises(ValueError, match="holds 2 CSV files"):
    datasets.load(name)
