"""The benchmark's arithmetic and its files; how fast anything is, no test asks."""

import copy
import dataclasses
import itertools
import json
import pathlib
import subprocess
import sys
import time

from absl import flags
from absl.testing import flagsaver
import jax
import numpy as np
import pytest

from experiments import benchmark as binary
from experiments import gpu_day, launch
from experiments.benchmarks import (
  agreement,
  measure,
  memory,
  products,
  rate_tests,
  scaling,
  scoring,
  studies,
  torch_loop,
  training,
)
from jmia import splits
from jmia.training import config as config_lib

KEYS = {
  "suite", "name", "width", "ours_s", "peer", "peer_s", "ratio", "limit_share",
  "target", "met",
}  # fmt: skip


def _row(**kwargs):
  settings = {"suite": "s", "name": "n", "width": 1, "ours": measure.Cost(2.0, 3.0)}
  return measure.Row(**{**settings, **kwargs}).content()


@pytest.mark.parametrize(
  ("theirs", "share", "target", "met", "missed"),
  [
    (4.0, None, {"ratio": 2}, True, ""),
    (3.9, None, {"ratio": 2}, False, "ratio 1.95"),
    (4.0, 0.8, {"ratio": 2, "limit_share": 0.9}, False, "limit_share 0.8"),
    (None, 0.9, {"ratio": 2, "limit_share": 0.9}, None, ""),  # no peer, no verdict
    (None, 0.8, {"ratio": 2, "limit_share": 0.9}, False, "limit_share 0.8"),
    (4.0, None, {}, None, ""),
  ],
)
def test_a_target_is_met_missed_or_open(theirs, share, target, met, missed):
  peer = measure.Cost(theirs, theirs) if theirs else None
  row = _row(theirs=peer, limit_share=share, target=target)
  assert row.keys() >= KEYS
  assert (row["met"], row["missed"]) == (met, missed)
  assert row["ratio"] == (theirs / 2 if theirs else None)


def test_other_figures_have_targets_from_above():
  memory = _row(ours=None, target={"mib": 350}, more={"mib": 402.0})
  assert (memory["target"], memory["met"]) == ("mib ≤ 350", False)
  assert memory["ours_s"] is None
  assert _row(target={"mib": 350}, more={"mib": 350.0})["met"] is True


def test_calls_take_turns_after_one_each_that_does_not_count():
  called = []
  costs = measure.alternate(
    lambda: called.append("a"), lambda: called.append("b"), seconds=0, least=2
  )
  assert "".join(called) == "ababab"
  assert len(costs) == 2


def test_products_of_a_step_by_hand():
  # Batch 8, 5 -> 4 -> 3: the first layer's input needs no gradient.
  shapes = products.of_mlp(8, (5, 4, 3))
  assert shapes == [(8, 5, 4), (5, 8, 4), (8, 4, 3), (4, 8, 3), (8, 3, 4)]
  products.runner(shapes, 2)()


_SMALL = training.Case(
  name="fc",
  shape=(6,),
  num_classes=3,
  num_rows=40,
  num_members=20,
  config=config_lib.TrainConfig(model="mlp_256_128", batch_size=8),
)


def test_a_case_trains_beside_its_peers(monkeypatch):
  shapes = products.of_mlp(8, (6, 256, 128, 3))
  row = training._beside_torch(
    _SMALL, 2, shapes=shapes, target={"ratio": 1e9}, num_turns=2
  ).content()
  assert row["width"] == 2
  assert row["limit_share"] > 0
  assert row["met"] is (False if torch_loop.is_installed() else None)
  monkeypatch.setattr(torch_loop, "is_installed", lambda: False)
  alone = training._beside_torch(_SMALL, 2, target={"ratio": 1}, num_turns=1).content()
  assert (alone["met"], alone["peer_s"]) == (None, None)
  assert "not installed" in alone["peer"]


@pytest.mark.skipif(not torch_loop.is_installed(), reason="needs PyTorch")
@pytest.mark.parametrize("case", [training.FC, training.CNN, training.RESNET])
def test_both_sides_train_the_same_network(case):
  """As many parameters, layer by layer; batch statistics are no parameters."""
  dataset = dataclasses.replace(case, num_rows=2).dataset()
  recipe = config_lib.build(case.config, dataset).recipe
  state = jax.eval_shape(recipe.init, jax.random.key(0), None)
  ours = sorted(leaf.size for leaf in jax.tree.leaves(state.params))
  theirs = sorted(
    p.numel() for p in torch_loop.model(case.config, dataset).parameters()
  )
  assert ours == theirs


def test_cost_of_a_model_of_several(monkeypatch):
  small = dataclasses.replace(
    scaling._CASE,
    shape=(6,),
    num_rows=20,
    num_members=8,
    config=config_lib.TrainConfig(batch_size=8),
  )
  monkeypatch.setattr(scaling, "_CASE", small)
  run = scaling.run(3)
  assert run.cost.wall > 0
  assert run.width == 3


@pytest.fixture
def run(monkeypatch, capsys):
  def run(*arguments):
    monkeypatch.setattr(
      sys, "argv", ["benchmark", "--compilation_cache=", *map(str, arguments)]
    )
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(binary.main)
    jax.config.update("jax_enable_compilation_cache", True)
    return stopped.value.code or 0, *capsys.readouterr()

  return run


@pytest.mark.parametrize("suite", ["tests", "scoring"])
def test_the_contracts_file_and_the_table_last(run, monkeypatch, tmp_path, suite):
  monkeypatch.setattr(rate_tests, "NUM_TESTS", 100)
  for name, size in (("NUM_MODELS", 4), ("NUM_SAMPLES", 40), ("NUM_CLASSES", 2)):
    monkeypatch.setattr(scoring, name, size)
  monkeypatch.setattr(scoring, "ATTACKED", (4, 40, 20))
  turns = measure.alternate
  monkeypatch.setattr(
    measure, "alternate", lambda *calls, **_: turns(*calls, seconds=0, least=1)
  )
  file = tmp_path / "new" / "rows.json"
  code, out, err = run(f"--suite={suite}", f"--output={file}")
  assert code == 0, err
  content = json.loads(file.read_text())
  assert content["schema"] == 1
  assert {"device", "versions"} <= content.keys()
  assert all(row.keys() >= KEYS for row in content["rows"])
  assert len(out.splitlines()) >= 2 + len(content["rows"])
  assert suite in out.splitlines()[-1]
  if suite == "scoring":
    without = [row["name"] for row in content["rows"] if not row["limit_share"]]
    assert without == ["scores of random"]  # which reads nothing


@pytest.mark.parametrize(
  ("arguments", "line"),
  [
    (("--suite=speed", "--output=x.json"), "suite=speed, expected"),
    (("--suite=tests",), "--output must have a value"),
  ],
)
def test_bad_input_is_one_line(run, arguments, line):
  code, _, err = run(*arguments)
  assert code == 2
  assert err.startswith(f"benchmark: {line}")


def test_bytes_of_a_step_by_hand():
  moved, sizes = 0, (6, 256, 128, 3)
  for inputs, outputs in itertools.pairwise(sizes):
    forward = 8 * inputs + inputs * outputs + 8 * outputs
    # The gradient of the weights moves as much; of the first input there is none.
    moved += forward * (2 if inputs == 6 else 3)
  biases = sum(sizes[1:])
  weights = sum(a * b for a, b in itertools.pairwise(sizes)) + biases
  loss = 2 * (8 + 8 + 1)  # a product of vectors, and its derivative
  assert training.bytes_of_step(_SMALL) == 4 * (moved + loss + 5 * weights)
  assert memory.bandwidth(2**20) > 0


def test_bytes_of_a_convolution_are_those_of_images_however_it_is_computed(monkeypatch):
  case = dataclasses.replace(
    training.CNN, num_rows=8, num_members=8, config=dataclasses.replace(
      training.CNN.config, batch_size=4, model_options=(("features", (2,)),)
    ),
  )  # fmt: skip
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  kernel, output = 3 * 3 * 3 * 2, 16 * 16 * 2 * 10
  images, maps = 4 * 32 * 32 * 3, 4 * 32 * 32 * 2
  convolved = 2 * (images + kernel + maps)  # and for the gradient of the kernel
  read_out = 3 * (4 * 16 * 16 * 2 + output + 4 * 10)
  weights = kernel + 2 + output + 10
  loss = 2 * (4 + 4 + 1)
  assert training.bytes_of_step(case) == 4 * (convolved + read_out + loss + 5 * weights)


def test_a_peer_that_is_not_there_leaves_its_columns_empty(monkeypatch):
  monkeypatch.setattr(torch_loop, "is_installed", lambda: False)
  row = training.beside_vmap(_SMALL, 2, target={"ratio": 3}, num_turns=1).content()
  assert (row["peer"], row["peer_s"], row["met"]) == (
    "torch.func.vmap (not installed)", None, None,
  )  # fmt: skip
  assert row["ours_s"] > 0


@pytest.mark.skipif(not torch_loop.is_installed(), reason="needs PyTorch")
def test_stacked_models_in_pytorch_train_each_as_alone(monkeypatch):
  """Beside plain SGD of each by itself, on the same batches of two sizes."""
  import torch

  from experiments.benchmarks import torch_vmap

  config = dataclasses.replace(training.FC.config, batch_size=16)
  case = dataclasses.replace(training.FC, num_rows=40, num_members=30, config=config)
  dataset, alone, stacked = case.dataset(), [], {}
  stack = torch.func.stack_module_state

  def kept(models):
    alone.extend(copy.deepcopy(model) for model in models)
    parameters, buffers = stack(models)
    stacked.update(parameters)
    return parameters, buffers

  # A captured step of a GPU is run once more, to warm up.
  monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
  monkeypatch.setattr(torch.func, "stack_module_state", kept)
  members = np.stack([np.arange(30), np.arange(10, 40)])
  torch.manual_seed(0)
  epoch = torch_vmap.trainer(dataset, config, members)
  torch.manual_seed(1)
  epoch()
  torch.manual_seed(1)
  orders = torch.argsort(torch.rand(members.shape), dim=1)
  for number, (model, rows, order) in enumerate(
    zip(alone, members, orders, strict=True)
  ):
    before = [p.detach().clone() for p in model.parameters()]
    _sgd(torch, model, config.optimizer, dataset, np.split(rows[order], [16]))
    for (name, own), start in zip(model.named_parameters(), before, strict=True):
      torch.testing.assert_close(stacked[name][number], own, rtol=1e-4, atol=1e-6)
      assert not torch.equal(own, start)


def _sgd(torch, model, config, dataset, batches):
  """Trains a model on batches of rows, one after another."""
  optimizer = torch.optim.SGD(
    model.parameters(),
    lr=config.learning_rate,
    momentum=config.momentum,
    weight_decay=config.weight_decay,
  )
  for batch in batches:
    x = torch.tensor(dataset.x[batch]).float()
    y = torch.tensor(dataset.y[batch]).long()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def test_agreement_says_how_far_two_devices_are_apart():
  here = np.array([[1.0, 2.0], [3.0, 4.0]])
  row = agreement._row("loss of fc", here, here * 1.005).content()
  assert (row["difference"], row["met"]) == (pytest.approx(0.005 / 1.005), True)
  off = agreement._row("loss of fc", here, here + np.nan).content()
  assert (off["met"], off["difference"]) == (False, 1e9)
  scores = np.array([0.0, 10.0, np.nan, np.inf])
  same = agreement._row("scores of r", scores, scores).content()
  assert (same["difference"], same["met"]) == (0.0, True)
  other = agreement._row("scores of r", scores + 0.1, scores).content()
  assert (other["difference"], other["met"]) == (pytest.approx(0.01), False)


def test_the_scores_of_every_attack_on_answers_are_compared():
  found = agreement._scores()
  assert {"scores of lira_online", "scores of rmia_offline"} <= found.keys()
  assert all(np.isfinite(scores).all() for scores in found.values())


def _ends(state):
  """Whether a process is gone soon, or a zombie that nobody has waited for."""
  for _ in range(50):
    try:
      if state.read_text().rpartition(")")[2].split()[0] == "Z":
        return True
    except (FileNotFoundError, ProcessLookupError):
      return True
    time.sleep(0.1)
  return False


def test_gpu_day_stops_what_a_suite_has_started_too(tmp_path):
  file = tmp_path / "process"
  inner = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid()))"
  program = (
    "import subprocess, sys;"
    f"subprocess.run([sys.executable, '-c', {inner + '; time.sleep(60)'!r}])"
  )
  with pytest.raises(subprocess.TimeoutExpired):
    gpu_day._bounded([sys.executable, "-c", program], 5)
  assert _ends(pathlib.Path("/proc", file.read_text(), "stat"))
  code, errors = gpu_day._bounded(
    [sys.executable, "-c", "import sys; sys.exit('broken')"], 30
  )
  assert (code, errors) == (1, "broken\n")


def test_gpu_day_keeps_what_it_has(monkeypatch, tmp_path, capsys):
  calls = []
  seconds = []

  def run(suite, timeout):
    calls.append(suite)
    seconds.append(timeout)
    if suite == "scoring":
      return [], "scoring: it broke"
    return [_row(suite=suite)], ""

  monkeypatch.setattr(gpu_day, "_run", run)
  if not flags.FLAGS.is_parsed():  # no test before this one ran a binary
    flags.FLAGS.mark_as_parsed()
  output = tmp_path / "gpu.json"
  with flagsaver.flagsaver(
    output=str(output), steps=["agreement", "scoring", "tests"], minutes=8.0
  ):
    gpu_day.main()
  content = json.loads(output.read_text())
  assert calls == ["agreement", "scoring", "tests"]
  # Half of what is left, and all of it for the last: these took no time.
  np.testing.assert_allclose(seconds, [240, 240, 480], atol=5)
  assert [row["suite"] for row in content["rows"]] == ["agreement", "tests"]
  assert content["notes"] == ["scoring: it broke"]
  assert "scoring: it broke" in capsys.readouterr().out
  with flagsaver.flagsaver(output=str(output), steps=["tests"], minutes=0.1):
    gpu_day.main()  # 6 s are not enough to begin
  assert json.loads(output.read_text())["notes"] == ["tests: not run, no time was left"]


def test_a_peer_that_fails_costs_no_figure_of_ours(monkeypatch):

  def fails(*_):
    raise RuntimeError("no kernel image\nand much more")

  monkeypatch.setattr(torch_loop, "is_installed", lambda: True)
  monkeypatch.setattr(torch_loop, "name", lambda: "PyTorch 9 loop")
  monkeypatch.setattr(torch_loop, "trainer", fails)
  row = training._beside_torch(_SMALL, 2, target={"ratio": 1}, num_turns=1).content()
  assert row["peer"] == "PyTorch 9 loop: RuntimeError: no kernel image"
  assert (row["peer_s"], row["met"]) == (None, None)
  assert row["examples_per_second"] == pytest.approx(20 / row["ours_s"])


def test_what_is_timed_on_an_accelerator_alone_has_rows_enough(monkeypatch):
  seen = []

  def epoch(case, num_models, names):
    splits.draw(np.arange(case.num_rows), case.num_members, num_models, seed=0)
    seen.append(case.name)
    return measure.Cost(1.0, 1.0)

  def run(case, width, peers, num_turns):
    epoch(case, width or 1, ())
    return training._Run(
      ours=measure.Cost(1.0, 1.0), peers={}, width=width or 1, compile_s=1.0
    )

  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(torch_loop, "is_installed", lambda: False)
  monkeypatch.setattr(memory, "bandwidth", lambda: 1e12)
  monkeypatch.setattr(studies, "epoch", epoch)
  monkeypatch.setattr(training, "_run", run)
  names = [row.content()["suite"] for s in training.SUITES.values() for row in s()]
  studies.mib()
  studies.private()
  assert set(names) == set(training.SUITES)
  assert {"fc", "fc150", "cnn", "resnet18", "dp_audit"} <= set(seen)
