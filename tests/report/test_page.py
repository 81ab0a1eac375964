import base64
import hashlib
from html import parser
import os
import re
import subprocess
import sys

import pytest
import report_example

from jmia.report import exposure, forest, page, plots, tables

REPORT, SAMPLES = report_example.report(), report_example.samples()
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(parser.HTMLParser):
  """Checks that tags nest; keeps the text, the tags and their attributes."""

  def __init__(self, source):
    super().__init__()
    self.open, self.text, self.tags = [], [], []
    self.feed(source)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if not {"style", "script"} & {*self.open}:
      self.text.append(data)

  @property
  def words(self):
    return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def source():
  return page.render(REPORT, SAMPLES)


@pytest.fixture(scope="module")
def document(source):
  return Page(source)


@pytest.fixture
def no_plots(monkeypatch):
  """For tests of the words alone; drawing takes most of the time."""
  monkeypatch.setattr(plots, "svg", lambda drawing, name, text: f"<svg>{name}</svg>")
  for name in ("roc_figure", "loss_figure", "score_figure"):
    monkeypatch.setattr(plots, name, lambda *args, **kwargs: None)
  monkeypatch.setattr(forest, "groups_figure", lambda *args: None)
  monkeypatch.setattr(forest, "attacks_figure", lambda *args: None)


def test_page_loads_nothing(source, document):
  assert "http://" not in source
  assert "https://" not in source
  assert "@import" not in source
  names = {tag for tag, _ in document.tags}
  assert not names & {"link", "iframe", "object", "base"}
  for _, attributes in document.tags:
    assert attributes.get("src", "data:image/png;").startswith("data:image/png;")
    assert attributes.get("href", "#").startswith("#")
  assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", source))
  policy = [a["content"] for t, a in document.tags if t == "meta" and "http-equiv" in a]
  assert "default-src 'none'" in policy[0]
  (script,) = re.findall(r"<script>(.*?)</script>", source, flags=re.DOTALL)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert f"script-src 'sha256-{digest}'" in policy[0]


def test_page_is_small_and_has_both_themes(source):
  assert len(source) < 500_000
  assert "prefers-color-scheme: dark" in source
  for colour in (*plots.LIGHT.values(), *plots.DARK.values()):
    assert source.count(colour) == 1  # defined once, used by name


def test_ids_are_unique_and_labels_point_at_them(document):
  ids = [a["id"] for _, a in document.tags if "id" in a]
  assert len(ids) == len(set(ids))
  labels = {a["aria-labelledby"] for _, a in document.tags if "aria-labelledby" in a}
  assert labels
  assert labels <= set(ids)


def test_plots_are_there_and_described(document):
  described = [
    a["aria-label"] for tag, a in document.tags if tag == "svg" and "role" in a
  ]
  assert len(described) == 1 + 2 + 2 * 2
  assert described[0].startswith("AUC with 95% intervals. P · population: 0.641 (0.603")
  assert described[1].startswith("ROC curves, linear scale. P · population: AUC 0.641")
  assert described[2].startswith("ROC curves, log scale")
  assert sum("Loss histograms" in text for text in described) == 2
  assert sum("Score histograms" in text for text in described) == 2


def test_numbers_come_with_their_intervals(document):
  for row in tables.results(REPORT):
    for cell in row.cells:
      assert f"{cell.value} {cell.interval}".strip() in document.words
  assert "0.842 0.821–0.863" in document.words
  assert "39.5% 34.7–44.5%" in document.words


def test_what_was_audited(document):
  for text in (
    "Audit of mlp trained on purchase_synthetic",
    "The data is synthetic.",
    "Synthetic shopping baskets of 600 bits.",
    "20,000 examples in 100 classes",
    "Members audited 400",
    "Accuracy on members 99.3%",
    "Accuracy on test data 61.2%",
    "Generalisation gap 38.1 percentage points",
    "Seed 7",
    "Time taken 3 min 20 s",
    "num_references 16",
    "jax 0.10.2",
  ):
    assert text in document.words


def test_headline_footnotes_and_missing_attacks(document):
  for text in (
    "Leakage detected",
    "An attacker with reference models picks the member out of a member/non-member "
    "pair 84.2% of the time (95% interval 82.1–86.3%; 50% is guessing).",
    "the strongest of 2 attacks",
    "takes at least 1,000 non-members to measure; there are 400",
    "Not run: D · distillation. The file has no array distilled_logits.",
    "Model 3 diverged at epoch 7 and was left out.",
  ):
    assert text in document.words


def test_exposed_records_are_listed_in_order(document):
  words = document.words[document.words.index("Non-members as high") :]
  places = []
  for row in exposure.records(REPORT, SAMPLES):
    places.append(words.index(f" {row.rank} {row.sample} {row.label} {row.loss} "))
  assert places == sorted(places)
  assert len(places) == exposure.LIMIT


def test_every_link_has_its_target(document):
  ids = {a["id"] for _, a in document.tags if "id" in a}
  links = [a["href"] for tag, a in document.tags if tag == "a"]
  assert len(links) == 8
  assert {link.removeprefix("#") for link in links} <= ids
  order = [document.words.index(name) for name in ("Whom it exposes", "Results")]
  assert order == sorted(order)
  assert document.words.rstrip().endswith("better attacks.")  # the glossary comes last


def test_no_debug_text(source, document):
  assert "estimator: linear" not in document.words
  assert "num samples" not in document.words
  assert not re.search(
    r"\d(\.\d+)?e[-+]?\d",
    re.sub(r"<[^>]*>", "", source.split("</style>")[1].split('id="how"')[0]),
  )


@pytest.mark.usefixtures("no_plots")
def test_what_to_do_now_is_what_was_measured():
  words = Page(page.render(REPORT, SAMPLES)).words
  assert "What now?" in words
  assert "label_only" in words
  command = "jmia audit --repeat=FOLDER/report.json --defense=stacking:3 "
  assert command not in words  # nobody knows how this one was trained
  trained = {**REPORT, "config": {"dataset": "digits", "train": {}}}
  words = Page(page.render(trained, SAMPLES)).words
  assert command in words
  assert "FOLDER is this report's" in words
  assert "bit_flip:0.1" not in words.replace("bit_flip:0.1 flips", "")  # no bits known
  for config in ({"signals": "a.npz"}, {"train": {}, "model": "black box"}):
    words = Page(page.render({**REPORT, "config": config}, SAMPLES)).words
    assert "What now?" in words
    assert "jmia audit --r" not in words
    assert "FOLDER" not in words
  bits = {**trained, "dataset": {**REPORT["dataset"], "holds_bits": True}}
  assert "--defense=bit_flip:0.1" in Page(page.render(bits, SAMPLES)).words
  report = report_example.report()
  for result in report["attacks"].values():
    result |= {"auc": 0.5, "auc_ci": [0.48, 0.52], "tpr_at_fpr": {}}
  assert "What now?" not in Page(page.render(report, SAMPLES)).words


def test_loss_captions_give_the_shares_called_members(document):
  for name in ("population", "reference"):
    called = SAMPLES.loss <= SAMPLES.thresholds[name]
    inside, outside = called[SAMPLES.members].mean(), called[~SAMPLES.members].mean()
    shares = f"{100 * inside:.1f}% of the members and {100 * outside:.1f}% of the non"
    assert shares in document.words


@pytest.mark.usefixtures("no_plots")
def test_everything_from_users_is_escaped():
  evil = "<script>alert(1)</script>"
  report = report_example.report(
    config={"model": evil, evil: evil, "list": [evil]},
    versions={evil: evil},
    device=evil,
    missing={evil: evil},
    notes=[evil],
  )
  report["dataset"] |= {"name": evil, "description": evil}
  report["attacks"]["reference"] |= {"estimator": evil, evil: 1}
  source = page.render(report, SAMPLES)
  assert source.count("<script") == 1  # the page's own
  assert source.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
  Page(source)


@pytest.mark.usefixtures("no_plots")
def test_no_leak_is_worded_as_such():
  report = report_example.report()
  for result in report["attacks"].values():
    result |= {"auc": 0.5, "auc_ci": [0.48, 0.52], "tpr_at_fpr": {}}
  words = Page(page.render(report, SAMPLES)).words
  assert "No leakage detected" in words
  assert "not proof that there is none" in words
  assert "Leakage detected" not in words


@pytest.mark.usefixtures("no_plots")
def test_an_attack_on_few_samples_is_told_as_such():
  report, samples = report_example.with_leave_one_out()
  words = Page(page.render(report, samples)).words
  assert "L · leave-one-out attacked 20 of the 800 samples." in words
  called = samples.called("leave_one_out")[:20]
  inside = called[samples.members[:20]].mean()
  outside = called[~samples.members[:20]].mean()
  assert (
    f"The attack was run on 20 of the 800 samples. This calls {100 * inside:.1f}% of "
    f"the members and {100 * outside:.1f}% of the non-members."
  ) in words
  assert words.count("The attack was run on") == 1
  assert "nan" not in words.lower().split()


@pytest.mark.usefixtures("no_plots")
def test_page_of_a_file_of_signals():
  """No dataset, no configuration, no times, one attack: nothing is made up."""
  report = {
    "target": {"num_members": 400, "num_nonmembers": 400, "test_accuracy": None},
    "attacks": {"population": REPORT["attacks"]["population"]},
  }
  words = Page(page.render(report, SAMPLES)).words
  assert "Audit of a model known by its outputs alone" in words
  assert "supplied in a file" in words
  assert "strongest of" not in words
  for absent in (
    "is synthetic",
    "None",
    "Seed",
    "Settings",
    "Versions",
    "eneralisation",
  ):
    assert absent not in words


def test_page_without_any_attack():
  report = report_example.report(attacks={}, missing={"population": "no such array"})
  words = Page(page.render(report, SAMPLES)).words
  assert "No attack could be run" in words
  assert "Not run: P · population. No such array." in words


def test_real_data_is_not_called_synthetic(no_plots):
  report = report_example.report()
  report["dataset"] = {**REPORT["dataset"], "name": "mnist", "is_synthetic": False}
  assert "The data is synthetic" not in page.render(report, SAMPLES)


@pytest.mark.usefixtures("no_plots")
def test_write_is_whole_or_nothing(tmp_path, monkeypatch):
  path = tmp_path / "report.html"
  page.write(path, REPORT, SAMPLES)
  assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
  first = path.read_bytes()
  assert first.decode() == page.render(REPORT, SAMPLES)

  def fail(*args):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    page.write(path, report_example.report(seed=8), SAMPLES)
  assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
  assert path.read_bytes() == first


@pytest.mark.usefixtures("no_plots")
def test_write_into_no_folder(tmp_path):
  with pytest.raises(FileNotFoundError):
    page.write(tmp_path / "absent" / "report.html", REPORT, SAMPLES)
  assert list(tmp_path.iterdir()) == []


def test_bad_samples_are_refused_before_anything_is_written(tmp_path):
  with pytest.raises(ValueError, match=r"samples\.scores lacks the attack"):
    page.write(tmp_path / "r.html", REPORT, SAMPLES._replace(scores={}, thresholds={}))
  assert list(tmp_path.iterdir()) == []


def test_importing_the_report_is_light():
  code = (
    "import sys, jmia.report, jmia.report.tables; "
    "print({'matplotlib', 'jinja2', 'scipy'} & {m.split('.')[0] for m in sys.modules})"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.stdout.strip() == "set()", done.stderr
