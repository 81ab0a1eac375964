"""Until jmia.stats.roc is there: a naive ROC in its place."""

import importlib.util
import sys
import types

import numpy as np

if importlib.util.find_spec("jmia.stats.roc") is None:
  import jmia.stats

  stand_in = types.ModuleType("jmia.stats.roc")

  def roc(scores, members):
    order = np.argsort(-scores, kind="stable")
    scores, members = scores[order], members[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    tpr = np.append(0.0, np.cumsum(members)[ends] / members.sum())
    fpr = np.append(0.0, np.cumsum(~members)[ends] / (~members).sum())
    return fpr, tpr, np.append(np.inf, scores[ends])

  stand_in.roc = roc
  sys.modules["jmia.stats.roc"] = stand_in
  jmia.stats.roc = stand_in
