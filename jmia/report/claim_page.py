"""A claim about a model as one HTML page that can be handed to somebody else.

It says what was claimed, the evidence, what the verdict assumes, and the hashes that
tie it to files; never the secret, the triggers or the labels, which a reader could use
against the next claim.
"""

from collections.abc import Sequence
import os
from typing import NamedTuple

from jmia import atomic
from jmia.report import page, results

Table = Sequence[Sequence[str]]  # rows of as many cells; the first is the header


class Finding(NamedTuple):
  """What was found of one suspect.

  Attributes:
    suspect: its name, such as the file of its answers.
    stands: whether the claim is made.
    sentence: the verdict in words.
    hints: what in the answers looks like a mistake.
    tables: (caption, rows) of the evidence.
  """

  suspect: str
  stands: bool
  sentence: str
  hints: Sequence[str]
  tables: Sequence[tuple[str, Table]]


class Words(NamedTuple):
  """How a page calls its verdicts.

  Attributes:
    page: what the page is.
    stands: of a finding that stands, and
    stand: of several that do.
    not_so: of one that does not.
    together: of several findings, with `{number}`, and `{names}` of those that stand.
    footer: what follows on the versions.
  """

  page: str
  stands: str
  stand: str
  not_so: str
  together: str
  footer: str


OF_CLAIM = Words(
  "Verdict on a claim",
  "Claim",
  "claims",
  "No claim",
  "{number} suspects were asked, and the claim is made against {names}.",
  "This page names neither the key's secret nor its triggers and labels: who knows them"
  " can evade the next claim.",
)


class Claim(NamedTuple):
  """A page's content; every text is escaped.

  Attributes:
    title: what is asked, such as "Was this model trained on the marked data?".
    method: how it was found out, in sentences, with the source.
    facts: terms and values: confidence, classes, queries.
    findings: one for each suspect, at least one.
    together: how several suspects share one level; empty for one.
    assumptions: what the verdict rests on, a sentence each.
    limits: what it does not say, a sentence each.
    hashes: (what, SHA-256, what is known of it); none where no file was read.
    repeat: the command that finds the same again.
    words: for the verdicts.
  """

  title: str
  method: str
  facts: Sequence[tuple[str, str]]
  findings: Sequence[Finding]
  together: str
  assumptions: Sequence[str]
  limits: Sequence[str]
  hashes: Sequence[tuple[str, str, str]]
  repeat: str
  words: Words = OF_CLAIM


def write(path: str | os.PathLike[str], claim: Claim) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: the file to write; its folder exists.
    claim: what it says.

  Raises:
    OSError: if the file cannot be written; nothing is left behind then.
  """
  atomic.write(path, render(claim).encode())


def render(claim: Claim) -> str:
  """Returns the page as text. Arguments as in `write`."""
  return page.template("claim.html.jinja2").render(
    {
      **claim._asdict(),
      "headline": _headline(claim),
      "label": _label(claim),
      "kind": "leak" if any(one.stands for one in claim.findings) else "none",
      "versions": results.versions(),
    }
  )


def _headline(claim: Claim) -> str:
  if len(claim.findings) == 1:
    return claim.findings[0].sentence
  names = [finding.suspect for finding in claim.findings if finding.stands]
  return claim.words.together.format(
    number=len(claim.findings), names=", ".join(names) or "none of them"
  )


def _label(claim: Claim) -> str:
  number, stands = len(claim.findings), sum(one.stands for one in claim.findings)
  words = claim.words
  if number == 1:
    return words.stands if stands else words.not_so
  what = words.stands.lower() if stands == 1 else words.stand
  return f"{stands} {what} of {number}"
