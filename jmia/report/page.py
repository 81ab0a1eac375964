"""The audit as one HTML page for a privacy officer: no network, a script to sort by."""

import base64
from collections.abc import Mapping
import hashlib
from importlib import resources
import json
import os
from typing import Any

from jmia import atomic
from jmia.report import (
  advice,
  exposure,
  forest,
  histograms,
  plots,
  tables,
  wording,
)
from jmia.report import samples as samples_lib
from jmia.stats import levels

_SCORE_CAPTION = (
  "What the attack ranks samples by. Members that lie further right than the "
  "non-members are the leak."
)


def write(
  path: str | os.PathLike[str], report: wording.Report, samples: samples_lib.Samples
) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: the file to write; its folder exists.
    report: as `report.json`; "dataset", "missing", "notes", "versions", "device" and
      "seconds" may be absent.
    samples: the evaluated samples, with scores and thresholds for every attack in
      `report`.

  Raises:
    ValueError: if `samples` does not fit together or to `report`.
    OSError: if the file cannot be written; nothing is left behind then.
  """
  atomic.write(path, render(report, samples).encode())


def render(report: wording.Report, samples: samples_lib.Samples) -> str:
  """The page as text. Arguments and errors as in `write`."""
  samples_lib.check(samples, report["attacks"])
  return template("page.html.jinja2").render(_content(report, samples))


def template(name: str) -> Any:
  """One of this package's templates; what it is given is escaped."""
  import jinja2

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("jmia.report", "."),
    autoescape=True,  # names, notes and flags come from users
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.globals |= {"light": plots.LIGHT, "dark": plots.DARK}
  return environment.get_template(name)


def script() -> tuple[str, str]:
  """The page's script, and its hash as a content security policy takes it."""
  text = resources.files("jmia.report").joinpath("page.js").read_text("utf-8")
  digest = hashlib.sha256(text.encode()).digest()
  return text, f"sha256-{base64.b64encode(digest).decode()}"


def _content(report: wording.Report, samples: samples_lib.Samples) -> Mapping[str, Any]:
  """What the template shows, by the names it uses."""
  strongest, sharpest = wording.strongest(report), wording.sharpest(report)
  text, digest = script()
  found, caveat = advice.of(report)
  by_target = tables.by_target(report)
  content = {
    "title": tables.subject(report),
    "dataset": report.get("dataset") or {},
    "verdict": wording.verdict(report),
    "facts": _facts(report),
    "header": tables.results_header(report),
    "results": tables.results(report),
    "forest": _forest(report) if strongest else "",
    "forest_is_wide": any(wording.best_at(report, f) for f in levels.SHARPEST_FPRS),
    "footnotes": tables.footnotes(report),
    "sources": [
      (about.title, about.source)
      for about in map(wording.attack, report["attacks"])
      if about.source
    ],
    "metrics": {
      term: meaning
      for term, meaning in wording.metrics(report).items()
      if not term.startswith("TPR") or term in tables.results_header(report)
    },
    "by_target": by_target,
    "targets_svg": _targets(report, sharpest) if by_target and sharpest else "",
    "epsilon": tables.epsilon_sentence(report),
    "rocs": _rocs(report, samples) if strongest else (),
    "legend": plots.roc_legend(report),
    "attacks": [
      _attack(number, name, report, samples.only(name))
      for number, name in enumerate(report["attacks"])
    ],
    "exposure": exposure.content(report, samples),
    "advice": found,
    "caveat": caveat,
    "config": strings(report.get("config", {})),
    "versions": strings(report.get("versions", {})),
    "script": text,
    "script_hash": digest,
  }
  return content | {"contents": _contents(content)}


def _contents(content: Mapping[str, Any]) -> list[tuple[str, str]]:
  """The page's sections, as anchors and names."""
  sections = (
    ("audited", "What was audited", True),
    ("exposed", "Whom it exposes", content["exposure"]["records"]),
    ("results", "Results", True),
    ("roc", "ROC curves", content["rocs"]),
    ("now", "What now?", content["advice"]),
    ("attacks", "Attack by attack", content["attacks"]),
    ("how", "How it was run", True),
    ("terms", "What the numbers mean", True),
  )
  return [(anchor, name) for anchor, name, is_there in sections if is_there]


def _forest(report: wording.Report) -> str:
  values = "; ".join(
    f"{row.title}: {row.cells[0].value} ({row.cells[0].interval})"
    for row in tables.results(report)
  )
  return plots.svg(
    forest.attacks_figure(report), "forest", f"AUC with 95% intervals. {values}."
  )


def _targets(report: wording.Report, name: str) -> str:
  return plots.svg(
    forest.targets_figure(report, name),
    "targets",
    "AUC of each target, and their mean.",
  )


def _facts(report: wording.Report) -> list[tuple[str, str]]:
  """What was audited, as terms and values; what is unknown is left out."""
  target, dataset = report["target"], report.get("dataset") or {}
  model = report.get("config", {}).get("model")
  train, test = target.get("train_accuracy"), target.get("test_accuracy")
  facts = [("Dataset", tables.data_name(dataset.get("name"))), ("Model", model)]
  if "num_examples" in dataset:
    size = f"{dataset['num_examples']:,} examples in {dataset['num_classes']:,} classes"
    facts.append(("Dataset's size", size))
  facts += [
    ("Members audited", wording.size(report, "num_members")),
    ("Non-members audited", wording.size(report, "num_nonmembers")),
    ("Accuracy on members", None if train is None else wording.percent(train)),
    ("Accuracy on test data", None if test is None else wording.percent(test)),
  ]
  if train is not None and test is not None:
    gap = f"{100 * (train - test):.1f} percentage points"
    facts.append(("Generalisation gap", gap))
  facts += [("Device", report.get("device")), ("Seed", report.get("seed"))]
  total = report.get("seconds", {}).get("total")
  facts.append(("Time taken", None if total is None else wording.duration(total)))
  return [(term, str(value)) for term, value in facts if value not in (None, "")]


def _rocs(
  report: wording.Report, samples: samples_lib.Samples
) -> list[tuple[str, str]]:
  """The two ROC plots as SVG, each with its caption."""
  values = "; ".join(
    f"{row.title}: AUC {row.cells[0].value}" for row in tables.results(report)
  )
  captions = {
    "linear": "Linear scale: the further a curve bends to the upper left, the better "
    "its attack does on average.",
    "log": "Logarithmic scale: the same curves where false accusations are rare; being "
    "far above the line of guessing at the left means that some members are identified "
    "with confidence.",
  }
  return [
    (
      plots.svg(
        plots.roc_figure(report, samples, (scale,), has_legend=False),
        f"roc-{scale}",
        f"ROC curves, {scale} scale. {values}.",
      ),
      caption,
    )
    for scale, caption in captions.items()
  ]


def _attack(
  number: int, name: str, report: wording.Report, samples: samples_lib.Samples
) -> Mapping[str, Any]:
  """One attack's section: what it asks, whom it finds, histograms of its samples."""
  about = wording.attack(name)
  num_models = report["attacks"][name].get("num_models", 0)
  coverage = wording.coverage(report, name)
  section: dict[str, Any] = {
    "title": about.title,
    "explanation": about.explanation,
    "found": wording.discoveries(report, name),
    "compared": f"Compared with {num_models:,} models." if num_models else "",
    "loss_svg": None,
    "score_svg": plots.svg(
      plots.score_figure(histograms.scores(samples, name)),
      f"score-{number}",
      f"Score histograms of members and non-members, {about.title}.",
    ),
    "score_caption": _SCORE_CAPTION,
  }
  if not samples.only_ranks(name):
    return section | _losses(number, name, report, samples)
  ran_on = f" It was run on {coverage}." if coverage else ""
  caption = f"The attack ranks samples, and has no threshold of its own.{ran_on}"
  return section | {"score_caption": caption}


def _losses(
  number: int, name: str, report: wording.Report, samples: samples_lib.Samples
) -> dict[str, Any]:
  """The losses beside the attack's own thresholds, and what these call."""
  losses = histograms.losses(samples, name)
  called, members = samples.called(name), samples.members
  caught = wording.percent(float(called[members].mean()))
  accused = wording.percent(float(called[~members].mean()))
  where = (
    "Loss divided by the threshold of the sample, which differs between samples; left "
    "of 1× the attack calls it a member."
    if losses.relative
    else "The model's loss; left of the threshold the attack calls a sample a member."
  )
  outcome = f"This calls {caught} of the members and {accused} of the non-members."
  coverage = wording.coverage(report, name)
  if coverage:
    outcome = f"The attack was run on {coverage}. {outcome}"
  aim = wording.calibration(int(called[~members].sum()), int((~members).sum()))
  title = wording.attack(name).title
  return {
    "loss_svg": plots.svg(
      plots.loss_figure(losses),
      f"loss-{number}",
      f"Loss histograms of members and non-members, {title}. {outcome}",
    ),
    "loss_caption": f"{where} {outcome} {aim}",
  }


def strings(values: Mapping[str, Any]) -> dict[str, str]:
  """Values as a reader would type them: strings bare, the rest as JSON."""
  return {
    name: value if isinstance(value, str) else json.dumps(value, default=str)
    for name, value in values.items()
  }
