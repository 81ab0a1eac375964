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
    hashes: (what, SHA-256, what is known of it).
    repeat: the command that finds the same again.
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
  stands = sum(finding.stands for finding in claim.findings)
  return page.template("claim.html.jinja2").render(
    {
      **claim._asdict(),
      "headline": _headline(claim.findings),
      "label": _label(stands, len(claim.findings)),
      "kind": "leak" if stands else "none",
      "versions": results.versions(),
    }
  )


def _headline(findings: Sequence[Finding]) -> str:
  if len(findings) == 1:
    return findings[0].sentence
  names = [finding.suspect for finding in findings if finding.stands]
  return (
    f"{len(findings)} suspects were asked, and the claim is made against"
    f" {', '.join(names) or 'none of them'}."
  )


def _label(stands: int, number: int) -> str:
  if number == 1:
    return "Claim" if stands else "No claim"
  return f"{stands} {'claim' if stands == 1 else 'claims'} of {number}"
