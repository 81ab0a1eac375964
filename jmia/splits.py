"""Who trains on what. All draws are NumPy's, from a seed; all rows are int32."""

import numpy as np

from jmia import _validate, types

Seed = int | tuple[int, ...]


def draw(
  population: np.ndarray, num_members: int, num_models: int, *, seed: Seed
) -> types.Splits:
  """Draws each model's members uniformly, without replacement, from a population.

  Models are independent of one another (Ye et al., section 4, eq. 1 and 13: each
  training set is an i.i.d. draw); model m's draw depends on `seed` and `m` alone.

  Args:
    population: `[P]` distinct rows to draw from.
    num_members: `K`, the size of each model's training set.
    num_models: `M`.
    seed: of the draws.

  Returns:
    Splits with `member_idx [M, K]`.

  Raises:
    ValueError: if a size is below 1 or `num_members` is above the population's size.
  """
  population = _rows("population", population)
  _validate.positive("num_models", num_models)
  _fits("num_members", num_members, len(population))
  members = np.empty((num_models, num_members), np.int32)
  for m, row in enumerate(members):
    # Copied: a view would keep the whole permutation for as long as there are models.
    row[:] = _generator(seed, m).permutation(population)[:num_members]
  return types.Splits(members, np.full(num_models, num_members, np.int32))


def paired(population: np.ndarray, num_pairs: int, *, seed: Seed) -> types.Splits:
  """Splits a population in halves: models 2i and 2i + 1 train on complements.

  Every row is then a member of exactly half of the models.

  Args:
    population: `[P]` distinct rows; with `P` odd, the first of a pair has one more.
    num_pairs: number of permutations; `M = 2 * num_pairs`.
    seed: of the permutations.

  Returns:
    Splits with `member_idx [M, ceil(P / 2)]`.

  Raises:
    ValueError: if `num_pairs` is below 1 or the population has fewer than 2 rows.
  """
  population = _rows("population", population)
  _validate.positive("num_pairs", num_pairs)
  if len(population) < 2:
    raise ValueError(f"population has {len(population)} rows, expected at least 2")
  halves = []
  for pair in range(num_pairs):
    order = _generator(seed, pair).permutation(population)
    half = (len(order) + 1) // 2
    halves += [order[:half], order[half:]]
  return ragged(halves)


def parts(population: np.ndarray, num_parts: int, *, seed: Seed) -> list[np.ndarray]:
  """Cuts a population at random into disjoint parts of equal size.

  Four parts are the report's `D_train, D_test, D'_train, D'_test` of one target and one
  shadow model (Yang); `2 k` are the members and non-members of `k` shadow models that
  share no row (Shokri et al.).

  Args:
    population: `[P]` distinct rows; the `P mod num_parts` left over are in no part.
    num_parts: number of parts.
    seed: of the permutation.

  Returns:
    `num_parts` arrays of `P // num_parts` rows, int32.

  Raises:
    ValueError: if `num_parts` is below 1 or above the population's size.
  """
  population = _rows("population", population)
  _fits("num_parts", num_parts, len(population))
  size = len(population) // num_parts
  order = _generator(seed).permutation(population)
  return list(order[: num_parts * size].reshape(num_parts, size))


def ragged(members: list[np.ndarray]) -> types.Splits:
  """Stacks training sets of different sizes.

  Args:
    members: `M` arrays of rows.

  Raises:
    ValueError: if there are none, or one is empty or repeats a row.
  """
  if not members:
    raise ValueError("members is empty, expected at least one training set")
  rows = [_rows(f"members[{m}]", r) for m, r in enumerate(members)]
  sizes = np.array([len(r) for r in rows], np.int32)
  padded = [np.pad(r, (0, sizes.max() - len(r)), constant_values=r[0]) for r in rows]
  return types.Splits(np.stack(padded), sizes)


def without_each(members: np.ndarray, left_out: np.ndarray) -> types.Splits:
  """Returns leave-one-out training sets: `members` without each of `left_out`.

  Args:
    members: `[K]` rows of the target.
    left_out: `[M]` rows, each one of `members`.

  Raises:
    ValueError: if a row to leave out is not a member, or nothing would remain.
  """
  members = _rows("members", members)
  absent = np.setdiff1d(left_out, members)
  if absent.size:
    raise ValueError(f"left_out holds row {absent[0]}, which is not a member")
  if len(members) < 2:
    raise ValueError("members has 1 row: without it none is left to train on")
  return ragged([members[members != row] for row in left_out])


def member_mask(splits: types.Splits, num_examples: int) -> np.ndarray:
  """Returns `[M, N]` bool: which of `num_examples` rows each model trained on."""
  mask = np.zeros((len(splits.member_idx), num_examples), bool)
  for row, idx, size in zip(mask, splits.member_idx, splits.num_members, strict=True):
    row[idx[:size]] = True
  return mask


def audit(
  num_examples: int,
  *,
  num_members: int,
  num_nonmembers: int,
  num_population: int | None = None,
  seed: Seed,
) -> types.AuditSplit:
  """Cuts a dataset into a target's members, non-members, and a calibration population.

  Args:
    num_examples: rows of the dataset.
    num_members: rows the target trains on.
    num_nonmembers: rows its false positives are evaluated on.
    num_population: rows that calibrate the attacks. Default: all the rest.
    seed: of the one permutation that is cut.

  Raises:
    ValueError: if a size is below 1 or the three exceed `num_examples`.
  """
  _validate.positive("num_members", num_members)
  _validate.positive("num_nonmembers", num_nonmembers)
  evaluated = num_members + num_nonmembers
  if num_population is None:
    num_population = num_examples - evaluated
  else:
    _validate.positive("num_population", num_population)
  if num_population < 1 or evaluated + num_population > num_examples:
    raise ValueError(
      f"num_members={num_members} + num_nonmembers={num_nonmembers} + "
      f"num_population={max(num_population, 1)} exceed the {num_examples} examples"
    )
  order = _generator(seed).permutation(num_examples).astype(np.int32)
  members, nonmembers, population = np.split(order, [num_members, evaluated])
  return types.AuditSplit(members, nonmembers, population[:num_population])


def check_disjoint(split: types.AuditSplit, num_examples: int) -> types.AuditSplit:
  """Returns a split that a caller made, its rows as int32, once it is checked.

  Args:
    split: rows in any form that NumPy makes an array of, or a mask `[N]` bool of them.
    num_examples: `N`.

  Raises:
    ValueError: if a part is empty, holds a row twice or outside the dataset, or
      shares a row with another part.
  """
  seen, parts = np.zeros(num_examples, bool), []
  for name, rows in zip(split._fields, split, strict=True):
    rows = np.asarray(rows)
    if rows.dtype == bool and rows.shape == (num_examples,):
      rows = np.flatnonzero(rows)
    rows = _rows(name, rows)
    parts.append(rows)
    if rows.min() < 0 or rows.max() >= num_examples:
      raise ValueError(
        f"{name} holds rows {rows.min()} to {rows.max()}, expected 0 to "
        f"{num_examples - 1}"
      )
    if seen[rows].any():
      shared = rows[seen[rows]]
      raise ValueError(
        f"{name} overlaps the parts before it ({', '.join(split._fields)}) in "
        f"{len(shared)} rows, first {shared[0]}: a row that calibrates or trains must "
        "not be evaluated"
      )
    seen[rows] = True
  return types.AuditSplit(*parts)


def concatenate(*parts: types.Splits) -> types.Splits:
  """Joins the models of several splits; those with fewer members are padded."""
  return ragged(
    [
      idx[:size]
      for part in parts
      for idx, size in zip(part.member_idx, part.num_members, strict=True)
    ]
  )


def _generator(seed: Seed, *stream: int) -> np.random.Generator:
  """Returns a generator of its own for each seed and stream."""
  # As a spawn key, since entropy is padded with zeros: (5,) and (5, 0) are one seed.
  entropy = np.atleast_1d(seed).tolist()
  return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=stream))


def _rows(name: str, rows: np.ndarray) -> np.ndarray:
  """Returns `rows` as int32 `[K]`; raises ValueError if empty or repeating."""
  rows = np.asarray(rows)
  if rows.ndim != 1 or not rows.size or not np.issubdtype(rows.dtype, np.integer):
    raise ValueError(
      f"{name} has shape {rows.shape} and dtype {rows.dtype}, expected a list of rows"
    )
  if len(np.unique(rows)) != len(rows):
    raise ValueError(f"{name} holds a row more than once")
  return rows.astype(np.int32)


def _fits(name: str, size: int, available: int) -> None:
  _validate.positive(name, size)
  if size > available:
    raise ValueError(f"{name}={size} is above the population's {available} rows")
