"""Flags that two binaries take, each with a default of its own.

A binary shows one in its help by `flags.declare_key_flag(name)`.
"""

from absl import flags

REFERENCES = flags.DEFINE_enum(
  "references",
  None,
  ["population", "in_out"],
  "What reference models are trained on: rows of the population, or each on half of the"
  " evaluated rows, which the online attacks need. Default: audit's is population,"
  " attack_power's in_out.",
)
SIZES = flags.DEFINE_list(
  "sizes",
  None,
  "attack_power: numbers of reference models. Default: 1,2,4,8,16,64. classic_mia's"
  " study gap: members of a model. Default: all, a half, a quarter.",
)
