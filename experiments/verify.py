"""Tells whether a model was trained on data that experiments.mark has marked.

    python -m experiments.verify --key=DIR/key.json --predictions=PRED.npy

PRED.npy (or .csv) holds the model's answers to the query set, in its order: labels [m],
or probabilities or logits [m, C]. The model is needed for nothing else. With
--output_dir the verdict is also written to DIR/verdict.json.
"""

from absl import flags

from experiments import common
from jmia.backdoor import owner_files, ownership
from jmia.report import results

flags.declare_key_flag("output_dir")
_KEY = flags.DEFINE_string("key", None, "The key.json that experiments.mark wrote.")
_PREDICTIONS = flags.DEFINE_string(
  "predictions",
  None,
  "The model's answers, .npy or .csv: labels [m], or probabilities or logits [m, C].",
)
_QUERIES = flags.DEFINE_string(
  "queries", None, "The query set that was sent; if given, it must be the key's."
)
_CONFIDENCE = flags.DEFINE_float(
  "confidence",
  0.95,
  "1 minus the chance of accusing a model that was not trained on the data; the paper's"
  " 95 %. With several suspects or keys raise it: to 0.995 for ten.",
)
_BASELINE = flags.DEFINE_float(
  "baseline",
  None,
  "Largest rate at which a model that never saw the marks would answer a query with the"
  " target label. Default: 1 / classes. The claim is valid only if this is an upper"
  " bound: give your own where models favour the target label or the trigger resembles"
  " its class. Measure it on models trained without the marked data, and take the"
  " highest rate, not the mean.",
)


def main() -> None:
  """Prints the verdict; with --output_dir also writes verdict.json."""
  for flag in (_KEY, _PREDICTIONS):
    if flag.value is None:
      raise ValueError(f"--{flag.name} must have a value")
  key = owner_files.read_key(str(_KEY.value))
  if _QUERIES.value is not None:
    ownership.check_query_set(key, owner_files.read_queries(_QUERIES.value))
  verdict = ownership.judge(
    key,
    owner_files.read_predictions(str(_PREDICTIONS.value)),
    confidence=_CONFIDENCE.value,
    baseline=_BASELINE.value,
  )
  if common.OUTPUT_DIR.value is not None:
    with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
      results.write(output_dir / "verdict.json", ownership.document(verdict))
  print(_table(verdict))
  print(f"\n{ownership.sentence(verdict)}")


def _table(verdict: ownership.Verdict) -> str:
  result, m = verdict.result, verdict.num_queries
  return results.table(
    [
      ("test", "ASR", "threshold", "p-value", "claim"),
      (
        "exact, decides",
        f"{verdict.successes}/{m} = {100 * result.asr:.1f} %",
        f"at least {verdict.needed}/{m}",
        f"{result.p_value_exact:.3g}",
        "yes" if result.rejected else "no",
      ),
      (
        "t-test of the paper",
        f"{100 * result.asr:.1f} %",
        f"above {100 * verdict.asr_threshold_t:.2f} %",
        f"{result.p_value:.3g}",
        "yes" if result.rejected_t else "no",
      ),
    ]
  )


if __name__ == "__main__":
  common.run(main)
