"""Flags that some binaries take, each with a default of its own.

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
DELTA = flags.DEFINE_float(
  "delta",
  None,
  "Of a differential privacy guarantee. Default: DP-SGD's is 1e-5; an epsilon that"
  " attacks refute is shown at that of the models, or at 0 where they have none.",
)
NUM_QUERIES = flags.DEFINE_integer(
  "num_queries",
  None,
  "Of images: copies of each that LiRA and RMIA ask about: itself, its mirror image,"
  " and shifted ones; rows that are no images are asked about once. Default: 1.",
  lower_bound=1,
)
