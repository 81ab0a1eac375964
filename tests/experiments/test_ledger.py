"""The ledger: what the papers say, what runs say, and that the pages say the same."""

import collections
import json
import pathlib
import sys

from absl.testing import flagsaver
import numpy as np
import pytest

from experiments import launch, ledger
from experiments.ledger import cells, claims, pages, power, run_files, studies
from jmia import datasets
from jmia.backdoor import measured, variants
from jmia.classic import settings as classic_settings
from jmia.encoding import paper as encoding_paper
from jmia.enhanced import configs
from jmia.report import advice

PAPERS = {cell.key: cell for cell in cells.papers()}


def _run(monkeypatch, *arguments):
  monkeypatch.setattr(sys, "argv", ["ledger", "--compilation_cache=", *arguments])
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    launch.run(ledger.main)
  return stopped.value.code or 0


def test_what_is_written_holds(monkeypatch, capsys):
  code = _run(monkeypatch, "--check")
  assert code == 0, capsys.readouterr().err
  assert "claims hold" in capsys.readouterr().out


def test_cells_are_figures_and_no_two_are_of_one_place():
  assert len(PAPERS) == len(cells.papers()) > 350
  for cell in PAPERS.values():
    assert cell.unit in ("", "%")
    assert 0 <= cell.number <= 1
    assert not cell.deviation or 0 <= float(cell.deviation) < 1
    assert cell.conditions


def test_figures_beside_the_rows_of_studies_are_those_of_the_papers():
  for dataset, name in (("cifar10", "CIFAR-10"), ("location30", "Location-30")):
    figures = variants.PAPER[dataset]
    for number, (pattern, label) in enumerate(
      zip(figures["patterns"], figures["labels"], strict=True), start=1
    ):
      assert PAPERS["hu", "2", name, f"Pattern {number}"].value == str(pattern)
      assert PAPERS["hu", "2", name, f"Label {number}"].value == str(label)
    of_3 = [
      cell
      for key, cell in PAPERS.items()
      if key[:3] == ("hu", "3", name) and key[3] != "ASR threshold"
    ]
    given = (*figures["locations"], *figures["sizes"])
    assert [cell.value for cell in of_3] == [str(value) for value in given]
    of_5 = [cell for key, cell in PAPERS.items() if key[:3] == ("hu", "5", name)]
    assert [cell.value for cell in of_5] == [str(v) for v in figures["baseline"]]
  for name, config in configs.CONFIGS.items():
    data, _, number = name.rpartition("_")
    table, title = studies._YE_TABLES[data]
    row = f"{title} {[0, 'I', 'II', 'III', 'IV'][int(number)]}"
    for part, accuracy in zip(("Train", "Test"), config.paper_accuracy, strict=True):
      assert float(PAPERS["ye", table, row, f"{part} Acc."].value) == accuracy
    for attack, auc in config.paper_auc.items():
      cell = PAPERS["ye", table, row, f"Attack {studies._YE_ATTACKS[attack]}"]
      assert (float(cell.value), float(cell.deviation)) == auc
  for figures, table in (
    (encoding_paper.WHITEBOX, "2"),
    (encoding_paper.BLACKBOX, "4"),
  ):
    for setup, of_setup in figures.items():
      for column, field in studies._SONG_COLUMNS.items():
        field = field.removesuffix(" of the paper")
        if field in of_setup:
          cell = PAPERS["song", table, studies._SONG_MODELS[setup], column]
          assert cell.number == pytest.approx(of_setup[field])
  for setup, amounts in encoding_paper.AMOUNT.items():
    for rows, auc in amounts.items():
      row = f"{studies._SONG_MODELS[setup]} {rows // 1000}K"
      assert PAPERS["song", "3", row, "enc AUC"].number == auc
  digits = datasets.load("digits")
  for data, title in studies._YANG_DATA.items():
    for network in ("cnn", "mlp"):
      for signal in ("loss", "confidence", "entropy"):
        cell = PAPERS["yang", "1", f"{title} {network}", signal]
        like = digits._replace(name=data)
        assert cell.number == classic_settings.paper_auc(
          like, network, f"metric_{signal}"
        )


@pytest.mark.parametrize("n", [3, 10])
def test_one_more_value_lies_in_the_interval_as_often_as_it_says(n):
  rng = np.random.default_rng(n)
  drawn = rng.normal(size=(4000, n + 1))
  inside = 0
  for values in drawn:
    low, high = cells.Figure("", tuple(values[:n]), "", True).interval()
    inside += low <= values[n] <= high
  assert abs(inside / len(drawn) - 0.95) < 3 * np.sqrt(0.05 * 0.95 / len(drawn))


CELL = PAPERS["hu", "4", "Location-30", "ASR"]  # 68.9 %
HIGH, LOW = (0.68, 0.69, 0.7), (0.5, 0.51, 0.52)


def _figure(run, values, comparable=True):
  return cells.Figure(run, values, "", comparable)


def _reason(run, value=""):
  return cells.Explanation(("hu", "[45]", "Location-*", "*"), run, value, "So it is.")


@pytest.mark.parametrize(
  ("figures", "explained", "verdict", "first"),
  [
    ([], [], "not run", None),
    ([_figure("a", HIGH, False)], [], "not run", "a"),
    ([_figure("a", HIGH[:2])], [], "too few seeds", "a"),
    ([_figure("a", HIGH)], [], "inside", "a"),
    ([_figure("a", HIGH), _figure("b", LOW * 2)], [], "outside, open", "b"),
    (
      [_figure("a", LOW), _figure("b", HIGH)],
      [_reason("b")],
      "outside, explained",
      "a",
    ),
    ([_figure("a", LOW), _figure("b", LOW)], [_reason("b")], "outside, open", "a"),
    ([_figure("a", LOW)], [_reason("b")], "outside, open", "a"),
    ([_figure("a", LOW)], [_reason("a", "51.0")], "outside, explained", "a"),
  ],
)
def test_verdicts(figures, explained, verdict, first):
  entry = cells.judge(CELL, figures, explained)
  assert entry.verdict == verdict
  assert (entry.figures[0].run if entry.figures else None) == first


def test_runs_that_agree_share_a_line():
  figures = [_figure("a", HIGH), *(_figure(run, LOW) for run in "bc")]
  entry = cells.judge(CELL, [*figures, _figure("d", LOW, comparable=False)], [])
  _, _, *lines = pages.of_paper([entry]).splitlines()[2:]
  ends = [line[line.index("| 3 |") :] for line in lines]
  assert ends == [
    "| 3 | inside | [a](runs/a.json) |",
    "| 3 | (outside) | [b](runs/b.json), [c](runs/c.json) |",
    "| 3 |  | [d](runs/d.json) |",
  ]


def test_a_value_counts_as_inside_to_the_last_digit_printed():
  assert _figure("a", (0.6885,) * 3).holds(CELL)
  assert not _figure("a", (0.6884,) * 3).holds(CELL)


RUNS = {
  "r-1": {
    "figures": {
      "single/default/asr_all": [0.5, 0.61],
      "a b/auc": [0.1234],
      "l2:0.1/auc": [0.25, 0.75],
    }
  }
}


@pytest.mark.parametrize(
  ("link", "fault"),
  [
    ("[55.5 %](experiments/ledger/runs/r-1.json#single/default/asr_all)", None),
    ("[.555](experiments/ledger/runs/r-1.json#single/default/asr_all)", None),
    ("[50–61 %](ledger/runs/r-1.json#single/default/asr_all:range)", None),
    ("[2](ledger/runs/r-1.json#single/default/asr_all:n)", None),
    ("[.123](ledger/runs/r-1.json#a%20b/auc)", None),
    ("[.75](ledger/runs/r-1.json#l2%3A0.1/auc:max)", None),
    ("[.124](ledger/runs/r-1.json#a%20b/auc)", "the run's mean is 0.1234"),
    ("[56 %](ledger/runs/r-1.json#single/default/asr_all:max)", "max is 61"),
    ("[.5](ledger/runs/r-2.json#single)", "no run 'r-2'"),
    ("[.5](ledger/runs/r-1.json#double)", "no figure 'double'"),
    ("[.5](ledger/runs/r-1.json#a%20b/auc:mode)", "'mode' is none of"),
    ("[so](ledger/runs/r-1.json#a%20b/auc)", "expected 1 number"),
  ],
)
def test_claims(link, fault):
  (claim,) = claims.find(f"It is {link}, and [no claim](experiments/mib.py#x).")
  found = claims.fault(claim, RUNS)
  assert found is None if fault is None else fault in found


DOCUMENT = {
  "schema": 1,
  "config": {"dataset": "location30", "draw": "random"},
  "versions": {"jmia": "0"},
  "device": "cpu",
  "seed": 3,
  "notes": [],
  "seconds": {"total": 1.234},
  "rows": [
    {"study": "single", "variant": "default", "trial": t, "asr_all": 0.6 + t / 30,
     "asr_threshold": 0.1442, "rejected": True, "p_value": None}
    for t in range(3)
  ],
  "summary": [
    {"study": "single", "variant": "default", "together": None},
    {"study": "submarks", "variant": "1 sub-mark",
     "together": {"binomial": {"0.05": 0.7, "0.01": 0.4}}},
  ],
}  # fmt: skip
RECORD = {
  "version": "0",
  "name": "mib",
  "flags": {"dataset": "location30", "data_dir": "/home/somebody/tfds"},
  "inputs": {},
  "finished": True,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
  (tmp_path / "runs").mkdir()
  monkeypatch.setattr(run_files, "HERE", tmp_path / "runs")
  made = tmp_path / "out"
  made.mkdir()
  (made / "results.json").write_text(json.dumps(DOCUMENT))
  (made / ".jmia-run.json").write_text(json.dumps(RECORD))
  return made


def test_a_run_is_cut_to_its_figures(folder):
  path = run_files.add(folder, "mib-x")
  run = run_files.load()["mib-x"]
  assert path.name == "mib-x.json"
  assert (
    run["command"] == "python -m experiments.mib --dataset=location30 --data_dir=TFDS"
  )
  assert run["figures"]["single/default/asr_all"] == [0.6, 0.633333, 0.666667]
  assert run["figures"]["single/default/rejected"] == [1.0, 1.0, 1.0]
  assert run["figures"]["submarks/1 sub-mark/claims/binomial at 0.01"] == [0.4]
  assert "somebody" not in path.read_text()
  found = {entry.cell.key: entry for entry in pages.entries({"mib-x": run})}
  assert found[CELL.key].verdict == cells.Verdict.INSIDE
  threshold = found["hu", "Section 5.1", "Location-30", "ASR threshold"]
  assert threshold.verdict == cells.Verdict.INSIDE
  counted = collections.Counter(entry.verdict for entry in found.values())
  assert counted[cells.Verdict.NOT_RUN] == len(PAPERS) - 5
  page = pages.page(list(found.values()))
  assert "| Location-30 | ASR | 68.9 | 63.3 (" in page
  assert "| 3 | inside | [mib-x](runs/mib-x.json) |" in page


@pytest.mark.parametrize(
  ("file", "change", "said"),
  [
    (".jmia-run.json", {"finished": False}, "no finished run"),
    (".jmia-run.json", {"name": "audit"}, "unknown study 'audit'"),
    ("results.json", {"notes": ["/home/somebody/x"]}, "a path of this machine"),
  ],
)
def test_what_is_no_run_is_refused(folder, file, change, said):
  content = json.loads((folder / file).read_text())
  (folder / file).write_text(json.dumps(content | change))
  with pytest.raises(ValueError, match=said):
    run_files.add(folder, "mib-x")
  assert not list(run_files.HERE.iterdir())


def test_a_threshold_stands_beside_the_papers_whatever_was_trained(folder):
  config = {"dataset": "location30", "draw": "random", "flags": {}}
  record = {**RECORD, "flags": {"dataset": "location30", "num_epochs": 2}}
  (folder / "results.json").write_text(json.dumps({**DOCUMENT, "config": config}))
  (folder / ".jmia-run.json").write_text(json.dumps(record))
  run_files.add(folder, "short")
  found = dict(run_files.figures_of(run_files.load()["short"]))
  rate, threshold = (
    found["hu", table, "Location-30", column]
    for table, column in (("4", "ASR"), ("Section 5.1", "ASR threshold"))
  )
  assert (rate.condition, rate.is_comparable) == ("num_epochs=2", False)
  assert (threshold.condition, threshold.is_comparable) == ("", True)


BENCHMARK = {
  **DOCUMENT,
  "config": {"suite": "training/fc", "matmul_precision": "float32"},
  "device": "a GPU",
  "rows": [
    {"suite": "training/fc", "name": "epoch", "width": width, "peer": "PyTorch",
     "ours_s": 0.5 / width, "ratio": None, "met": True, "target": "ratio >= 1"}
    for width in (1, 4)
  ],
}  # fmt: skip


def test_a_file_of_measurements_is_a_run_too(folder, tmp_path):
  file = tmp_path / "fc.json"
  file.write_text(json.dumps(BENCHMARK))
  run_files.add(file, "fc")
  day = {"steps": ["agreement", "training/fc"], "tiny": False, "minutes": 8.0}
  file.write_text(json.dumps({**BENCHMARK, "config": day}))
  run_files.add(file, "day")
  runs = run_files.load()
  command = "python -m experiments.benchmark --suite=training/fc"
  assert runs["fc"]["command"] == f"{command} --matmul_precision=float32"
  steps = "--steps=agreement,training/fc --minutes=8.0"
  assert runs["day"]["command"] == f"python -m experiments.gpu_day {steps}"
  assert runs["fc"]["figures"]["training/fc/epoch/4/PyTorch/ours_s"] == [0.125]
  page = pages.runs_page(runs)
  assert "## fc\n\nOn a GPU." in page
  assert "| training, fc, epoch, 1, PyTorch | 0.5 | 1 |" in page
  file.write_text(json.dumps({**BENCHMARK, "config": {}}))
  with pytest.raises(ValueError, match="is of none of benchmark, gpu_day"):
    run_files.add(file, "none")


def test_numbers_of_models_stand_in_columns_and_targets_are_kept(folder):
  def row(attack, number, aucs):
    return {
      "attack": attack, "num_references": number, "num_queries": 1,
      "auc": float(np.mean(aucs)), "tpr_at_fpr": {"0.1": 0.5},
      "by_target": [{"auc": auc, "tpr_at_fpr": {"0.1": 0.5}} for auc in aucs],
    }  # fmt: skip

  rows = [row("population", 0, (0.6, 0.8)), row("lira", 2, (0.7, 0.9)),
          row("lira", 8, (0.8, 0.9))]  # fmt: skip
  (folder / "results.json").write_text(json.dumps({**DOCUMENT, "rows": rows}))
  (folder / ".jmia-run.json").write_text(json.dumps({**RECORD, "name": "attack_power"}))
  run_files.add(folder, "power")
  runs = run_files.load()
  figures = runs["power"]["figures"]
  assert figures["lira/num_queries 1/num_references 8/auc"] == [0.8, 0.9]
  page = pages.runs_page(runs)
  assert "| auc, num references | 0 | 2 | 8 |" in page
  assert "| lira, num_queries 1 |  | 0.8 (0.7–0.9) | 0.85 (0.8–0.9) |" in page
  assert "| population, num_queries 1 | 0.7 (0.6–0.8) |  |  |" in page


def test_bad_names_and_absent_folders_are_refused(folder, tmp_path):
  with pytest.raises(ValueError, match=r"--id=.*: expected"):
    run_files.add(folder, "../x")
  with pytest.raises(ValueError, match="is not there"):
    run_files.add(tmp_path / "none", "x")


def test_the_command_says_what_it_takes(monkeypatch, capsys):
  assert _run(monkeypatch, "remove", "x") == 2
  assert "expected nothing, or add DIR" in capsys.readouterr().err
  assert _run(monkeypatch, "add", "x") == 2
  assert "--id must name the run" in capsys.readouterr().err


def test_check_finds_a_page_that_is_not_made(monkeypatch, capsys, tmp_path):
  for name in ("README.md", "BUILD_NOTES.md", "pyproject.toml"):
    text = (pages.root() / name).read_text()
    (tmp_path / name).write_text(text)
  monkeypatch.setattr(pages, "root", lambda: tmp_path)
  assert _run(monkeypatch, "--check") == 0
  capsys.readouterr()
  readme = tmp_path / "README.md"
  readme.write_text(readme.read_text().replace("| Yang,", "| Young,"))
  notes = tmp_path / "BUILD_NOTES.md"
  notes.write_text(notes.read_text() + "\n[.5](experiments/ledger/runs/none.json#x)\n")
  assert _run(monkeypatch, "--check") == 2
  err = capsys.readouterr().err
  assert "README.md is not what the ledger's files make it" in err
  assert "BUILD_NOTES.md: [.5] (none#x:mean): there is no run 'none'" in err


def test_data_files_are_part_of_the_wheel():
  here = pathlib.Path(ledger.__file__).parent
  assert {path.stem for path in (here / "papers").glob("*.csv")} == set(cells.PAPERS)


def test_precision_is_counted_of_all_rows_as_the_papers_do():
  row = {"study": "whitebox", "form": "whitebox", "precision": 0.9, "recall": 0.6}
  more = {**row, "study": "amount", "num_encoded": 20_000}
  config = {"num_members": 50_000, "encoded_share": 0.2, "num_test": 20_000}
  found = studies.figures(
    studies.STUDIES["membership_encoding"], {"rows": [row, more], "config": config}
  )
  # Of the encoded rows .6 are found, and of 20,000 test rows f = .0667, since
  # .6 / (.6 + f) is .9.
  false = 20_000 * (0.6 / 0.9 - 0.6)
  for name, encoded in (
    ("whitebox/whitebox/precision", 10_000),
    ("amount/whitebox/20000/precision", 20_000),
  ):
    expected = 0.6 * encoded / (0.6 * encoded + false)
    assert found[name] == [0.9]
    assert found[f"{name} of the paper"] == [pytest.approx(expected, rel=1e-5)]


def test_models_that_diverged_are_in_no_figure():
  row = {"study": "whitebox", "form": "whitebox", "precision": 0.9, "auc": 0.8}
  broken = {**row, "precision": None, "auc": 0.1, "diverged": True}
  config = {"num_members": 10, "encoded_share": 0.2, "num_test": 10}
  found = studies.figures(
    studies.STUDIES["membership_encoding"],
    {"rows": [{**row, "diverged": False}, broken], "config": config},
  )
  assert found["whitebox/whitebox/auc"] == [0.8]


def _of_submarks(name, rows, shares):
  figures = {}
  for number in (1, 2):
    variant = f"submarks/{number} sub-mark{'s' if number > 1 else ''}"
    figures[f"{variant}/num_marked"] = [rows / number] * 3 * number
    figures[f"{variant}/asr_all"] = [0.1, 0.2, 0.6] * number
    for test in power.TESTS:
      for asked in ("", "_each"):
        figures[f"{variant}/claims/{test}{asked} at 0.05"] = [shares[0]]
        figures[f"{variant}/claims/{test}{asked} at 0.01"] = [shares[1]]
  command = f"python -m experiments.mib --marked_share=0.{rows} --study=submarks"
  config = {"studies": ["submarks"]}
  return {"id": name, "study": "mib", "command": command, "config": config,
          "figures": figures}  # fmt: skip


def test_chances_of_submarks_stand_in_one_table_by_rows():
  runs = [_of_submarks("many", 12, (1, 0.9)), _of_submarks("few", 4, (0.5, 0))]
  other = {"study": "mib", "config": {"studies": ["single"]}}
  table = power.tables({str(i): run for i, run in enumerate([*runs, other])})
  assert table.count("`python -m experiments.mib --study=submarks`") == 1
  lines = [line.split(" | ") for line in table.splitlines() if "(runs/" in line]
  assert [line[:2] for line in lines] == [
    ["| 4", "1"], ["| 4", "2"], ["| 12", "1"], ["| 12", "2"]
  ]  # fmt: skip
  assert lines[0][2:] == ["30.0 (10–60)", *["50 (0)"] * 6, "[few](runs/few.json) |"]
  assert lines[3][3:9] == ["100 (90)"] * 6


def _strongest(figures, defense):
  """AUC of the strongest attack under a defence, and test accuracy."""
  of = {k: v for k, v in figures.items() if k.split("/")[2] == defense}
  auc = max(np.mean(v) for k, v in of.items() if k.endswith("/auc"))
  accuracy = next(v for k, v in of.items() if k.endswith("/test_accuracy"))
  return auc, np.mean(accuracy)


@pytest.mark.parametrize("study", [advice.TABLES, advice.IMAGES])
def test_what_a_report_advises_is_what_a_run_measured(study):
  runs = run_files.load()
  # The first has the models without a defence too.
  figures = dict(collections.ChainMap(*(runs[name]["figures"] for name in study.runs)))
  without = _strongest(figures, "none")
  assert (study.without.auc, study.without.accuracy) == pytest.approx(without, abs=6e-4)
  for one in study.helped:
    found = _strongest(figures, one.defense)
    assert (one.auc, one.accuracy) == pytest.approx(found, abs=6e-4), one.defense
    assert one.auc < study.without.auc


def test_rates_that_plans_rest_on_are_those_of_the_runs():
  runs = run_files.load()
  for of in measured.MEASURED.values():
    accuracies = []
    for marked, mean, spread in zip(of.marked, of.means, of.spreads, strict=True):
      figures = runs[of.run.format(marked)]["figures"]
      name = of.figure.format(marked)
      assert mean == pytest.approx(np.mean(figures[name]), abs=6e-4)
      assert spread == pytest.approx(np.std(figures[name], ddof=1), abs=6e-4)
      accuracies += figures[f"{name.rpartition('/')[0]}/test_accuracy"]
    assert of.accuracy == pytest.approx(np.mean(accuracies), abs=6e-3)


def test_what_a_part_of_a_study_varies_is_in_its_figures_names():
  row = {
    "model": "mlp", "shadow_model": "mlp", "defense": "none", "attack": "metric_loss",
    "num_members": 500, "auc": 0.9,
  }  # fmt: skip
  rows = [{**row, "num_epochs": 5, "auc": 0.6}, {**row, "num_epochs": 50}]

  def named(part):
    document = {"config": {"study": part}, "rows": rows}
    return studies.figures(studies.STUDIES["classic_mia"], document)

  assert named("gap") == {
    "mlp/mlp/none/metric_loss/num_members 500/num_epochs 5/auc": [0.6],
    "mlp/mlp/none/metric_loss/num_members 500/num_epochs 50/auc": [0.9],
  }
  assert named("metrics") == {"mlp/mlp/none/metric_loss/auc": [0.6, 0.9]}
