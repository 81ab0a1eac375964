"""What models answer in, told from the answers, and how answers are read by all.

`units.recognise` tells it of all models at once; `one_class` reads answers of one
number a row. `kinds` are the units, `coarse` and `coarseness` how roughly they are
given, and `words` what is said of that.
"""
