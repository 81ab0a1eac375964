"""Whether non-members are like the rows that calibrate p-values.

A p-value is the rank of a sample's score among those of rows that no model was trained
on. It holds if a non-member is drawn as these rows are. Where a population is harder
than the samples, as one from another source may be, non-members rank above it, and
most of them would be named as members.
"""

from collections.abc import Mapping, Sequence

from jmia.audit.outcome import OF_P_VALUES, Outcome

_LEVEL = 0.01  # of finding a difference where there is none, of all attacks together


def checked(
  outcomes: Mapping[str, Sequence[Outcome]],
) -> dict[str, list[Outcome]]:
  """Returns outcomes without p-values where the rows that calibrate are unlike.

  Whether they are is no matter of the attack, which only shows it: one that does shows
  it for all.

  Args:
    outcomes: attack -> its outcome on each target.
  """
  found = {
    (name, number): outcome.excess
    for name, of_attack in outcomes.items()
    for number, outcome in enumerate(of_attack)
    if outcome.excess is not None
  }
  if not found:
    return {name: list(of_attack) for name, of_attack in outcomes.items()}
  (name, _), p = min(found.items(), key=lambda item: item[1])
  if p * len(found) > _LEVEL:
    return {name: list(of_attack) for name, of_attack in outcomes.items()}
  note = (
    "no p-values, and no record is named: non-members score higher than the rows that"
    f" calibrate them, which no model was trained on either (by {name},"
    f" p = {p * len(found):.1g}): they are not of one kind"
  )
  return {
    name: [_without(outcome, note) for outcome in of_attack]
    for name, of_attack in outcomes.items()
  }


def _without(outcome: Outcome, note: str) -> Outcome:
  if outcome.p_values is None:
    return outcome
  summary = {
    key: value for key, value in outcome.summary.items() if key not in OF_P_VALUES
  }
  return outcome._replace(
    p_values=None, q_values=None, summary=summary, notes=[*outcome.notes, note]
  )
