"""The pages in a headless browser: no errors, no sideways scrolling, rows that sort."""

import browser
import numpy as np
import pytest
import report_example
import test_claim_page

from jmia.report import claim_page, page

pytestmark = browser.needed
# Sorts by sample, then asks for one class.
_ACT = """() => {
  const table = document.querySelector("table.sortable");
  table.querySelectorAll("th button")[1].click();
  const sorted = [...table.tBodies[0].rows].map((r) => Number(r.cells[1].textContent));
  const select = document.querySelector("select[name=label]");
  select.value = select.options[1].value;
  select.dispatchEvent(new Event("input", {bubbles: true}));
  const shown = [...table.tBodies[0].rows].filter((r) => !r.hidden);
  return {sorted, label: select.value, shown: shown.map((r) => r.dataset.label)};
}"""


@pytest.fixture(scope="module")
def source():
  samples = report_example.samples()
  q = np.minimum(samples.p_values["reference"] * 2, 1)
  samples = samples._replace(
    q_values={"reference": q},
    images=np.random.default_rng(0).integers(0, 255, (800, 8, 8, 1)).astype(np.uint8),
    columns={"file": np.array([f"a/long/name/of/a/file/{n}.png" for n in range(800)])},
  )
  report = report_example.report()
  report["found"] = {"rate": 0.1, "attack": "reference", "at_q": 0.05}
  report["found"] |= {"num_found": 10, "num_members": 9}
  rows = [
    {
      "group": name,
      "num_members": 40,
      "num_nonmembers": 40,
      "auc": auc,
      "auc_ci": [auc - 0.1, auc + 0.1],
      "tpr_at_fpr": {"0.1": 0.2, "0.01": None},
      "tpr_at_fpr_ci": {"0.1": [0.1, 0.4], "0.01": None},
    }
    for name, auc in (("8", 0.8), ("a class of a long name, too long to be shown", 0.5))
  ]
  report["groups"] = {"attack": "reference", "num_figures": 12, "by": {"class": rows}}
  return page.render(report, samples)


@pytest.mark.parametrize("width", [400, 1200])
def test_a_page_fits_its_window(source, tmp_path, width):
  found = browser.check(source, tmp_path, width=width)
  assert sum(not hidden for _, hidden in found["rows"]) == 20 < len(found["rows"])


def test_a_verdict_fits_a_telephone(tmp_path):
  browser.check(claim_page.render(test_claim_page.CLAIM), tmp_path, width=400)


def test_records_sort_and_filter(source, tmp_path):
  done = browser.look(source, tmp_path, width=900, then=_ACT)["done"]
  assert done["sorted"] == sorted(done["sorted"])
  assert len(done["sorted"]) == 50
  assert done["shown"]
  assert set(done["shown"]) == {done["label"]}


# The height in pixels of the smallest letters of each drawing.
_LETTERS = """() => [...document.querySelectorAll("figure svg")].map((svg) =>
  [...svg.querySelectorAll("text")].map((text) =>
    parseFloat(getComputedStyle(text).fontSize) * svg.getScreenCTM().a)
).filter((sizes) => sizes.length).map((sizes) => Math.min(...sizes))"""


def test_drawings_can_be_read_on_a_telephone(source, tmp_path):
  found = browser.look(source, tmp_path, width=400, then=_LETTERS)
  assert len(found["done"]) > 3
  assert min(found["done"]) > 6


def test_one_panel_is_no_wider_than_a_telephone(source, tmp_path):
  report = report_example.report()
  for entry in report["attacks"].values():
    entry["tpr_at_fpr"] = entry["tpr_at_fpr_ci"] = {}
  alone = page.render(report, report_example.samples())
  hidden = """() => [...document.querySelectorAll("figure .scroll")].map(
    (one) => one.scrollWidth - one.clientWidth)"""
  assert browser.look(alone, tmp_path, width=400, then=hidden)["done"] == [0]
  (beyond,) = browser.look(source, tmp_path, width=400, then=hidden)["done"]
  assert beyond > 0  # two panels beside each other can be moved
