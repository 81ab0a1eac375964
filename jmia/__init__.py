"""jmia: what a trained classifier gives away about its training data."""

__version__ = "0.1.0"
