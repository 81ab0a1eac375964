"""Does a privacy guarantee hold? Canaries, many private models, bounds on epsilon.

`canaries` makes what is looked for, `engine` trains models with and without it by
DP-SGD, `audit` turns their scores into bounds beside the accountant's claim, `controls`
breaks the mechanism on purpose, to show that an audit would see it.
"""
