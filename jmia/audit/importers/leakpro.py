"""LeakPro's folder, which does not say who was trained on what without unpickling."""

import pathlib

from jmia.audit.importers.cohort import Cohort

LAYOUT = "LeakPro's attack_cache/*_logits.npy (refused: see why)"


def is_it(folder: pathlib.Path) -> bool:
  """Whether there are logits of shadow models."""
  return any(folder.glob("sm_*_logits.npy")) or any(
    folder.glob("attack_cache/sm_*_logits.npy")
  )


def load(folder: pathlib.Path) -> Cohort:
  """Refuses: logits are plain arrays, but memberships and labels are pickles.

  Raises:
    ValueError: always; says what to write instead.
  """
  raise ValueError(
    f"{folder} holds LeakPro's logits, whose memberships are in pickles, which are not"
    " read: save target_logits, labels, members, reference_logits and reference_members"
    " as one .npz"
  )
