"""What trained models answered, as rows of results, and what the rows come to."""

from collections.abc import Iterable, Mapping, Sequence
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import types
from jmia.backdoor import claims, randomization, triggers, verification
from jmia.backdoor import plan as plan_lib
from jmia.backdoor import settings as settings_lib
from jmia.backdoor import variants as variants_lib
from jmia.stats import intervals, levels
from jmia.training import parallel

Row = dict[str, Any]
# Of a run's key, whose stream 0 and on are the models'.
_QUERIES = 2**31 - 1
# Queries of a study's sub-marks: so many in all, or of each.
_ASKED = ("", "_each")
_NUM_MEASURED = 200  # held-out rows that a trigger's distance is the mean of


class _Case(NamedTuple):
  """One owner's claim on one model.

  Attributes:
    trial: its number.
    variant: it belongs to.
    number: of the owner among the variant's.
    model: that is asked.
    without: the model of the trial that saw none of the owners' rows.
    asked: the mark that the queries bear.
    mark: the owner's.
  """

  trial: int
  variant: variants_lib.Variant
  number: int
  model: int
  without: int
  asked: int
  mark: int

  @property
  def owner(self) -> variants_lib.Owner:
    return self.variant.owners[self.number]


def rows(
  dataset: types.Dataset,
  settings: settings_lib.Settings,
  plan: plan_lib.Plan,
  trained: parallel.Result,
  seed: int,
) -> list[Row]:
  """Returns one row for each variant, trial and owner, as JSON values.

  `asr` is of `num_queries` marked held-out rows that are not of the target class, drawn
  at random, and so are the tests; `asr_all` is of all such rows; `asr_without` is what
  `asr_all` is on the trial's model that saw no owner's row. A row of `training`
  "unmarked" or "without" has `num_marked` 0. `t_statistic` is None where infinite, and
  `paper_asr` where the paper has no figure. `trigger_distance` is the mean L2 norm of
  what the trigger changes, over 200 held-out rows, in stored units. Models that
  diverged have no rows. In the study `submarks` a trial's rows are the sub-marks of one
  owner, and `p_value_randomization`, `p_value_binomial` and `p_value_t` are of them
  together, as `verify` asks, from `num_queries` held-out rows of all classes in all,
  divided among them, and `_each` from so many of each; all are None elsewhere.

  Args:
    dataset: trained on.
    settings: of the run.
    plan: of the run.
    trained: its models, with what `study` collects.
    seed: of the draw of queries.

  Raises:
    ValueError: if fewer than `num_queries` held-out rows can be queried.
  """
  cases = [
    case
    for case in _cases(plan)
    if max(trained.diverged_epoch[[case.model, case.without]]) < 0
  ]
  if not cases:
    return []
  test_y = dataset.y[plan.jobs.test_idx]  # [M, T]
  labels = np.array([case.owner.label for case in cases])
  eligible = test_y[[case.model for case in cases]] != labels[:, None]
  answers = trained.collected["answers"]
  answered = _answered(plan, answers, [(case.model, case) for case in cases])
  without = _answered(plan, answers, [(case.without, case) for case in cases])
  successes = _count(answered, eligible, labels, cases, settings.num_queries, seed)
  baseline = 1 / dataset.num_classes
  verdict = verification.verify(
    successes, settings.num_queries, np.array(baseline), settings.confidence
  )
  threshold = verification.asr_threshold(
    settings.num_queries, baseline, settings.confidence
  )
  rate, rate_without = (
    ((answer == labels[:, None]) & eligible).sum(1) / eligible.sum(1)
    for answer in (answered, without)
  )
  test_accuracy = (answers[:, plan_lib.NO_MARK] == test_y).mean(1)
  train_accuracy = trained.collected["train_accuracy"]
  distances = _distances(dataset, plan, cases)
  together = _together(dataset, plan, cases, answered, settings.num_queries, seed)
  return [
    {
      "dataset": dataset.name,
      **_described(case),
      "num_train": int(plan.jobs.num_members[case.model]),
      "num_queries": settings.num_queries,
      "target_label": case.owner.label,
      "trigger_distance": distances[i],
      "asr": float(verdict.asr[i]),
      "asr_all": float(rate[i]),
      "asr_without": float(rate_without[i]),
      "asr_threshold": threshold,
      **_tests(verdict, i),
      **together[i],
      "train_accuracy": float(train_accuracy[case.model]),
      "test_accuracy": float(test_accuracy[case.model]),
      "paper_asr": case.variant.paper_asr,
    }
    for i, case in enumerate(cases)
  ]


def _answered(
  plan: plan_lib.Plan, answers: np.ndarray, pairs: Sequence[tuple[int, _Case]]
) -> np.ndarray:
  """`[cases, T]`, what a model answers on its held-out rows with a case's mark."""
  return np.stack([answers[m, _slot(plan, m, case.asked)] for m, case in pairs])


def _described(case: _Case) -> Row:
  """Which case a row is of."""
  return {
    "study": case.variant.study,
    "variant": case.variant.name,
    "trial": case.trial,
    "owner": case.number,
    "num_marked": _num_marked(case),
  }


def _tests(verdict: verification.Verification, number: int) -> Row:
  """What the paper's t-test and the exact one say of one case."""
  return {
    "t_statistic": _finite(verdict.t_statistic[number]),
    "p_value": float(verdict.p_value[number]),
    "p_value_exact": float(verdict.p_value_exact[number]),
    "rejected": bool(verdict.rejected[number]),
    "rejected_t": bool(verdict.rejected_t[number]),
  }


def summary(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
  """Returns one line for each variant, and each owner where it has several.

  Args:
    rows: of `rows`.

  Returns:
    Lines with `study`, `variant`, `num_marked`, `num_trials`, `trigger_distance`, of
    all rows the mean; `rates`, the `asr_all` of each row, `asr_all`, their mean, its
    95 % Student interval `asr_all_ci` (None for one trial) and `asr_all_range`;
    `asr_without` and `test_accuracy`, means; `claims` and `claims_t`, the share of rows
    with a claim by the exact test and by the paper's, each with its Clopper-Pearson
    interval `claims_ci` and `claims_t_ci`; `together`, None but of `submarks`: of each
    test of `claims.TESTS`, and with `_each` behind it, level -> the share of trials
    with a claim by all sub-marks; `paper_asr`, and `paper_inside`, whether that lies in
    the range (None without such a figure, or with one trial). The owners of
    `false_claims`, and the sub-marks of `submarks`, are pooled, and `num_trials` counts
    its pairs.
  """
  groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
  several = {(r["study"], r["variant"]) for r in rows if r["owner"] > 0}
  for row in rows:
    study, variant = row["study"], row["variant"]
    pooled = study in ("false_claims", variants_lib.SUBMARKS)
    if (study, variant) in several and not pooled:
      variant = f"owner {row['owner'] + 1}"
    groups.setdefault((study, variant), []).append(row)
  return [_line(*names, group) for names, group in groups.items()]


def _cases(plan: plan_lib.Plan) -> Iterable[_Case]:
  """Every owner's claim, in the order of the studies."""
  # Trials within variants, as they are read.
  for of_variant in zip(*plan.variants, strict=True):
    for trial, variant in enumerate(of_variant):
      without = plan_lib.Model(trial, variants_lib.WITHOUT, ())
      for number, owner in enumerate(variant.owners):
        mark = plan.mark_ids[owner.trigger, owner.label]
        yield _Case(
          trial,
          variant,
          number,
          plan.model_ids[plan_lib.model_of(trial, variant)],
          plan.model_ids[without],
          mark if variant.marked_queries else plan_lib.NO_MARK,
          mark,
        )


def _slot(plan: plan_lib.Plan, model: int, mark: int) -> int:
  """Where a model's answers to queries with a mark are."""
  return int(np.argmax(plan.jobs.query_marks[model] == mark))


def _count(
  answered: np.ndarray,
  eligible: np.ndarray,
  labels: np.ndarray,
  cases: Sequence[_Case],
  num_queries: int,
  seed: int,
) -> np.ndarray:
  """Successes `[R]` among each case's queries; an owner of a trial draws them once."""
  first: dict[tuple[int, int], int] = {}
  draw = [first.setdefault((c.trial, c.mark), len(first)) for c in cases]
  _, of_draw = np.unique(draw, return_index=True)
  key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), _QUERIES)
  queries = verification.draw_queries(key, eligible[of_draw], num_queries, 1)
  counts = verification.count_successes(
    jnp.asarray(answered), queries[np.array(draw)], jnp.asarray(labels)
  )
  return np.asarray(counts)[:, 0]


def _together(
  dataset: types.Dataset,
  plan: plan_lib.Plan,
  cases: Sequence[_Case],
  answered: np.ndarray,
  num_queries: int,
  seed: int,
) -> list[dict[str, float | None]]:
  """The p-values of each case's group by each test; None but of sub-marks."""
  found: list[dict[str, float | None]] = [
    {f"p_value_{test}{asked}": None for asked in _ASKED for test in claims.TESTS}
    for _ in cases
  ]
  groups: dict[tuple[int, str], list[int]] = {}
  for i, case in enumerate(cases):
    if case.variant.study == variants_lib.SUBMARKS:
      groups.setdefault((case.trial, case.variant.name), []).append(i)
  for (trial, _), members in groups.items():
    labels = np.array([cases[i].owner.label for i in members])
    truth = dataset.y[plan.jobs.test_idx[cases[members[0]].model]]
    rng = np.random.default_rng([seed, trial, len(members)])
    for asked, number in zip(
      _ASKED, (num_queries, num_queries * len(members)), strict=True
    ):
      rows = rng.permutation(len(truth))[:number]
      of_query = np.arange(len(rows)) % len(members)
      said = answered[np.array(members)[of_query], rows]
      tallied = randomization.tally(
        said, truth[rows], of_query, len(members), dataset.num_classes
      )
      p_values = claims.p_values(tallied, labels)
      for i in members:
        found[i] |= {
          f"p_value_{test}{asked}": p
          for test, p in zip(claims.TESTS, p_values, strict=True)
        }
  return found


def _distances(
  dataset: types.Dataset, plan: plan_lib.Plan, cases: Sequence[_Case]
) -> list[float]:
  """How far each owner's trigger moves a row; each trigger of a trial is tried once."""
  found: dict[tuple[int, triggers.TriggerConfig], float] = {}
  for case in cases:
    of = case.trial, case.owner.trigger
    if of not in found:
      x = dataset.x[plan.jobs.test_idx[case.model][:_NUM_MEASURED]]
      trigger = triggers.make(case.owner.trigger, x.shape[1:])
      found[of] = float(triggers.distance(x, trigger).mean())
  return [found[case.trial, case.owner.trigger] for case in cases]


def _num_marked(case: _Case) -> int:
  is_marked = case.variant.training == variants_lib.MARKED
  return case.owner.num_marked if is_marked else 0


def _finite(value: float) -> float | None:
  """A number as JSON has it, None for an infinity."""
  return float(value) if math.isfinite(value) else None


def _line(study: str, variant: str, group: Sequence[Mapping[str, Any]]) -> Row:
  """A group of rows in one line of a summary."""
  asr = np.array([row["asr_all"] for row in group])
  line: Row = {
    "study": study,
    "variant": variant,
    "num_marked": group[0]["num_marked"],
    "num_trials": len(group),
    "trigger_distance": float(np.mean([row["trigger_distance"] for row in group])),
    "rates": asr.tolist(),
    "asr_all": float(asr.mean()),
    "asr_all_ci": _student(asr),
    "asr_all_range": [float(asr.min()), float(asr.max())],
    "asr_without": float(np.mean([row["asr_without"] for row in group])),
    "test_accuracy": float(np.mean([row["test_accuracy"] for row in group])),
  }
  for name, test in (("claims", "rejected"), ("claims_t", "rejected_t")):
    made = sum(row[test] for row in group)
    interval = intervals.clopper_pearson(np.array(made), np.array(len(group)))
    line[name] = made / len(group)
    line[f"{name}_ci"] = [float(interval.low), float(interval.high)]
  line["together"] = _claims_together(group)
  paper = group[0]["paper_asr"]
  line["paper_asr"] = paper
  line["paper_inside"] = (
    None if paper is None or len(group) < 2 else bool(asr.min() <= paper <= asr.max())
  )
  return line


def _claims_together(
  group: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, float]] | None:
  """The share of trials with a claim, of each test and level; None but of sub-marks."""
  by_trial = list({row["trial"]: row for row in group}.values())
  if by_trial[0].get("p_value_randomization") is None:
    return None
  return {
    f"{test}{asked}": {
      f"{level:g}": float(
        levels.reaches(
          [row[f"p_value_{test}{asked}"] for row in by_trial], level
        ).mean()
      )
      for level in claims.LEVELS
    }
    for asked in _ASKED
    for test in claims.TESTS
  }


def _student(values: np.ndarray) -> list[float] | None:
  """The 95 % interval of a mean, kept within [0, 1]; None for one value."""
  if len(values) < 2:
    return None
  found = intervals.mean(values)
  return [max(0.0, float(found.low)), min(1.0, float(found.high))]
