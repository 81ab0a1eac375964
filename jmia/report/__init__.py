"""What an audit says to a person: a terminal table, plots and one HTML page.

Takes plain values, the audit's report as a dict and its per-sample arrays as `Samples`,
and knows nothing of how they came about.
"""

from jmia.report.samples import Samples

__all__ = ["Samples"]
