"""Defences, each a change at one seam of training or of prediction, by name.

`registry.plan` turns names and strengths into the seams that they change, and
`registry.build` makes a recipe and a predictor with them, as `training.config.build`
does without: reference models, marked models and targets carry a defence alike.
"""
