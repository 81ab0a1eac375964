"""The bound of a mean by hand, of one sample of values."""

import numpy as np
from scipy import stats


def distance(values, least, tail):
  """From a mean down to its bound, by hand: one value more, Pearson's type III."""
  points = np.append(values, least)
  off, num = points - points.mean(), len(points)
  sd = np.sqrt((off**2).mean() / (num + 1))
  skewness = 2 * (off**3).mean() / ((num + 1) * (num + 2)) / sd**3
  low = points.mean() + sd * stats.pearson3.ppf(tail, min(skewness, 0))
  return values.mean() - max(low, least)
