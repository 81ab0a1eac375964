"""Yang's report: targets and shadow models, attacked and defended.

`settings` holds the report's training and figures, `studies` says which models are
trained and which attacks are run on which, and `rows` what each result says.
"""
