r"""Tells whether a model was trained on data that experiments.mark has marked.

    python -m experiments.verify --key=DIR/key.json --predictions=PRED.npy
    python -m experiments.verify --key=DIR/key.json --predictions=A.npy --deposit=HASH
    python -m experiments.verify --key=DIR/key.json --predictions=A.npy \
        --nonce=NONCE --commitment=HASH

PRED.npy (or .csv) holds the model's answers to the query set, in its order: labels or
class names [m], or probabilities or logits [m, C]. The model is needed for nothing
else. A query that the suspect refuses is answered with no class: give it a label that
is none, such as -1, or equal scores. Several suspects are judged together:
--predictions=A.npy,B.npy; or one each by a key: --key=A.json,B.json. With --output_dir
the verdict is also written to DIR/verdict.json, and to DIR/verdict.html, a page to hand
to somebody else. Another verdict in DIR is refused, unless --restart is to replace it.

--nonce and --commitment are for a key whose labels a nonce has drawn (experiments.mark
--commit): as they were made public, and the commitment first. The key and its labels
must be what they make of it. Any other key rests on its secret's having been drawn
once, and not chosen among several that were tried.
"""

from collections.abc import Sequence
import hashlib
import pathlib
from typing import Any

from absl import flags
import numpy as np

from jmia.backdoor import (
  answers,
  claims,
  fingerprints,
  keys,
  owner_files,
  paper_mark,
  submarks,
)
from jmia.report import claim_page, results

from . import (
  claim_flags,
  claim_pages,
  common_flags,
  launch,
  nonce_flags,
  verdict_files,
)

flags.declare_key_flag("output_dir")
flags.declare_key_flag("restart")
flags.adopt_module_key_flags(claim_flags)
flags.declare_key_flag("nonce")
flags.declare_key_flag("commitment")
_KEY = flags.DEFINE_list(
  "key",
  None,
  "The key.json that experiments.mark wrote: one for all suspects, or one for each.",
)
_PREDICTIONS = flags.DEFINE_list(
  "predictions",
  None,
  "The model's answers, .npy or .csv: labels [m], or probabilities or logits [m, C]."
  " Several suspects with commas.",
)
_QUERIES = flags.DEFINE_string(
  "queries", None, "The query set that was sent; if given, it must be the key's."
)
_DATA = flags.DEFINE_string(
  "original_data",
  None,
  "The data before it was marked, as --data of experiments.mark; if given, it must be"
  " the key's.",
)
_DEPOSIT = flags.DEFINE_string(
  "deposit",
  None,
  "SHA-256 of key.json that was deposited before the model was trained; the key must"
  " have it.",
)
_ADJUST = flags.DEFINE_enum(
  "adjust",
  "holm",
  claims.ADJUSTMENTS,
  "With several suspects: holm keeps the chance of any false claim, bh the expected"
  " share of false ones among the claims (of independent tests, as by a key each), none"
  " each alone.",
)
_BASELINE = flags.DEFINE_float(
  "baseline",
  None,
  "Of the binomial and the t-test, which alone use it: largest rate at which a model"
  " that never saw the marks would answer a query with the target label. Default: 1 /"
  " classes. They are valid only if this is an upper bound: measure it on models"
  " trained without the marked data, and take the highest rate, not the mean.",
)


def main() -> None:
  """Prints the verdicts; with --output_dir also writes verdict.json and its page."""
  for flag in (_KEY, _PREDICTIONS):
    if not flag.value:
      raise ValueError(f"--{flag.name} must have a value")
  verdict_files.check()
  paths, suspects = list(_KEY.value or []), list(_PREDICTIONS.value or [])
  if len(paths) not in (1, len(suspects)):
    raise ValueError(
      f"--key holds {len(paths)} and --predictions {len(suspects)} files, expected one"
      " key, or one for each"
    )
  paths *= len(suspects) // len(paths)
  found = [owner_files.read_key(path) for path in paths]
  hashes = [_checked(path, key) for path, key in zip(paths, found, strict=True)]
  old = [key for key in found if isinstance(key, paper_mark.Key)]
  if old:
    common_flags.refuse(
      ["nonce", "commitment"], "is not for a key of one mark, whose label was chosen"
    )
  if old and len(found) > 1:
    raise ValueError("--key is of one mark: such keys judge one suspect at a time")
  shown = _hashes(paths, suspects, found, hashes)
  content, text, page = (_by_one_mark if old else _by_submarks)(found, suspects, shown)
  content = {**content, "key_sha256": hashes[0] if len(suspects) == 1 else hashes}
  said = [f"SHA-256 of the key: {one}{_deposited()}." for one in dict.fromkeys(hashes)]
  verdict_files.show("\n".join([text, *said]), content, page)


def _checked(path: str, key: keys.Key) -> str:
  """The SHA-256 of a key, if it is the one that was deposited and fits the files."""
  sha256 = hashlib.sha256(pathlib.Path(path).expanduser().read_bytes()).hexdigest()
  if _DEPOSIT.value is not None and _DEPOSIT.value.strip().lower() != sha256:
    raise ValueError(f"deposit={_DEPOSIT.value} is not the SHA-256 of {path}, {sha256}")
  if _QUERIES.value is not None:
    fingerprints.check_query_set(key, owner_files.read_queries(_QUERIES.value))
  if _DATA.value is not None:
    data = owner_files.read_data(_DATA.value)
    if data.fingerprint() != key.data_sha256:
      raise ValueError(f"original_data={_DATA.value} is not what {path} was made for")
  if isinstance(key, submarks.Key):
    try:
      claims.basis(key, **_made_public())
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from error
  return sha256


def _made_public() -> dict[str, str | None]:
  return {
    "nonce": nonce_flags.NONCE.value,
    "commitment": nonce_flags.COMMITMENT.value,
  }


def _deposited() -> str:
  if _DEPOSIT.value is not None:
    return ", the one that was deposited"
  if nonce_flags.NONCE.value is not None:  # the commitment stands for the deposit
    return ""
  return ", valid only if it was deposited before the model was trained (--deposit)"


def _published() -> str:
  if nonce_flags.COMMITMENT.value is not None:
    return "the one that was published."
  return "valid only if it was published before the nonce was known (--commitment)."


def _hashes(
  paths: Sequence[str],
  suspects: Sequence[str],
  found: Sequence[keys.Key],
  sha256: Sequence[str],
) -> list[tuple[str, str, str]]:
  """What the page says of the files."""
  rows: dict[tuple[str, str, str], None] = {}
  for path, key, one in zip(paths, found, sha256, strict=True):
    checked = "compared with the data" if _DATA.value else ""
    sent = "compared with the queries" if _QUERIES.value else ""
    if isinstance(key, submarks.Key) and key.commitment is not None:
      what = "The commitment, of secret, triggers and queries"
      rows[what, key.commitment, _published()] = None
    deposited = _deposited().removeprefix(", ")
    rows[f"The key, {path}", one, f"{deposited}." if deposited else ""] = None
    rows["The data before they were marked", key.data_sha256, checked] = None
    rows["The published data", key.marked_sha256, ""] = None
    rows["The queries", key.queries_sha256, sent] = None
  for path in suspects:
    rows[f"The answers, {path}", claim_pages.sha256(path), ""] = None
  return list(rows)


def _by_submarks(
  found: Sequence[keys.Key],
  suspects: Sequence[str],
  hashes: Sequence[tuple[str, str, str]],
) -> tuple[dict[str, Any], str, claim_page.Claim]:
  """Verdicts by keys of sub-marks: as JSON values, as text and as a page."""
  verdicts = []
  for key, path in zip(found, suspects, strict=True):
    assert not isinstance(key, paper_mark.Key)
    read = _read(path, key, len(suspects))
    verdicts.append(
      claims.judge(
        key,
        read,
        **_made_public(),
        confidence=claim_flags.CONFIDENCE.value,
        baseline=_BASELINE.value,
      )
    )
  assumed = dict.fromkeys(claims.assumption(verdict.basis) for verdict in verdicts)
  verdicts = claims.together(verdicts, _ADJUST.value)
  together = _together(found, verdicts)
  page = claim_pages.of_submarks(
    found, suspects, verdicts, [*map(_cells, verdicts)], hashes, together
  )
  if len(verdicts) == 1:
    (verdict,) = verdicts
    lines = [claims.sentence(verdict), *_hints(verdict), *assumed]
    text = "\n\n".join([results.table(_cells(verdict)), *lines])
    return claims.document(verdict), text, page
  lines = [
    f"{path}: {' '.join([claims.sentence(verdict), *_hints(verdict)])}"
    for path, verdict in zip(suspects, verdicts, strict=True)
  ]
  content = {
    "schema": 2,
    "adjustment": _ADJUST.value,
    "suspects": [
      {"predictions": path, **claims.document(verdict)}
      for path, verdict in zip(suspects, verdicts, strict=True)
    ],
  }
  table = _table_of_several(suspects, verdicts)
  text = "\n\n".join([table, *lines, together, *assumed])
  return content, text, page


def _read(path: str, key: submarks.Key, num_suspects: int) -> np.ndarray:
  """A suspect's answers as classes; of several, an error says whose."""
  try:
    return answers.classes(answers.read(path), key.class_names, len(key.query_rows))
  except ValueError as error:
    if num_suspects == 1 or str(error).startswith(path):
      raise
    raise ValueError(f"{path}: {error}") from error


def _together(found: Sequence[keys.Key], verdicts: Sequence[claims.Verdict]) -> str:
  """How several suspects share one level."""
  if len(verdicts) == 1:
    return ""
  level = f"{100 * (1 - verdicts[0].confidence):.3g} %"
  # One draw of the labels is behind all p-values by one key.
  shared = len({*found}) < len(found)
  but = ", which those by one key need not be: --adjust=holm holds for any"
  return {
    "holm": f"The chance of any false claim is at most {level} (Holm).",
    "bh": f"Of the claims at most {level} are false in the mean (Benjamini and"
    " Hochberg), if the tests are independent or positively dependent"
    f"{but if shared else ''}.",
    "none": f"Each claim alone is false with a chance of {level} at most.",
  }[_ADJUST.value]


def _by_one_mark(
  found: Sequence[keys.Key],
  suspects: Sequence[str],
  hashes: Sequence[tuple[str, str, str]],
) -> tuple[dict[str, Any], str, claim_page.Claim]:
  """The verdict by a key of one mark: as JSON values, as text and as a page."""
  (key,), (path,) = found, suspects
  assert isinstance(key, paper_mark.Key)
  verdict = paper_mark.judge(
    key,
    answers.read(path),
    confidence=claim_flags.CONFIDENCE.value,
    baseline=_BASELINE.value,
  )
  assumes = paper_mark.assumption(key, verdict)
  content = {**paper_mark.document(verdict), "assumes": assumes}
  cells = _cells_of_one_mark(verdict)
  page = claim_pages.of_one_mark(key, path, verdict, cells, hashes)
  text = "\n\n".join([results.table(cells), paper_mark.sentence(verdict), assumes])
  return content, text, page


def _hints(verdict: claims.Verdict) -> list[str]:
  return [f"Hint: {hint}" for hint in verdict.hints]


def _cells(verdict: claims.Verdict) -> list[tuple[str, ...]]:
  """Of the table of the three tests."""
  found, beside = verdict.randomization, verdict.beside
  baseline = f"{100 * verdict.baseline:.4g} %"
  return [
    ("test", "answered so", "threshold", "p-value", "claim"),
    (
      "randomization, decides",
      f"sum of shares {found.statistic:.3g}",
      f"p at most {1 - verdict.confidence:.3g}",
      f"{found.p_value:.3g}",
      _word(verdict.claim),
    ),
    (
      f"binomial, baseline {baseline}",
      f"{verdict.successes}/{verdict.trials} = {100 * beside.asr:.1f} %",
      f"at least {verdict.needed}/{verdict.trials}",
      f"{beside.p_value_exact:.3g}",
      _word(beside.rejected),
    ),
    (
      f"t-test of the paper, {baseline}",
      f"{100 * beside.asr:.1f} %",
      f"above {100 * verdict.asr_threshold_t:.2f} %",
      f"{beside.p_value:.3g}",
      _word(beside.rejected_t),
    ),
  ]


def _table_of_several(
  suspects: Sequence[str], verdicts: Sequence[claims.Verdict]
) -> str:
  """A line a suspect; the last two tests are not adjusted."""
  rows = [("suspect", "answered so", "p-value", "adjusted", "claim", "binomial", "t")]
  for path, verdict in zip(suspects, verdicts, strict=True):
    rows.append(
      (
        path,
        f"{verdict.successes}/{verdict.trials}",
        f"{verdict.randomization.p_value:.3g}",
        f"{verdict.p_adjusted:.3g}",
        _word(verdict.claim),
        f"{verdict.beside.p_value_exact:.3g}",
        f"{verdict.beside.p_value:.3g}",
      )
    )
  return results.table(rows)


def _cells_of_one_mark(verdict: paper_mark.Verdict) -> list[tuple[str, ...]]:
  """Of the table of the two tests."""
  result, m = verdict.result, verdict.num_queries
  return [
    ("test", "ASR", "threshold", "p-value", "claim"),
    (
      "exact, decides",
      f"{verdict.successes}/{m} = {100 * result.asr:.1f} %",
      f"at least {verdict.needed}/{m}",
      f"{result.p_value_exact:.3g}",
      _word(result.rejected),
    ),
    (
      "t-test of the paper",
      f"{100 * result.asr:.1f} %",
      f"above {100 * verdict.asr_threshold_t:.2f} %",
      f"{result.p_value:.3g}",
      _word(result.rejected_t),
    ),
  ]


def _word(claim: Any) -> str:
  return "yes" if claim else "no"


if __name__ == "__main__":
  launch.run(main)
