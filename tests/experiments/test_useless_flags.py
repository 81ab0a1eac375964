"""Flags that what was asked for would ignore are refused, before any work."""

import sys

from absl.testing import flagsaver
import pytest

from experiments import (
  audit,
  classic_mia,
  compare,
  dp_audit,
  enhanced_mia,
  launch,
  mark,
  membership_encoding,
  mib,
  simulations,
  watermark,
)
from jmia.audit import estimate


@pytest.mark.parametrize(
  ("binary", "arguments", "line"),
  [
    (audit, "--outputs=logits", "--outputs is of --signals"),
    (
      classic_mia,
      "--study=metrics --dataset=digits --momentum=0.5",
      "--momentum is SGD's, and the preset trains with adam: leave it out",
    ),
    (
      audit,
      "--signals=s.npz --num_epochs=3 --defense=flip",
      "--num_epochs, --defense with --signals: nothing is trained, so leave it out",
    ),
    (
      audit,
      "--signals=s.npz --near_copies=0.1 --data_dir=d",
      "--near_copies, --data_dir with --signals: nothing is trained, so leave it out",
    ),
    *(
      (
        audit,
        f"--attacks={attacks} {flag}",
        f"{flag.partition('=')[0]} is read by none",
      )
      for attacks, flag in (
        ("metric_loss", "--num_references=99"),
        ("distillation", "--references=in_out"),
        ("reference", "--num_distilled=3"),
        ("reference", "--num_left_out=6"),
        ("reference", "--num_retrained=6"),
        ("reference", "--num_queries=7"),
        ("lira_offline", "--estimator=linear"),
      )
    ),
    (
      audit,
      "--attacks=metric_loss --num_references=99 --num_distilled=3",
      "--num_references, --num_distilled is read by none of the attacks, so leave it",
    ),
    (
      audit,
      "--repeat=report.json --seed=3 --attacks=random",
      "--attacks, --seed with --repeat: the report's own is taken, so leave it out",
    ),
    *(
      (
        binary,
        f"--defense={one}:0.1 --{flag}=0.5",
        f"--{flag} with --defense={one}, wh",
      )
      for binary in (audit, mib, membership_encoding)
      for one, flag in (("l2", "weight_decay"), ("dropout", "dropout_rate"))
    ),
    *(
      (binary, "--defense=flip --delta=0.1", "--delta is of --defense=dp_sgd, which is")
      for binary in (mib, membership_encoding)
    ),
    (
      classic_mia,
      "--study=defenses --defenses=flip --delta=0.1",
      "--delta is of dp_sgd, which is none of the defences",
    ),
    (
      classic_mia,
      "--defenses=top_k:1",
      "--defenses is for --study=defenses and is not read with metrics",
    ),
    (
      classic_mia,
      "--study=gap --num_with=3",
      "--num_with is for --study=similarity and is not read with gap",
    ),
    (
      dp_audit,
      "--num_canaries=10",
      "--num_canaries is for --mode=one_run and is not read with many_runs",
    ),
    (
      dp_audit,
      "--momentum=0.9 --weight_decay=0.1",
      "--momentum, --weight_decay is not read here: the audited mechanism is plain SGD",
    ),
    (
      enhanced_mia,
      "--config=purchase100_1 --dataset=purchase100_synthetic --models_per_point=3",
      "--models_per_point is of --agreement_points, and none are asked",
    ),
    (mark, "--data=x.npz --num_marked=3 --asr=0.5", "--asr is for --plan"),
    (
      mark,
      "--plan --num_marked=9 --num_classes=3 --trigger_size=2",
      "--trigger_size is not read with --plan, which marks nothing",
    ),
    (
      membership_encoding,
      "--amounts=0.1",
      "--amounts is for --study=amount and is not read with whitebox",
    ),
    (
      membership_encoding,
      "--study=watermark --num_trials=7",
      "--num_trials is not read with --study=watermark, of one trial",
    ),
    (
      membership_encoding,
      "--study=projection --num_trials=7",
      "--num_trials is not read with --study=projection, of one trial",
    ),
    (
      membership_encoding,
      "--study=amount --encoded_share=0.3",
      "--encoded_share is not read with --study=amount: give --amounts",
    ),
    (mib, "--num_queries=10", "--num_queries is no flag of this command; --help lists"),
    (
      simulations,
      "--study=epsilon --attacks=random",
      "--attacks is for --study=attacks and is not read with epsilon",
    ),
    (
      watermark,
      "embed --data_file=x.npz --level=0.1",
      "--level is for --command=verify and is not read with embed",
    ),
    (
      watermark,
      "embed --data_file=x.npz --black_box --layer=nonsense",
      "--layer is not read with --black_box, which encodes in outputs",
    ),
    (
      watermark,
      "embed --data_file=x.npz --num_members=9",
      "--num_members is no flag of this command; --help lists",
    ),
    (
      watermark,
      "embed --data_file=x.npz --command=verify",
      "--command=verify and the bare argument 'embed' both say it: leave one out",
    ),
    (
      compare,
      "d1 d2 --audits A,B",
      "--audits=A,B and the bare arguments 'd1', 'd2' both say it: leave one out",
    ),
    (
      watermark,
      "verify --key_file=k --claim_file=c --model_file=m --num_epochs=3",
      "--num_epochs is for --command=embed",
    ),
  ],
)
def test_a_flag_that_would_be_ignored(
  binary, arguments, line, monkeypatch, capsys, tmp_path
):
  output_dir = [] if "--plan" in arguments else [f"--output_dir={tmp_path / 'out'}"]
  argv = ["tool", "--compilation_cache=", *output_dir, *arguments.split()]
  monkeypatch.setattr(sys, "argv", argv)
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    launch.run(binary.main)
  assert stopped.value.code == 2
  assert capsys.readouterr().err.startswith(f"tool: {line}")
  assert not list(tmp_path.glob("out/results.json"))


@pytest.mark.parametrize(
  "arguments",
  [
    "--attacks=metric_loss:by_class --num_references=4",
    "--attacks=lira_online --num_references=4 --references=in_out --num_queries=3",
    "--attacks=leave_one_out --num_left_out=4 --num_retrained=2 --estimator=linear",
    "--attacks=distillation,random --num_distilled=4",
    "--attacks=random --delta=0.1",
  ],
)
def test_a_flag_that_an_attack_reads_is_taken(arguments, monkeypatch, capsys, tmp_path):
  argv = ["tool", "--compilation_cache=", f"--output_dir={tmp_path}"]
  monkeypatch.setattr(sys, "argv", [*argv, "--dry_run", *arguments.split()])
  monkeypatch.setattr(estimate, "cost", lambda *args, **kwargs: estimate.Cost(1.0, 1.0))
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    launch.run(audit.main)
  assert not stopped.value.code, capsys.readouterr().err
