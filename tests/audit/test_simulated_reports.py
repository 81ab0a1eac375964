"""Reports on drawn numbers: quiet where nothing leaks, loud where all does."""

from jmia.audit import simulated_reports

_ATTACKS = ("metric_loss", "reference", "rmia_offline")


def test_nothing_is_said_of_models_that_leak_nothing():
  told = []
  (row,) = simulated_reports.verdict_rows(
    _ATTACKS,
    shift=0.0,
    num_simulations=25,
    progress=lambda *counts: told.append(counts),
  )
  # At 5 % for both together, at 2.5 % for the limits; four of 25 have .002.
  assert row["leak"] + row["hint"] <= 0.15
  assert row["exceeded"] <= 0.15
  assert row["false_discovery_rate"] <= 0.2
  assert told[-1] == (25, 25)


def test_all_is_said_of_models_that_leak():
  (row,) = simulated_reports.verdict_rows(
    _ATTACKS, shift=8.0, num_samples=200, num_simulations=3
  )
  assert row["leak"] == 1
  assert row["exceeded"] == 1
  (several,) = simulated_reports.verdict_rows(
    _ATTACKS, shift=8.0, num_targets=4, num_simulations=1
  )
  assert several["leak"] == 1
  assert (several["num_attacks"], several["num_targets"]) == (3, 4)


def test_named_records_are_members_for_the_most_part():
  def row():
    return simulated_reports.verdict_rows(
      _ATTACKS,
      shift=8.0,
      num_samples=200,
      num_calibrating=1000,
      share=0.5,
      num_simulations=4,
    )[0]

  found = row()
  assert found["false_discovery_rate"] <= 0.1
  assert found["found"] > 0.5
  assert row() == found
