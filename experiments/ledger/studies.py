"""How each study's results are cut to figures, and which cells of a paper they are.

A figure is what one setting of a study gave: a name, such as `single/default/asr_all`,
and a value for each seed or target.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import itertools
from typing import Any, NamedTuple

from jmia.enhanced import configs

Document = Mapping[str, Any]
Figures = dict[str, list[float]]
Key = tuple[str, str, str]  # table, row, column


class Beside(NamedTuple):
  """How a run's conditions stand to the paper's.

  Attributes:
    condition: in which they differ, or "".
    is_comparable: whether data and settings are the paper's.
  """

  condition: str = ""
  is_comparable: bool = True


class Study(NamedTuple):
  """A study whose runs the ledger keeps.

  Attributes:
    keys: fields of a row that tell its settings; they make a figure's name.
    parts: further ones, by the part of the study (`config["study"]`) that varies them.
    values: fields of a row that are measured; a list is of several targets.
    paper: whose cells they are, or None.
    cells: a run's config and figures -> cell -> names of the figures that are its.
    beside: a run's config -> how it stands to the paper.
    more: further figures of a document.
    across: of `keys`, those whose settings may stand in columns; the first that a run
      has is taken.
    settled: of `values`, those that the study's settings alone decide, whatever the
      rows and however long the training: they stand beside the paper's in every run.
  """

  keys: tuple[str, ...]
  values: tuple[str, ...]
  paper: str | None = None
  cells: Callable[[Document, Figures], Iterator[tuple[Key, list[str]]]] | None = None
  beside: Callable[[Document], Beside] = lambda config: Beside()
  more: Callable[[Document], Figures] = lambda document: {}
  across: tuple[str, ...] = ()
  settled: tuple[str, ...] = ()
  parts: Mapping[str, tuple[str, ...]] = {}


def figures(study: Study, document: Document) -> Figures:
  """Returns what a document of results comes to, in the order of its rows.

  Rows of models that diverged are left out; the document's notes say how many.

  Args:
    study: whose document it is.
    document: of `report.results.document`.
  """
  return _of_rows(_whole(study, document), document["rows"]) | study.more(document)


def _whole(study: Study, document: Document) -> Study:
  """The study with the keys that this part of it varies."""
  further = study.parts.get(document["config"].get("study", ""), ())
  return study._replace(keys=(*study.keys, *further))


def _of_rows(study: Study, rows: Sequence[Mapping[str, Any]]) -> Figures:
  found: Figures = {}
  for row in rows:
    if row.get("diverged"):
      continue
    parts = (_text(key, row.get(key)) for key in study.keys)
    name = "/".join(part for part in parts if part)
    for field in study.values:
      value = row.get(field)
      pairs = value.items() if isinstance(value, Mapping) else [("", value)]
      for part, of_part in pairs:
        if of_part is not None:
          values = of_part if isinstance(of_part, list) else [of_part]
          label = f"{name}/{field}/{part}".rstrip("/")
          found.setdefault(label, []).extend(map(_rounded, values))
  return found


def _text(key: str, value: Any) -> str:
  """A setting as part of a name; of a switch that is on its own name."""
  if value is None or value is False:
    return ""
  if value is True:
    return key
  if isinstance(value, str):
    return value
  # A number that stands alone says nothing: which models, how many runs?
  return f"{value:g}" if key in _PLAIN else f"{key} {value:g}"


_PLAIN = ("claimed_epsilon", "num_encoded", "width")


def _rounded(value: float) -> float:
  return float(f"{float(value):.6g}")


def _hu_cells(config: Document, found: Figures) -> Iterator[tuple[Key, list[str]]]:
  """Random patterns, and labels, are draws: the paper's is beside all of ours."""
  name = _HU_DATA.get(config["dataset"])
  if name is None:
    return
  for study, kind in (("patterns", "Pattern"), ("labels", "Label")):
    ours = [f for f in found if f.startswith(f"{study}/") and f.endswith("/asr_all")]
    for number in range(1, 6):
      yield ("2", name, f"{kind} {number}"), ours
  for table in ("2", "3", "4", "Section 5.1"):
    yield (table, name, "ASR threshold"), ["single/default/asr_threshold"]
  for variant in ("top left", "top right", "bottom left", "bottom right"):
    yield ("3", name, variant), [f"locations/{variant}/asr_all"]
  for variant in ("beginning", "centre", "end"):
    yield ("3", name, variant), [f"locations/{variant}/asr_all"]
  for size in (1, 2, 4, 5, 6, 8, 10, 12, 15, 20, 25):
    yield (
      ("3", name, f"size {size}"),
      _first(found, f"sizes/{size}/asr_all", f"sizes/{size}×{size}/asr_all"),
    )
  yield ("4", name, "ASR"), ["single/default/asr_all"]
  for variant in ("baseline without", "baseline with", "MIB without", "MIB with"):
    yield ("5", name, variant), [f"baseline/{variant}/asr_all"]


_HU_DATA = {
  "cifar10": "CIFAR-10",
  "location30": "Location-30",
  "purchase100": "Purchase-100",
  "purchase100_synthetic": "Purchase-100",
}


def _hu_beside(config: Document) -> Beside:
  conditions = _changed(config, "dataset", "data_dir", "study", "num_trials", "draw")
  if config["dataset"] == "purchase100_synthetic":
    conditions.append("generated rows")
  is_comparable = not conditions
  if config.get("draw") == "authors":
    conditions.append("the authors' draw of rows")
  return Beside(", ".join(conditions), is_comparable)


def _hu_more(document: Document) -> Figures:
  """Of sub-marks, the share of trials with a claim by all of them together."""
  return {
    f"{line['study']}/{line['variant']}/claims/{test} at {level}": [_rounded(share)]
    for line in document["summary"]
    for test, by_level in (line["together"] or {}).items()
    for level, share in by_level.items()
  }


def _changed(config: Document, *as_asked: str) -> list[str]:
  """Flags that change the paper's settings: all but some, and those of every run."""
  same = {*as_asked, "seed", "width"}
  return [
    f"{flag}={value}" for flag, value in config["flags"].items() if flag not in same
  ]


def _ye_cells(config: Document, found: Figures) -> Iterator[tuple[Key, list[str]]]:
  name, _, number = config["config"].rpartition("_")
  table, data = _YE_TABLES[name]
  row = f"{data} {'I' * int(number) if number != '4' else 'IV'}"
  for attack, letter in _YE_ATTACKS.items():
    yield (table, row, f"Attack {letter}"), [f"{attack}/auc_by_target"]
  for part in ("train", "test"):
    yield (table, row, f"{part.capitalize()} Acc."), [f"accuracy/{part}"]
  if config["config"] == "purchase100_2":
    for cell in found:
      kind, _, pair = cell.partition("/")
      if kind in ("agreement on members", "agreement on others"):
        who = "train points" if kind.endswith("members") else "test points"
        yield ("3", pair, who), [cell]


_YE_TABLES = {
  "purchase100": ("2", "Purchase100"),
  "cifar10": ("4", "CIFAR10"),
  "cifar100": ("5", "CIFAR100"),
  "mnist": ("6", "MNIST"),
}
_YE_ATTACKS = {
  "shadow": "S",
  "population": "P",
  "reference": "R",
  "distillation": "D",
  "leave_one_out": "L",
}


def _ye_beside(config: Document) -> Beside:
  paper = configs.CONFIGS[config["config"]].num_models
  conditions = _changed(
    config, "config", "dataset", "data_dir", "num_examples", "num_models",
    "num_targets", "num_students", "agreement_points", "models_per_point", "attacks",
  )  # fmt: skip
  if config["dataset"].endswith("_synthetic"):
    conditions.append("generated rows")
  is_comparable = not conditions
  if config["num_models"] < paper:
    conditions.append(f"{config['num_models']:,} models")
  return Beside(", ".join(conditions), is_comparable)


def _ye_more(document: Document) -> Figures:
  found = {
    f"accuracy/{part}": [_rounded(value) for value in values]
    for part, values in document.get("accuracy_by_target", {}).items()
  }
  shared = document.get("agreement")
  if shared:
    letters = [_YE_ATTACKS.get(name, "GT") for name in shared["attacks"]]
    for who in ("members", "others"):
      for i, j in itertools.combinations(range(len(letters)), 2):
        name = f"agreement on {who}/{letters[i]}, {letters[j]}"
        found[name] = [_rounded(shared[f"share_of_{who}"][i][j])]
  return found


def _yang_cells(config: Document, found: Figures) -> Iterator[tuple[Key, list[str]]]:
  data = _YANG_DATA.get(config["dataset"])
  if data is None or config["study"] != "metrics":
    return
  for network in ("cnn", "mlp", "resnet", "alexnet"):
    for signal in ("loss", "confidence", "entropy"):
      name = f"{network}/{network}/none/metric_{signal}/auc"
      yield ("1", f"{data} {network}", signal), [name]


_YANG_DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
_YANG_MEMBERS = {"mnist": 17_500, "cifar10": 15_000, "cifar100": 15_000}


def _yang_beside(config: Document) -> Beside:
  conditions = _changed(
    config, "study", "dataset", "data_dir", "networks", "attacks", "num_trials",
    "num_shadows", "num_members",
  )  # fmt: skip
  members, paper = config["num_members"], _YANG_MEMBERS.get(config["dataset"])
  if members is not None and paper is not None and members < paper:
    conditions.append(f"{members:,} members")
  return Beside(", ".join(conditions), not conditions)


def _song_more(document: Document) -> Figures:
  """The precision as the paper counts it: of all encoded and all test rows.

  Ours, p, is of as many of each; with r test rows an encoded one and the rates of both
  kinds kept, that is p / (p + r (1 - p)).
  """
  config = document["config"]
  encoded = round(config["encoded_share"] * config["num_members"])
  counted = []
  for row in document["rows"]:
    if (p := row.get("precision")) is not None:
      ratio = config["num_test"] / row.get("num_encoded", encoded)
      counted.append({**row, "precision of the paper": p / (p + ratio * (1 - p))})
  study = _whole(STUDIES["membership_encoding"], document)
  return _of_rows(study._replace(values=("precision of the paper",)), counted)


def _song_cells(config: Document, found: Figures) -> Iterator[tuple[Key, list[str]]]:
  model = _SONG_MODELS.get(config["setup"])
  if model is None:
    return
  for form, table in (("whitebox", "2"), ("blackbox", "4")):
    for column, field in _SONG_COLUMNS.items():
      yield (table, model, column), [f"{form}/{form}/{field}"]
  for rows in range(10, 60, 5):
    for column, field in _SONG_COLUMNS.items():
      yield ("3", f"{model} {rows}K", column), [f"amount/whitebox/{rows}000/{field}"]
  if config["setup"] == "cifar10_vgg":
    for form in ("whitebox", "blackbox"):
      for place in ("centre", "boundary"):
        for w in (4, 8, 12, 16):
          row = f"VGG {form.replace('box', '-box')}, {place}, w={w}"
          for column, field in _SONG_SHORT.items():
            yield ("5", row, column), [f"redaction/{form}/{place} {w}/32/{field}"]
    for i in range(4):
      for j in range(4):
        for column, field in _SONG_SHORT.items():
          name = f"redaction/whitebox/block {i},{j}/{field}"
          yield ("6", f"block {i},{j}", column), [name]


_SONG_MODELS = {
  "purchase5": "Purchase MLP",
  "texas10": "Texas MLP",
  "mnist_mlp": "MNIST MLP",
  "mnist_cnn": "MNIST CNN",
  "cifar10_vgg": "CIFAR10 VGG",
  "cifar10_resnet": "CIFAR10 RES",
}
_SONG_COLUMNS = {
  "baseline acc": "baseline_accuracy",
  "test acc": "test_accuracy",
  "enc pre": "precision of the paper",
  "enc rec": "recall",
  "enc AUC": "auc",
}
_SONG_SHORT = {"pre": "precision of the paper", "rec": "recall", "AUC": "auc"}


def _song_beside(config: Document) -> Beside:
  conditions = _changed(
    config, "setup", "data_dir", "models_dir", "study", "form", "num_trials"
  )
  if config["setup"] == "purchase5":
    conditions.append("generated rows")
  return Beside(", ".join(conditions), not conditions)


def _power_more(document: Document) -> Figures:
  """Each target's own, where there are several; `_of_rows` has their means."""
  study = STUDIES["attack_power"]
  of_targets = [
    {**{key: row.get(key) for key in study.keys}, **of_target}
    for row in document["rows"]
    for of_target in row.get("by_target", ())
  ]
  return _of_rows(study, of_targets)


def _first(found: Figures, *names: str) -> list[str]:
  return [name for name in names if name in found][:1] or list(names[:1])


STUDIES: Mapping[str, Study] = {
  "mib": Study(
    ("study", "variant"),
    ("asr_all", "asr_without", "asr_threshold", "rejected", "rejected_t",
     "train_accuracy", "test_accuracy", "num_marked", "claims"),
    "hu", _hu_cells, _hu_beside, _hu_more, settled=("asr_threshold",),
  ),
  "enhanced_mia": Study(
    ("attack",), ("auc_by_target",), "ye", _ye_cells, _ye_beside, _ye_more
  ),
  "classic_mia": Study(
    ("model", "shadow_model", "defense", "attack"),
    ("auc", "accuracy", "train_accuracy", "test_accuracy", "epsilon_lower"),
    "yang", _yang_cells, _yang_beside, parts={"gap": ("num_members", "num_epochs")},
  ),
  "membership_encoding": Study(
    ("study", "form", "num_encoded", "width", "mask"),
    ("test_accuracy", "baseline_accuracy", "precision", "recall", "auc"),
    "song", _song_cells, _song_beside, _song_more,
    parts={"pruning": ("method", "share")},
  ),
  "dp_audit": Study(
    ("mode", "canary", "start", "control", "claimed_epsilon", "threat"),
    ("epsilon_lower", "epsilon_lower_gaussian", "p_value", "contradicted"),
  ),
  "attack_power": Study(
    ("attack", "num_queries", "num_references"), ("auc", "tpr_at_fpr"),
    more=_power_more, across=("num_references",),
  ),
  "simulations": Study(
    ("dataset", "suspect", "num_marked", "num_submarks", "level", "attack",
     "num_models", "ties", "num_calibrating", "share", "mode", "mu", "num_runs",
     "num_canaries", "num_attacks", "true_epsilon", "bound", "distributions",
     "correlation", "num_members", "num_others", "true_auc", "num_targets",
     "num_samples", "shift"),
    ("auc_missed", "auc_missed_at_once", "p_at_most", "false_discovery_rate", "found",
     "mean", "deviation", "above_truth", "auc_width", "tpr_missed", "tpr_width",
     "difference_missed", "difference_width", "leak", "hint", "exceeded",
     "randomization", "binomial", "t", "asr", "test_accuracy"),
    across=("true_auc", "num_models"),
  ),
  "benchmark": Study(
    ("suite", "name", "width", "chosen", "peer"),
    ("ours_s", "peer_s", "ratio", "limit_share", "met", "bytes_needed", "steps",
     "kernels_per_step", "mb_per_step", "floor_ms_per_step", "difference",
     "after_compilation_s", "model_epochs_per_second", "extrapolated_hours_of_eight",
     "temporary_mib", "peak_mib", "growth_mib", "read_mib", "examples_per_second",
     "minutes", "models_per_hour", "share_trained", "accuracy", "compile_s"),
  ),
}  # fmt: skip
