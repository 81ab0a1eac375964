import os
import pathlib

import pytest

_BESIDE = pathlib.Path(__file__).parents[3] / "shared" / "data" / "dataset_location.tgz"


@pytest.fixture(scope="session")
def prepared_dir():
  """A folder with TFDS's prepared mnist and cifar10."""
  folder = os.environ.get("JMIA_TFDS_DIR")
  if not folder:
    pytest.skip("JMIA_TFDS_DIR names no folder with prepared TFDS datasets")
  return pathlib.Path(folder)


@pytest.fixture(scope="session")
def location_archive():
  """The original archive of Location-30."""
  places = [_BESIDE]
  if folder := os.environ.get("JMIA_TFDS_DIR"):
    manual = pathlib.Path(folder, "downloads", "manual")
    places.insert(0, manual / "dataset_location.tgz")
  for place in places:
    if place.is_file():
      return place
  pytest.skip("no dataset_location.tgz in JMIA_TFDS_DIR's downloads/manual")
