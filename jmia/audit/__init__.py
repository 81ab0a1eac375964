"""Audits: dataset -> design -> panel -> evidence -> scores -> outcome -> report.

result = audit.run(datasets.load("digits"))  # or audit.from_signals(...), of answers
audit.write(result, "report")

Of several audits of one dataset, `compare.of` or `compare.load` each:

comparison_files.write([compare.of("plain", a), compare.of("with l2", b)], "comparison")

`design` says who trains on what, `panel` trains it, `view` gives one target's evidence,
`outcome` runs attacks on it, and `files` writes what was found. `run` takes the whole
way; the studies of the papers take the same one from designs of their own.
"""

from jmia.audit.auditing import Result, from_evidence, run
from jmia.audit.config import DEFAULT_ATTACKS, AuditConfig, default_attacks
from jmia.audit.files import write
from jmia.audit.given import from_signals

__all__ = [
  "DEFAULT_ATTACKS",
  "AuditConfig",
  "Result",
  "default_attacks",
  "from_evidence",
  "from_signals",
  "run",
  "write",
]
