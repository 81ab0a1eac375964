"""Does a privacy guarantee hold? Canaries, private models, bounds on epsilon.

Of DP-SGD as it is trained here: `canaries` makes what is looked for, `engine` trains
models with and without it, `audit` turns their scores into bounds beside the
accountant's claim (`proofs`), `controls` breaks the mechanism on purpose, to show that
an audit would see it.

Of your own training, in any framework:

```python
import numpy as np
from jmia import dp

rng = np.random.default_rng(0)
x, y = rng.normal(size=(2_000, 8)), rng.integers(0, 2, 2_000)
planted = dp.plant(x, y, num_canaries=1_000)
# Train on planted.x and planted.y, without a look at the coins, planted.is_in. Then
# score each canary: how sure is the model of the label it was planted with?
answers = rng.normal(size=(1_000, 2))  # of a model that learnt nothing
scores = dp.of_answers(answers, planted.canary_y)
rows = dp.prove(scores, planted.is_in, claimed_epsilon=1.0, delta=1e-5)
print(*dp.sentences(rows))
```
"""

from jmia.dp.given import of_answers, prove
from jmia.dp.planting import plant
from jmia.dp.proofs import sentences

__all__ = ["of_answers", "plant", "prove", "sentences"]
