"""The audit as one HTML page for a privacy officer: no network, no scripts."""

from collections.abc import Mapping
import json
import os
from typing import Any

from jmia.report import _files, histograms, plots, tables, wording
from jmia.report import samples as samples_lib

# The parts of an attack's result that the table shows; the rest are its settings.
_MEASURED = (
  "at_once", "epsilon_lower", "num_calibration", "found_at_fdr", "accused_at_p",
  "auc", "auc_ci", "accuracy", "tpr_at_fpr", "tpr_at_fpr_ci", "ci_of", "by_target",
)  # fmt: skip
_SCORE_CAPTION = (
  "How surprising the sample's loss would be for a non-member by the attack's own "
  "fitted p, which ranks samples and is not to be quoted; more so to the right. "
  "Members that lie further right than the non-members are the leak."
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
  _files.write(path, render(report, samples).encode())


def render(report: wording.Report, samples: samples_lib.Samples) -> str:
  """The page as text. Arguments and errors as in `write`."""
  import jinja2

  samples_lib.check(samples, report["attacks"])
  loader = jinja2.PackageLoader("jmia.report", ".")
  environment = jinja2.Environment(
    loader=loader,
    autoescape=True,  # names, notes and flags come from users
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  template = environment.get_template("page.html.jinja2")
  return template.render(_content(report, samples))


def _content(report: wording.Report, samples: samples_lib.Samples) -> Mapping[str, Any]:
  """What the template shows, by the names it uses."""
  strongest = wording.strongest(report)
  audited = samples.only(strongest) if strongest else samples
  return {
    "title": tables.subject(report),
    "dataset": report.get("dataset") or {},
    "verdict": wording.verdict(report),
    "facts": _facts(report),
    "header": tables.results_header(),
    "results": tables.results(report),
    "strongest": strongest,
    "strongest_title": wording.attack(strongest).title if strongest else "",
    "footnotes": tables.footnotes(report),
    "sources": [
      (about.title, about.source)
      for about in map(wording.attack, report["attacks"])
      if about.source
    ],
    "metrics": wording.metrics(report),
    "by_target": tables.by_target(report),
    "epsilon": tables.epsilon_sentence(report),
    "rocs": _rocs(report, samples) if strongest else (),
    "attacks": [
      _attack(number, name, report, samples.only(name))
      for number, name in enumerate(report["attacks"])
    ],
    "has_p_values": bool(samples.p_values),
    "exposed": tables.exposed(report, samples),
    "num_nonmembers": int((~audited.members).sum()),
    "config": _strings(report.get("config", {})),
    "versions": _strings(report.get("versions", {})),
    "light": plots.LIGHT,
    "dark": plots.DARK,
  }


def _facts(report: wording.Report) -> list[tuple[str, str]]:
  """What was audited, as terms and values; what is unknown is left out."""
  target, dataset = report["target"], report.get("dataset") or {}
  model = report.get("config", {}).get("model")
  train, test = target.get("train_accuracy"), target.get("test_accuracy")
  facts = [("Dataset", dataset.get("name")), ("Model", model)]
  if "num_examples" in dataset:
    size = f"{dataset['num_examples']:,} examples in {dataset['num_classes']:,} classes"
    facts.append(("Dataset's size", size))
  facts += [
    ("Members audited", f"{target['num_members']:,}"),
    ("Non-members audited", f"{target['num_nonmembers']:,}"),
    ("Accuracy on members", None if train is None else wording.percent(train)),
    ("Accuracy on test data", None if test is None else wording.percent(test)),
  ]
  if train is not None and test is not None:
    gap = f"{100 * (train - test):.1f} percentage points"
    facts.append(("Generalisation gap", gap))
  facts += [("Device", report.get("device")), ("Seed", report.get("seed"))]
  total = report.get("seconds", {}).get("total")
  facts.append(("Time taken", None if total is None else _duration(total)))
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
        plots.roc_figure(report, samples, (scale,)),
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
  """One attack's section: what it asks, how it was set, histograms of its samples."""
  about = wording.attack(name)
  if samples.only_ranks(name):
    return _ranking(number, name, report, samples)
  losses = histograms.losses(samples, name)
  called, members = samples.called(name), samples.members
  caught = wording.percent(float(called[members].mean()))
  accused = wording.percent(float(called[~members].mean()))
  settings = {k: v for k, v in report["attacks"][name].items() if k not in _MEASURED}
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
  found = wording.discoveries(report, name)
  return {
    "title": about.title,
    "explanation": about.explanation,
    "found": found,
    "settings": _strings(settings),
    "loss_svg": plots.svg(
      plots.loss_figure(losses),
      f"loss-{number}",
      f"Loss histograms of members and non-members, {about.title}. {outcome}",
    ),
    "loss_caption": f"{where} {outcome} {aim}",
    "score_svg": plots.svg(
      plots.score_figure(histograms.scores(samples, name)),
      f"score-{number}",
      f"Score histograms of members and non-members, {about.title}.",
    ),
    "score_caption": _SCORE_CAPTION,
  }


def _ranking(
  number: int, name: str, report: wording.Report, samples: samples_lib.Samples
) -> Mapping[str, Any]:
  """The section of an attack that only ranks: it has no p-values and no threshold."""
  about = wording.attack(name)
  settings = {k: v for k, v in report["attacks"][name].items() if k not in _MEASURED}
  coverage = wording.coverage(report, name)
  return {
    "title": about.title,
    "explanation": about.explanation,
    "found": wording.discoveries(report, name),
    "settings": _strings(settings),
    "loss_svg": None,
    "score_svg": plots.svg(
      plots.rank_figure(histograms.ranks(samples, name)),
      f"score-{number}",
      f"Score histograms of members and non-members, {about.title}.",
    ),
    "score_caption": "The attack only ranks samples: its scores are no p-values."
    + (f" It was run on {coverage}." if coverage else ""),
  }


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
  """Values as a reader would type them: strings bare, the rest as JSON."""
  return {
    name: value if isinstance(value, str) else json.dumps(value, default=str)
    for name, value in values.items()
  }


def _duration(seconds: float) -> str:
  """A time to read, such as 3 min 20 s."""
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
