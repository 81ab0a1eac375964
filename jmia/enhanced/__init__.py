"""Ye et al., "Enhanced Membership Inference Attacks": its configurations and figures.

`configs` holds the paper's settings and results, `cohort` the design of like models on
one pool, `metrics` what it says of the attacks, `rows` and `figures` how that is shown.
"""
