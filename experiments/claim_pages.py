"""The pages that `verify` and `watermark verify` hand to somebody else: their words."""

from collections.abc import Sequence
import hashlib
import pathlib
import shlex
import sys

from jmia.backdoor import claims, keys, paper_mark
from jmia.encoding import claims as watermark_claims
from jmia.encoding import watermark
from jmia.report import claim_page

_ASKED = "Was this model trained on the marked data?"
_HONEST = (
  "The answers are those of the suspect model to the key's queries, in their order,"
  " and were not changed."
)
_NO_CLAIM = (
  "No claim does not show that the model was not trained on the data: it may have seen"
  " too few marked rows, or the marks may have been removed."
)
_WHO = (
  "A claim is about the data, not about who took it: the model may have got the marked"
  " rows by way of somebody else."
)


def of_submarks(
  found: Sequence[keys.Key],
  suspects: Sequence[str],
  verdicts: Sequence[claims.Verdict],
  tables: Sequence[claim_page.Table],
  hashes: Sequence[tuple[str, str, str]],
  together: str,
) -> claim_page.Claim:
  """Returns the page of verdicts by keys of sub-marks.

  Args:
    found: the key of each suspect.
    suspects: their names.
    verdicts: on them.
    tables: of their tests.
    hashes: see `claim_page.Claim`.
    together: likewise.
  """
  key, verdict = found[0], verdicts[0]
  level, nonce = 100 * (1 - verdict.confidence), verdict.basis.nonce
  drawn_by = "a secret draws" if nonce is None else "a secret and a nonce draw"
  return claim_page.Claim(
    title=_ASKED if len(suspects) == 1 else "Were these models trained on the data?",
    method=(
      "Before the data were given away, a few rows were stamped with marks, each of"
      f" which stands for a label that {drawn_by} by lot among all classes. The"
      " suspect was asked about other stamped rows, and the verdict compares its"
      " answers with those label vectors that the lot did not draw: p is the exact"
      " share of them that fit at least as well. (After Hu et al., Membership Inference"
      " via Backdooring, 2022, with a randomization test.)"
    ),
    facts=[
      ("Confidence", f"{100 * verdict.confidence:.4g} %"),
      *(_facts(key, verdict) if len({*found}) == 1 else ()),
      ("Suspects", str(len(suspects))),
      *([] if nonce is None else [("Nonce", nonce)]),
    ],
    findings=[
      claim_page.Finding(
        suspect,
        one.claim,
        claims.sentence(one),
        one.hints,
        [(_TESTS if len(suspects) == 1 else _ALONE, table), (_MARKS, _marks(one))],
      )
      for suspect, one, table in zip(suspects, verdicts, tables, strict=True)
    ],
    together=together,
    assumptions=[
      _FIXED if nonce is None else _COMMITTED,
      "Whoever trained the model knew nothing of the labels but from the marked rows."
      " Nothing else is assumed of the model: the verdict holds for one that favours a"
      " label, or that was trained on other owners' marks.",
      _HONEST,
      *([_DRAWN_ONCE] if nonce is None else []),
      _only(nonce is not None, _one_in(level)),
      "The binomial test and the t-test beside, which do not decide, also assume that a"
      " model which never saw the marks gives their labels at the stated baseline at"
      " most.",
    ],
    limits=[_NO_CLAIM, _WHO, _chance(level)],
    hashes=hashes,
    repeat=command("verify"),
  )


def of_one_mark(
  key: paper_mark.Key,
  suspect: str,
  verdict: paper_mark.Verdict,
  table: claim_page.Table,
  hashes: Sequence[tuple[str, str, str]],
) -> claim_page.Claim:
  """Returns the page of a verdict by a key of one mark; arguments as `of_submarks`."""
  return claim_page.Claim(
    title=_ASKED,
    method=(
      "Before the data were given away, a few rows were stamped with a mark and given"
      " one label. The suspect was asked about other stamped rows. (Hu et al.,"
      " Membership Inference via Backdooring, 2022.)"
    ),
    facts=[
      ("Confidence", f"{100 * verdict.confidence:.4g} %"),
      ("Classes", str(key.num_classes)),
      ("Queries", str(verdict.num_queries)),
      ("Baseline", f"{100 * verdict.baseline:.4g} %"),
    ],
    findings=[
      claim_page.Finding(
        suspect,
        bool(verdict.result.rejected),
        paper_mark.sentence(verdict),
        (),
        [(_TESTS, table)],
      )
    ],
    together="",
    assumptions=[
      paper_mark.assumption(key, verdict),
      _FIXED,
      _HONEST,
    ],
    limits=[_NO_CLAIM, _WHO, _chance(100 * (1 - verdict.confidence))],
    hashes=hashes,
    repeat=command("verify"),
  )


def of_watermark(
  verdict: watermark_claims.Verdict,
  suspect: str,
  hashes: Sequence[tuple[str, str, str]],
) -> claim_page.Claim:
  """Returns the page of a watermark's verdict.

  Args:
    verdict: on the model.
    suspect: the model's name.
    hashes: see `claim_page.Claim`.
  """
  tests, assumes = verdict.tests, verdict.basis.assumes
  assumptions = _OF_SECRET if verdict.basis.nonce is None else _OF_NONCE
  return claim_page.Claim(
    title="Is this the model that was encoded with this key?",
    method=(
      "While the model was trained, it was written into it which of a set of rows are"
      " claimed and which are controls, an assignment drawn by lot; a decoder"
      " made with the secret reads it. (Song and Shokri, Robust Membership Encoding,"
      " 2020.)"
    ),
    facts=[
      ("Level", f"{tests.level:g}"),
      ("p-value", f"{tests.p_value:.2g}"),
      ("Rows", verdict.basis.assignment),
    ],
    findings=[
      claim_page.Finding(
        suspect,
        verdict.accepted,
        watermark_claims.sentence(verdict),
        (),
        _tables_of_watermark(tests),
      )
    ],
    together="",
    assumptions=[
      f"{assumes[0].upper()}{assumes[1:]}. {assumptions[0]}",
      *assumptions[1:],
    ],
    limits=[
      "A claim that does not stand does not show that the model is another's: the"
      " encoding may have been removed.",
      "Of claims that are false, the level's share stands by chance, if the assumptions"
      " hold.",
    ],
    hashes=hashes,
    repeat=command("watermark"),
  )


def _tables_of_watermark(
  tests: watermark.Verdict,
) -> list[tuple[str, list[tuple[str, ...]]]]:
  """What the two tests, and the decoder, say."""
  by_rows = watermark.p_text(tests.p_rows).removeprefix("= ")
  return [
    (
      "Both tests must reject.",
      [
        ("test", "p-value"),
        ("against rows assigned at random", by_rows),
        ("against secrets drawn at random", f"{tests.p_key:.2g}"),
      ],
    ),
    (
      "What the decoder says of the rows.",
      [
        ("rows", "share"),
        ("claimed, of those that score highest", f"{tests.share:.1%}"),
        ("claimed rows called members", f"{tests.claimed_called:.1%}"),
        ("controls called members", f"{tests.controls_called:.1%}"),
      ],
    ),
  ]


def sha256(path: str) -> str:
  """Returns the SHA-256 of a file's bytes, in hexadecimal."""
  return hashlib.sha256(pathlib.Path(path).expanduser().read_bytes()).hexdigest()


# What follows on the assumption about the rows, and further ones.
_OF_SECRET = (
  "Otherwise models that were never encoded are claimed many times as often as the"
  " level says, whatever was committed to.",
  "The commitment was published before the model.",
  "The secret was drawn at random, and one commitment was published: the level is of"
  " each.",
)
_OF_NONCE = (
  "How rows and secret were chosen does not matter then: the nonce, which nobody could"
  " foresee, has drawn from all committed rows which are claimed.",
  "One commitment was published, or all that were are known: the level is of each.",
)
_FIXED = "The key was fixed before the model existed, which a deposited SHA-256 shows."
_DRAWN_ONCE = (
  "The key's secret was drawn once, by chance. Who draws many and keeps one whose"
  " labels models of his own give to its marks accuses models that never met the data"
  " many times as often as the level says, and a deposit does not show it."
)
# Of sub-marks with a nonce.
_COMMITTED = (
  "The commitment was published before the nonce was known to anybody. How secret,"
  " rows, triggers and queries were chosen does not matter then: the nonce, which"
  " nobody could foresee, has drawn the labels."
)
_TESTS = "The tests; the first decides."
_ALONE = "The tests, p-values of this suspect alone; the first decides, once adjusted."
_MARKS = "Sub-mark by sub-mark: queries of the label's own class are left out."


def _facts(key: keys.Key, verdict: claims.Verdict) -> list[tuple[str, str]]:
  if isinstance(key, paper_mark.Key):
    return []
  return [
    ("Classes", str(len(key.class_names))),
    ("Sub-marks", str(len(key.submarks))),
    ("Marked rows", str(sum(len(submark.rows) for submark in key.submarks))),
    ("Queries", str(len(key.query_rows))),
    ("Least p-value possible", f"{verdict.randomization.floor:.2g}"),
  ]


def _marks(verdict: claims.Verdict) -> list[tuple[str, ...]]:
  rows: list[tuple[str, ...]] = [
    (
      "sub-mark",
      "answered with its label",
      "share",
      "best other class",
      "rank of label",
    )
  ]
  for j, one in enumerate(verdict.by_submark):
    rows.append(
      (
        str(j + 1),
        f"{one.successes} of {one.trials}",
        f"{100 * one.successes / max(one.trials, 1):.0f} %",
        f"{100 * one.next_share:.0f} %",
        str(one.rank),
      )
    )
  return rows


def _only(is_committed: bool, number: str) -> str:
  if is_committed:
    return (
      "This commitment is the only one that was published, and this nonce the only one"
      f" that was tried, once: of {number} keys one fits by chance."
    )
  return (
    f"This key is the only one that was tried, and once: of {number} keys made up"
    " afterwards, one fits by chance."
  )


def _one_in(level: float) -> str:
  return f"{round(100 / level):,}"


def _chance(level: float) -> str:
  return (
    f"Of models that were not trained on the data, {level:.2g} % at most are accused"
    " by chance, if the assumptions hold."
  )


def command(binary: str) -> str:
  """Returns this process's command without secrets, as somebody else would run it."""
  given = [one for one in sys.argv[1:] if not one.lstrip("-").startswith("secret")]
  return f"jmia {binary} {shlex.join(given)}"
