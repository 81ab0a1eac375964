"""Attacks: signals in, thresholds and scores out. Import the module of the attack."""
