"""What models are asked: the signals that attacks need, and altered copies of rows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jmia.attacks import registry
from jmia.attacks.evidence import LOGITS, parse
from jmia.audit import copies as copies_lib
from jmia.audit.design import Design, Part


class Asked(NamedTuple):
  """What is asked of the models of a design.

  Attributes:
    needs: of all attacks together.
    copies: kind -> altered copies of rows that models are asked about too.
  """

  needs: registry.Needs
  copies: Mapping[str, copies_lib.Copies]

  def kept(
    self, design: Design, *parts: Part
  ) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns signals that are kept of some parts' models.

    Where an attack takes the logits all other signals follow from them, and a row's own
    from those of its copies.

    Returns:
      Those on the samples, and those on the population.
    """
    groups = {part.role for part in parts}
    if "reference" in groups and not design.models("in_out").size:
      groups.add("in_out")  # those references that held a sample stand for them
    found = []
    for which in ("signals", "population"):
      chosen = [of for name, of in self.needs.groups.items() if name in groups]
      names = dict.fromkeys(name for of in chosen for name in getattr(of, which))
      found.append(least(tuple(names)))
    return found[0], found[1]

  def num_answers(self, names: Sequence[str]) -> int:
    """Returns how many answers a model gives on each row for some signals."""
    kinds = {parse(name)[1] for name in names}
    return sum(1 if kind is None else self.copies[kind].number for kind in kinds)


def least(names: Sequence[str]) -> tuple[str, ...]:
  """Returns those of some signals that the others follow from."""
  on_copies = [name for name in names if parse(name)[1] is not None]
  if LOGITS in names:
    return (LOGITS, *on_copies)
  given = {parse(name)[0] for name in on_copies}
  return tuple(name for name in names if name not in given)
