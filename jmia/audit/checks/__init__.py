"""What a reader must know before the figures: each check a function in its own file.

- `learnt`: whether the target learnt anything that could leak.
- `split`: whether members and non-members differ without the model.
- `calibrating`: whether non-members are like the rows that calibrate p-values.
- `references`: whether the models compared with match a black box.
"""
