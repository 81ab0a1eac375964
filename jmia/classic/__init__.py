"""Yang's report: targets and shadow models, attacked and defended.

`settings` holds the report's training and figures, `models` trains targets with their
shadow models, `scoring` attacks them, and `similarity_study` the attack of its own kind
of models.
"""
