import io
import json
import pathlib

import numpy as np
from PIL import Image
import pytest

from jmia.backdoor import (
  answers,
  classes,
  draws,
  fingerprints,
  keys,
  owner_files,
  owner_images,
  paper_mark,
  stamping,
  submarks,
  triggers,
)

PATCH = triggers.TriggerConfig(
  kind="patch", size=3, place="bottom_right", value=255.0, opacity=0.3
)


def _images(shape=(8, 6, 3), num_examples=80):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (num_examples, *shape), np.uint8)
  return x, rng.integers(0, 4, num_examples)


def _folder(path, x, y, name="labels.csv"):
  (path / "b").mkdir(parents=True)
  lines = ["filename,label"]
  # In an order of its own, and with folders.
  for i in np.random.default_rng(1).permutation(len(x)):
    file = f"b/{i}.png" if i % 2 else f"{i}.png"
    Image.fromarray(x[i]).save(path / file)
    lines.append(f"{file},{y[i]}")
  (path / name).write_text("\n".join(lines) + "\n")
  return path


def _mark(data):
  return paper_mark.mark(
    data.x, data.y, PATCH, target_label=1, num_classes=4, num_marked=9, num_queries=12
  )


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3)])
def test_a_folder_of_images_comes_back_as_it_was_but_for_the_marks(tmp_path, shape):
  data = owner_files.read_data(_folder(tmp_path / "mine", *_images(shape), "my.csv"))
  assert data.x.shape == (80, *shape)
  marked = _mark(data)
  owner_files.write(tmp_path / "out", marked, data)
  assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
    *("key.json", "marked", "queries")
  ]
  published = owner_files.read_data(tmp_path / "out" / "marked")
  assert published.folder.csv_name == "my.csv"
  assert published.folder.names == tuple(data.folder.names[row] for row in marked.kept)
  np.testing.assert_array_equal(published.x, marked.x)
  np.testing.assert_array_equal(published.y, marked.y)
  queries = owner_files.read_queries(tmp_path / "out" / "queries")
  np.testing.assert_array_equal(queries, marked.queries)
  key = owner_files.read_key(tmp_path / "out" / "key.json")
  assert key == marked.key
  fingerprints.check_query_set(key, queries)
  # The CSV and the files agree, and the queries' images are gone.
  files = {str(p.relative_to(tmp_path / "out" / "marked"))
           for p in (tmp_path / "out" / "marked").rglob("*.png")}  # fmt: skip
  assert files == set(published.folder.names)


def test_an_npz_comes_back_as_it_was_but_for_the_marks(tmp_path):
  x, y = _images()
  np.savez(tmp_path / "mine.npz", x=x.astype(np.float32), y=y.astype(np.int8))
  data = owner_files.read_data(tmp_path / "mine.npz")
  marked = _mark(data)
  (tmp_path / "out").mkdir()  # empty is as good as absent
  owner_files.write(tmp_path / "out", marked, data)
  assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
    *("key.json", "marked.npz", "queries.npz")
  ]
  published = owner_files.read_data(tmp_path / "out" / "marked.npz")
  assert (published.x.dtype, published.y.dtype) == (np.float32, np.int8)
  np.testing.assert_array_equal(published.x, marked.x)
  np.testing.assert_array_equal(published.y, marked.y)
  queries = owner_files.read_queries(tmp_path / "out" / "queries.npz")
  fingerprints.check_query_set(marked.key, queries)


def test_a_marked_image_is_encoded_as_the_others_are(tmp_path):
  """Unmarked files must not keep their origin's encoding while marked ones lose it."""
  x, y = _images()
  folder = _folder(tmp_path / "mine", x, y)
  for path in folder.rglob("*.png"):
    Image.open(path).save(path, compress_level=0, dpi=(300, 300))
  data = owner_files.read_data(folder)
  owner_files.write(tmp_path / "out", _mark(data), data)
  for path in (tmp_path / "out" / "marked").rglob("*.png"):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(Image.open(path))).save(buffer, format="PNG")
    assert path.read_bytes() == buffer.getvalue()


def test_nothing_is_written_over_a_key(tmp_path):
  np.savez(tmp_path / "mine.npz", **dict(zip("xy", _images(), strict=True)))
  data = owner_files.read_data(tmp_path / "mine.npz")
  owner_files.write(tmp_path / "out", _mark(data), data)
  before = (tmp_path / "out" / "key.json").read_bytes()
  with pytest.raises(ValueError, match=r"output_dir=.*out must be new or empty: an ov"):
    owner_files.write(tmp_path / "out", _mark(data), data)
  assert (tmp_path / "out" / "key.json").read_bytes() == before


def test_a_folder_that_is_there_is_filled_and_not_replaced(tmp_path, monkeypatch):
  """It may be where the user stands: a replaced one is gone from under the shell."""
  x, y = _images()
  data = owner_files.read_data(_folder(tmp_path / "mine", x, y))
  (tmp_path / "out").mkdir()
  monkeypatch.chdir(tmp_path / "out")
  owner_files.write(pathlib.Path("."), _mark(data), data)
  found = sorted(path.name for path in pathlib.Path(".").iterdir())
  assert found == ["key.json", "marked", "queries"]
  assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out"]


def test_a_write_that_fails_leaves_a_folder_empty(tmp_path, monkeypatch):
  x, y = _images()
  data = owner_files.read_data(_folder(tmp_path / "mine", x, y))
  (tmp_path / "out").mkdir()

  def fail(key):
    raise OSError("disk full")

  monkeypatch.setattr(keys, "to_json", fail)
  with pytest.raises(OSError, match="disk full"):
    owner_files.write(tmp_path / "out", _mark(data), data)
  assert not [*(tmp_path / "out").iterdir()]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
  x, y = _images()
  data = owner_files.read_data(_folder(tmp_path / "mine", x, y))

  def fail(key):
    raise OSError("disk full")

  monkeypatch.setattr(keys, "to_json", fail)  # the last of the files
  with pytest.raises(OSError, match="disk full"):
    owner_files.write(tmp_path / "out", _mark(data), data)
  assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"x": np.zeros((2, 2))}, "not an .npz of x and y alone: it holds x"),
    ({"x": np.zeros(1), "y": np.zeros(1), "z": np.zeros(1)}, "it holds x, y, z"),
    ({"x": np.array([None]), "y": np.zeros(1)}, "x holds Python objects"),
    ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, r"x has shape \(0, 2\)"),
    ({"x": np.full((2, 2), np.nan), "y": np.zeros(2, int)}, "x holds 4 NaN"),
    ({"x": np.full((2, 2), "a"), "y": np.zeros(2, int)}, "and dtype <U1, expected"),
    ({"x": np.zeros((2, 2)), "y": np.zeros(2)}, "y has dtype float64, expected"),
    ({"x": np.zeros((2, 3, 8, 8)), "y": np.zeros(2, int)}, "looks like images with th"),
    ({"x": np.zeros((2, 2)), "y": np.zeros(3, int)}, r"y has shape \(3,\), expected"),
  ],
)
def test_npz_files_that_are_refused(tmp_path, arrays, message):
  np.savez(tmp_path / "mine.npz", **arrays)
  with pytest.raises(ValueError, match=message):
    owner_files.read_data(tmp_path / "mine.npz")


def test_files_that_are_absent_or_something_else(tmp_path):
  (tmp_path / "text").write_text("no numbers")
  np.save(tmp_path / "bare.npy", np.zeros(3))
  for read in (
    *(owner_files.read_data, owner_files.read_queries, owner_files.read_key),
    answers.read,
  ):
    with pytest.raises(FileNotFoundError, match="absent"):
      read(tmp_path / "absent")
    with pytest.raises(ValueError, match="text: n"):
      read(tmp_path / "text")
  for read in (owner_files.read_data, owner_files.read_queries):
    with pytest.raises(ValueError, match=r"not a whole \.npz"):
      read(tmp_path / "bare.npy")
  with pytest.raises(ValueError, match="holds no images"):
    owner_files.read_queries(tmp_path)
  (tmp_path / "key.json").write_text(json.dumps({"schema": 7}))
  with pytest.raises(ValueError, match=r"key.json: not a key of this version: the key"):
    owner_files.read_key(tmp_path / "key.json")


def _append(text):
  return lambda folder: (folder / "labels.csv").open("a").write(text)


def _save(name, mode="L", size=(6, 8), **options):
  def save(folder: pathlib.Path):
    Image.new(mode, size).save(folder / name, **options)

  return save


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda f: (f / "labels.csv").unlink(), "holds 0 CSV files, expected 1"),
    (lambda f: (f / "more.csv").write_text(""), "holds 2 CSV files, expected 1"),
    (
      lambda f: (f / "labels.csv").write_text(""),
      "expected columns of a filename and a label",
    ),
    (
      lambda f: (f / "labels.csv").write_text("file,label\n0.png,1\n"),
      r"labels.csv: does not list 10\.png",
    ),
    (lambda f: (f / "labels.csv").write_text("filename,label\n"), "label and rows"),
    (lambda f: (f / "labels.csv").write_bytes(b"\xff\xfe\x00"), "not a CSV"),
    (_append("0.png\n"), "line 82 is .*, expected a filename and a label"),
    (_append("../0.png,1\n"), "line 82: ../0.png is no file inside the folder"),
    (_append("/0.png,1\n"), "line 82: /0.png is no file inside"),
    (_save("0.jpg"), r"labels.csv: does not list 0\.jpg"),
    (_append("./0.png,1\n"), "lists 0.png more than once"),
    (_save("more.png"), r"labels.csv: does not list more\.png"),
    (_save("0.png", size=(5, 8)), r"0.png: of shape \(8, 5, 1\), expected"),
    (_save("0.png", "RGB"), r"0.png: of shape \(8, 6, 3\), expected"),
    (_save("0.png", "RGBA"), "0.png: not a whole image: it is white on white"),
    (_save("0.png", "I;16"), "0.png: of 16 bits, expected 8"),
    (_save("0.png", format="JPEG"), "0.png: is JPEG, which its name does not say"),
    (_save("0.png", format="BMP"), "0.png: is BMP, which its name does not say"),
    (lambda f: (f / "0.png").write_bytes(b""), "0.png: not a whole image"),
    (
      lambda f: (f / "0.png").write_bytes((f / "0.png").read_bytes()[:60]),
      "0.png: not a whole image",
    ),
  ],
)
def test_folders_that_are_refused(tmp_path, change, message):
  folder = _folder(tmp_path / "mine", *_images((8, 6)))
  change(folder)
  with pytest.raises(ValueError, match=message):
    owner_files.read_data(folder)


def test_an_image_that_is_missing_is_named(tmp_path):
  folder = _folder(tmp_path / "mine", *_images((8, 6)))
  (folder / "4.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"4\.png"):
    owner_files.read_data(folder)


@pytest.mark.parametrize("text", [True, False])
def test_a_folder_with_submarks_and_labels_of_text(tmp_path, text):
  x, y = _images()
  labels = np.array(["cat", "dog", "emu", "hen"])[y] if text else y + 1
  data = owner_files.read_data(_folder(tmp_path / "mine", x, labels))
  assert sorted(set(data.y.tolist())) == sorted(set(labels.tolist()))
  secret = "1" * 64
  marked = submarks.mark(
    data.x,
    data.y,
    draws.placed_triggers(PATCH, data.x, 4, draws.generator(secret, "triggers")),
    secret=secret,
    class_names=classes.of_labels(data.y).names,
    num_marked=12,
    num_queries=16,
  )
  owner_files.write(tmp_path / "out", marked, data)
  path = tmp_path / "out" / "key.json"
  assert path.stat().st_mode & 0o777 == 0o600
  assert owner_files.read_key(path) == marked.key
  published = owner_files.read_data(tmp_path / "out" / "marked")
  np.testing.assert_array_equal(published.x, marked.x)
  np.testing.assert_array_equal(published.y, marked.y)
  queries = owner_files.read_queries(tmp_path / "out" / "queries")
  fingerprints.check_query_set(marked.key, queries)


def test_a_key_of_many_brackets_is_refused_in_one_line(tmp_path):
  (tmp_path / "key.json").write_text("[" * 100_000)
  with pytest.raises(ValueError, match=r"key.json: not a key of this version: nested"):
    owner_files.read_key(tmp_path / "key.json")


def _jpegs(folder, x, y, quality=80):
  """A folder of a class each, of JPEG images."""
  for i in range(len(x)):
    path = folder / f"class {y[i]}" / f"{i}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(x[i]).save(path, quality=quality + i % 2)
  return folder


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)])
def test_jpegs_keep_their_quality_and_their_marks(tmp_path, shape):
  x, y = _images((4, 4, *shape[2:]))
  x = np.repeat(np.repeat(x, 4, axis=1), 4, axis=2)  # smooth enough for JPEG
  data = owner_files.read_data(_jpegs(tmp_path / "mine", x, y))
  assert data.x.shape == (80, *shape)
  assert set(data.y.tolist()) == {f"class {c}" for c in range(4)}
  secret = "2" * 64
  marked = submarks.mark(
    data.x,
    data.y,
    draws.placed_triggers(PATCH, data.x, 4, draws.generator(secret, "triggers")),
    secret=secret,
    class_names=classes.of_labels(data.y).names,
    num_marked=12,
    num_queries=16,
  )
  owner_files.write(tmp_path / "out", marked, data)
  key = owner_files.read_key(tmp_path / "out" / "key.json")
  queries = owner_files.read_queries(tmp_path / "out" / "queries")
  fingerprints.check_query_set(key, queries)
  assert (queries != marked.queries).any()  # as the files show them
  published = owner_files.read_data(tmp_path / "out" / "marked")
  # Each under its new label, numbered anew, so read in another order.
  order = np.argsort([int(name.split("/")[1][:-4]) for name in published.folder.names])
  np.testing.assert_array_equal(published.y[order], marked.y)
  assert fingerprints.fingerprint(published.x[order], marked.y) == key.marked_sha256
  kept = [data.folder.encodings[row] for row in marked.kept]
  assert [published.folder.encodings[i] for i in order] == kept
  assert len({*kept}) == 2
  # The trigger is what makes a marked image differ from its original.
  rows = marked.key.submarks[0].rows
  assert rows
  for row in rows:
    seen = published.x[order][marked.kept.tolist().index(row)].astype(int)
    stamped = stamping.stamp(data.x[[row]], marked.key.submarks[0].trigger)[0]
    change = stamped.astype(int) - data.x[row]
    assert 2 * (change * (seen - data.x[row])).sum() > (change**2).sum()


def test_what_survives_of_a_trigger():
  x, _ = _images((16, 16), 6)
  stamped = stamping.stamp(x, PATCH)
  assert owner_images.surviving(x, stamped, [None] * 6) == 1
  fine, coarse = (owner_images.Jpeg(((step,) * 64,), 0) for step in (1, 255))
  assert owner_images.surviving(x, stamped, [fine] * 6) == pytest.approx(1, abs=0.05)
  assert owner_images.surviving(x, stamped, [coarse] * 6) < 0.8


def test_images_of_other_kinds_become_png(tmp_path):
  x, y = _images((8, 6))
  folder = _folder(tmp_path / "mine", x, y)
  Image.fromarray(x[0]).save(folder / "0.bmp")
  (folder / "0.png").unlink()
  table = folder / "labels.csv"
  table.write_text(table.read_text().replace("\n0.png", "\n0.bmp"))
  data = owner_files.read_data(folder)
  assert data.notes == ("1 images that are neither PNG nor JPEG are written as PNG.",)
  assert "0.png" in data.folder.names
  np.testing.assert_array_equal(data.x[data.folder.names.index("0.png")], x[0])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda f: Image.new("CMYK", (6, 8)).save(f / "a" / "0.jpg"),
      "0.jpg: a JPEG of CMYK colours, expected grey or RGB",
    ),
    (
      lambda f: Image.new("RGB", (6, 8)).save(f / "a" / "0.bmp"),
      "two images would be written as a/0.png: rename one",
    ),
    (
      lambda f: [(f / "a").rename(f / "train"), (f / "b").rename(f / "test")],
      "has folders train and test, expected one data set",
    ),
  ],
)
def test_folders_of_classes_that_are_refused(tmp_path, change, message):
  for kind in "ab":
    path = tmp_path / kind / "inner" / "0.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (6, 8)).save(path)
    Image.new("RGB", (6, 8)).save(tmp_path / kind / "0.png")
  change(tmp_path)
  with pytest.raises(ValueError, match=message):
    owner_files.read_data(tmp_path)


@pytest.mark.parametrize("name", ["key.json", "queries.npz"])
def test_data_that_hold_a_key_or_queries_are_refused(tmp_path, name):
  folder = _folder(tmp_path / "mine", *_images((8, 6)))
  (folder / "b" / "old").mkdir()
  (folder / "b" / "old" / name).write_text("{}")
  with pytest.raises(ValueError, match=f"holds b/old/{name}, of a marking, and its"):
    owner_files.read_data(folder)


def test_what_macos_adds_to_an_archive_is_no_image(tmp_path):
  folder = _folder(tmp_path / "mine", *_images((8, 6)))
  for name in ("._0.png", "__MACOSX/._0.png", "__MACOSX/0.png"):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"resource fork")
  (folder / "0.txt").write_text("a caption")
  data = owner_files.read_data(folder)
  assert len(data.x) == 80
  assert data.notes == (
    "1 file (0.txt) not listed in labels.csv is no image that can be read.",
  )


def test_labels_of_a_folder_are_read_as_an_audit_reads_them(tmp_path):
  x, y = _images((8, 6))
  folder = _folder(tmp_path / "mine", x, y)
  table = folder / "labels.csv"
  text = table.read_text()
  table.write_text(text.replace("\n5.png", "\n./5.png").replace(",1\n", ",1.0\n", 1))
  data = owner_files.read_data(folder)
  assert classes.of_labels(data.y).names == (0, 1, 2, 3)
  assert data.notes == (
    "Labels of label that write one number are one class: '1', '1.0'.",
  )
  table.write_text(text.replace(",1\n", ",n/a\n", 1))
  with pytest.raises(
    ValueError, match=r"labels.csv: label has no label at row \d+, co"
  ):
    owner_files.read_data(folder)
