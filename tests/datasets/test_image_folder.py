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


_IMAGES = {f"{i}.png": _image(i, 3, 3) for i in range(4)}


@pytest.mark.parametrize(
  ("text", "labels"),
  [
    ("{0},a\n{1},b\n", [0, 1]),  # no titles
    ("filename,label\r\n{0},a\r\n{1},b\r\n", [0, 1]),
    ("filename;label\n{0};a\n{1};b\n", [0, 1]),
    ("filename\tlabel\n{0}\ta\n{1}\tb\n", [0, 1]),
    ("\ufefffilename,label\n{0},a\n{1},b\n", [0, 1]),
    ("\ufeff{0},a\n{1},b\n", [0, 1]),
    ('filename,label\n"{0}","a, b"\n"{1}","c ""d"""\n', [0, 1]),
    ("label,filename\nb,{0}\na,{1}\n", [1, 0]),
    ("id,label,split,filename\n1,b,x,{0}\n2,a,x,{1}\n", [1, 0]),
    ("b,{0}\na,{1}\n", [1, 0]),
    ("filename,label\n {0} , a \n {1} , b \n", [0, 1]),
    ("filename,label\n./{0},a\nsub/../{1},b\n", [0, 1]),
    ("filename,label\n.\\{0},a\n.\\{1},b\n", [0, 1]),
    ("filename,label\n{folder}/{0},a\n{folder}/{1},b\n", [0, 1]),
  ],
)
def test_csvs_as_they_come(tmp_path, text, labels):
  _folder(tmp_path, _IMAGES, [])
  text = text.replace("{0}", "2.png").replace("{1}", "0.png")
  text = text.replace("{folder}", str(tmp_path))
  (tmp_path / "train.csv").write_bytes(text.encode())
  dataset = datasets.load(f"folder:{tmp_path}")
  expected = np.stack([_IMAGES["2.png"], _IMAGES["0.png"]])
  np.testing.assert_array_equal(dataset.x[..., 0], expected)
  np.testing.assert_array_equal(dataset.y, labels)
  assert len(dataset.class_names) == 2


def test_a_folder_for_each_class(tmp_path):
  names = ["dog/1.png", "cat/b/2.PNG", "cat/a.bmp"]
  for name, image in zip(names, _IMAGES.values(), strict=False):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(tmp_path / name)
  (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
  (tmp_path / "__MACOSX").mkdir()
  folder = image_folder.read(tmp_path)
  assert folder.table.names == ("cat/a.bmp", "cat/b/2.PNG", "dog/1.png")
  np.testing.assert_array_equal(folder.classes.y, [0, 0, 1])
  assert folder.classes.names == ("cat", "dog")
  expected = np.stack([_IMAGES[f"{i}.png"] for i in (2, 1, 0)])
  np.testing.assert_array_equal(folder.x[..., 0], expected)


def test_folders_of_a_train_and_a_test_split(tmp_path):
  for i, name in enumerate(["test/b/0", "train/a/1", "train/b/2"]):
    path = tmp_path / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_IMAGES[f"{i}.png"]).save(path)
  dataset = datasets.load(f"folder:{tmp_path}")
  np.testing.assert_array_equal(dataset.y, [0, 1, 1])
  assert (dataset.num_train, dataset.class_names) == (2, ("a", "b"))
  np.testing.assert_array_equal(dataset.x[2, ..., 0], _IMAGES["0.png"])


@pytest.mark.parametrize(
  ("images", "divisor"),
  [
    ([[[0, 65_535]], [[7, 9]]], 65_535),
    ([[[0, 4_095]], [[7, 9]]], 4_095),
  ],
)
def test_images_of_16_bits_are_scaled_and_said(tmp_path, images, divisor):
  deep = {f"{i}.png": np.array(x, np.uint16) for i, x in enumerate(images)}
  dataset = datasets.load(_folder(tmp_path, deep, ["0.png,a", "1.png,b"]))
  seen = dataset.x * np.float32(dataset.feature_scale)
  np.testing.assert_allclose(seen[..., 0], np.array(images) / divisor, rtol=1e-6)
  assert any(f"divided by {divisor}" in note for note in dataset.notes)


def test_what_was_left_out_is_said(tmp_path):
  name = _folder(tmp_path, _IMAGES, ["0.png,x,a,3", "1.png,y,b,4"], "file,who,label,n")
  dataset = datasets.load(name)
  np.testing.assert_array_equal(dataset.y, [0, 1])
  assert "Columns of train.csv that are not used: who, n." in dataset.notes
  assert dataset.class_names == ("a", "b")


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    ([], "expected columns of a filename"),
    (["a.png"], r"line 2 is \['a.png'\], expected a filename and a label"),
    (["../a.png,1"], "is no file inside the folder"),
    (["in/../../a.png,1"], "is no file inside the folder"),
    (["/etc/hostname,1"], "/etc/hostname is no file inside the folder"),
    (["~/a.png,1"], "is no file inside the folder"),
    (["..\\a.png,1"], "is no file inside the folder"),
    ([",1"], r"line 2 is \['', '1'\], expected a filename and a label"),
    (["a.png,1", "in/../a.png,2"], "lists a.png more than once"),
    (["a.png,1", "deep.png,2"], "it is grey of 16 bits among coloured images"),
    (["a.png,1", "./a.png,2"], "lists a.png more than once"),
    (["a.png,1"], "train.csv: label holds 1 alone"),
    (["a.png,1", "big.png,2"], r"big.png: of shape \(9, 3, 3\), expected \(3, 3, 3\)"),
    (["a.png,1", "bad.png,2"], "bad.png: not a whole image"),
  ],
)
def test_what_is_wrong_is_named(tmp_path, rows, message):
  name = _folder(tmp_path, {"a.png": _image(0, 3, 3, 3)}, rows)
  Image.fromarray(_image(0, 9, 3, 3)).save(tmp_path / "big.png")
  Image.fromarray(np.full((3, 3), 999, np.uint16)).save(tmp_path / "deep.png")
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


def _classes(folder, *kinds):
  for i, name in enumerate(f"{kind}/{place}.png" for kind in kinds for place in "pq"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_IMAGES[f"{i}.png"]).save(folder / name)


def test_files_of_a_class_that_are_not_read_are_said(tmp_path):
  _classes(tmp_path, "cat", "dog")
  for i in range(5):
    (tmp_path / "cat" / f"{i}.heic").write_bytes(b"x")
  (tmp_path / "dog" / "p.txt").write_text("a dog")
  (tmp_path / "zebra").mkdir()
  (tmp_path / "README.md").write_text("mine")
  for left in ("cat/._p.png", "dog/__MACOSX/q.png", "dog/.old/q.png", "dog/Thumbs.db"):
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_bytes(b"x")
  (tmp_path / "._p.png").write_bytes(b"x")  # of macOS: no image without a class
  folder = image_folder.read(tmp_path)
  assert folder.table.names == ("cat/p.png", "cat/q.png", "dog/p.png", "dog/q.png")
  assert folder.table.notes == (
    f"1 file (README.md) beside the folders of {tmp_path} is not read.",
    "5 files (0.heic, 1.heic, 2.heic, ...) of cat/ are no images that can be read.",
    "1 file (p.txt) of dog/ is no image that can be read.",
    "zebra/ is empty, and no class.",
  )
  assert folder.notes[:4] == folder.table.notes


def test_files_beside_the_folders_of_a_split_are_said(tmp_path):
  _classes(tmp_path, "train/a", "test/b")
  (tmp_path / "train" / "b").mkdir()
  (tmp_path / "train" / "lost.png").write_bytes(b"x")
  notes = image_folder.read(tmp_path).table.notes
  assert notes == (
    f"1 file (lost.png) beside the folders of {tmp_path / 'train'} is not read.",
    "train/b/ is empty, and no class.",
  )


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path):
  _classes(tmp_path, "cat", "dog")
  for place in "pq":
    (tmp_path / "dog" / f"{place}.png").rename(tmp_path / "dog" / f"{place}.heic")
  with pytest.raises(ValueError, match=r"2 files \(p.heic, q.heic\) of dog/ are no im"):
    image_folder.read(tmp_path)


def test_files_that_a_csv_does_not_list_are_said(tmp_path):
  _folder(tmp_path, _IMAGES, ["1.png,a", "2.png,b"])
  (tmp_path / "in").mkdir()
  (tmp_path / "in" / "p.heic").write_bytes(b"x")
  assert image_folder.read(tmp_path).table.notes == (
    "2 images (0.png, 3.png) are not listed in train.csv and left out.",
    "1 file (in/p.heic) not listed in train.csv is no image that can be read.",
  )


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
  _classes(tmp_path / "data", "cat", "dog")
  _classes(tmp_path, "other")
  (tmp_path / "data" / "cat" / "more").symlink_to(tmp_path / "other")
  (tmp_path / "data" / "cat" / "up").symlink_to("..")
  (tmp_path / "other" / "again").symlink_to(".")
  folder = image_folder.read(tmp_path / "data")
  assert folder.table.names == (
    *("cat/more/p.png", "cat/more/q.png", "cat/p.png", "cat/q.png"),
    *("dog/p.png", "dog/q.png"),
  )


@pytest.mark.parametrize(
  ("header", "row", "unused"),
  [
    (",image_file,kind", "{i},{i}.png,{c}", "the 1. without a title"),
    (",filenames,labels", "{i},{i}.png,{c}", "the 1. without a title"),
    ("kind,picture", "{c},{i}.png", None),
    (",path,kind", "{i},{i}.png,{c}", "the 1. without a title"),
    ("file,,kind", "{i}.png,{i},{c}", "the 2. without a title"),
  ],
)
def test_files_and_classes_are_found_beside_an_index(tmp_path, header, row, unused):
  rows = [row.format(i=i, c="ba"[i % 2]) for i in range(4)]
  dataset = datasets.load(_folder(tmp_path, _IMAGES, rows, header))
  np.testing.assert_array_equal(dataset.y, [1, 0, 1, 0])
  said = [note for note in dataset.notes if note.startswith("Columns of")]
  expected = f"Columns of train.csv that are not used: {unused}."
  assert said == ([expected] if unused else [])
