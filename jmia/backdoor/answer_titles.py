"""What the titles in a suspect's file say: which column holds what.

Titles decide which answer is whose. Where they can be read in two ways they are
refused: a column or a line too far, and a suspect's answers fit no key.
"""

from collections.abc import Sequence
import re
import string

import numpy as np

from jmia.backdoor import classes as classes_lib

LABELS = (
  *("label", "class", "prediction", "predicted", "top1", "top_1", "answer"),
  *("labels", "pred", "preds", "predictions", "answers", "y_pred", "y_hat", "yhat"),
  *("predicted_label", "predicted_class", "pred_label", "pred_class"),
)
COUNTS = (
  *("", "index", "id", "row", "query", "filename", "file", "idx", "unnamed: 0"),
  *("image", "path"),
)


def label_column(
  titles: Sequence[str], class_names: Sequence[classes_lib.Name]
) -> int | None:
  """Returns the column that is titled as the answer; None where there is none.

  Raises:
    ValueError: several are.
  """
  names = {str(name) for name in class_names}
  found = [
    column
    for column, title in enumerate(titles)
    if title.lower() in LABELS and title not in names
  ]
  if len(found) > 1:
    raise ValueError(
      f"predictions have the columns {classes_lib.listed([titles[i] for i in found])},"
      " of which one is the suspect's answer: keep that one"
    )
  return found[0] if found else None


def kept_columns(
  titles: Sequence[str], class_names: Sequence[classes_lib.Name]
) -> list[int]:
  """Returns the columns that are titled neither as an answer nor as a count of rows."""
  names = {str(name) for name in class_names}
  return [
    column
    for column, title in enumerate(titles)
    if title in names or title.lower() not in (*LABELS, *COUNTS)
  ]


def named(
  titles: Sequence[str], class_names: Sequence[classes_lib.Name]
) -> np.ndarray | None:
  """Returns `[C]` int, the class that each title names, -1 for none of them.

  Titles are the classes; or are but for capitals, or for what stands before or behind
  all of them, as in p_cat, p_dog.

  Returns:
    None unless every class is named once, and in one way.
  """
  for fold in (str, str.casefold):
    names = [fold(str(name)) for name in class_names]
    written = [fold(title.strip()) for title in titles]
    if len({*names}) < len(names):
      continue
    ways = {("", "")} if {*names} <= {*written} else _affixes(written, names)
    found = {way for affix in ways if (way := _numbers(written, names, *affix))}
    if len(found) == 1:
      return np.array(found.pop())
  return None


def are_numbered(titles: Sequence[str]) -> bool:
  """Whether they count the columns in order, such as 0, 1; x1, x2; or a, b."""
  if [title.lower() for title in titles] == [*string.ascii_lowercase[: len(titles)]]:
    return True
  parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", title) for title in titles]
  around = {(part[1], part[3]) for part in parts if part}
  counted = [int(part[2]) for part in parts if part]
  return len(around) == 1 and any(
    counted == [*range(first, first + len(titles))] for first in (0, 1)
  )


def check_numbered(
  titles: Sequence[str], class_names: Sequence[classes_lib.Name]
) -> None:
  """Raises ValueError unless columns so titled are the classes, in their order."""
  written = {title.strip().casefold() for title in titles}
  texts = {name.casefold() for name in class_names if isinstance(name, str)}
  if written & texts or not are_numbered(titles):
    raise ValueError(
      f"predictions have columns titled {classes_lib.listed(titles)}, expected the"
      f" key's classes, {classes_lib.listed(class_names)}, or numbers in order"
    )


def are_classes(
  labels: Sequence[str], class_names: Sequence[classes_lib.Name]
) -> np.ndarray:
  """Returns `[m]` bool: which texts are classes; where those are integers, 3.0 is 3."""
  if not any(isinstance(name, str) for name in class_names):
    labels = [_whole(label) for label in labels]
  return classes_lib.numbers(np.array(labels), class_names) >= 0


def without_title(
  lines: np.ndarray, class_names: Sequence[classes_lib.Name], num_queries: int
) -> np.ndarray:
  """Returns labels without the title that may stand above them.

  Args:
    lines: text, `[m]`, or `[m + 1]` where the first is a title.
    class_names: `K`.
    num_queries: `m`.

  Raises:
    ValueError: the first line may be a title, and may be an answer.
  """
  if len(lines) not in (num_queries, num_queries + 1):
    return lines
  first, rest = lines[0].strip(), [line.strip() for line in lines[1:].tolist()]
  is_class = are_classes([first, *rest], class_names)
  # pandas titles a column without a name 0.
  is_text = first == "0" or not is_number(first)
  if len(lines) == num_queries + 1:
    if is_class[0]:
      raise ValueError(
        f"predictions hold {len(lines)} lines for {num_queries} queries, and the first,"
        f" {first!r}, may be a title or an answer: remove it, or title the column label"
      )
    return lines[1:] if is_text and first not in rest else lines
  has_title = first.lower() in LABELS or is_class[1:].all()
  is_zero = first == "0" and all("." in line for line in rest)
  if is_zero or (has_title and is_text and not is_class[0]):
    raise ValueError(
      f"predictions hold {len(lines)} lines for {num_queries} queries, and the first,"
      f" {first!r}, looks like a title: then one answer is missing; if it is an answer,"
      " put a line 'label' above it"
    )
  return lines


def are_above(line: Sequence[str], class_names: Sequence[classes_lib.Name]) -> bool:
  """Whether a line of whole numbers may be titles: the classes, or columns counted."""
  if len(line) < 2 or not all(cell.isdecimal() for cell in line):
    return False
  return are_numbered(line) or named(line, class_names) is not None


def is_number(text: str) -> bool:
  """Whether it is one, NaN included."""
  try:
    float(text)
  except ValueError:
    return False
  return True


def _affixes(titles: Sequence[str], names: Sequence[str]) -> set[tuple[str, str]]:
  """What may stand before and behind the first name, as some title has it."""
  return {
    (title[: at.start()], title[at.start() + len(names[0]) :])
    for title in titles
    for at in re.finditer(f"(?={re.escape(names[0])})", title)
  }


def _numbers(
  titles: Sequence[str], names: Sequence[str], before: str, behind: str
) -> tuple[int, ...] | None:
  """The class of each title, -1 for none; None unless each is named once."""
  is_around = all(t.startswith(before) and t.endswith(behind) for t in titles)
  number = {f"{before}{name}{behind}": c for c, name in enumerate(names)}
  found = tuple(number.get(title, -1) for title in titles)
  is_once = sorted(c for c in found if c >= 0) == [*range(len(names))]
  return found if is_around and is_once else None


def _whole(label: str) -> str:
  """A whole number without its decimals."""
  is_whole = is_number(label) and float(label).is_integer()
  return str(int(float(label))) if is_whole else label
