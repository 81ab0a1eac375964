"""How one model is trained (recipe), and how many are trained at once (parallel)."""
