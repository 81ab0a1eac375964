"""Studies of single records, which are rows of bits, and of watermarks.

Reconstruction and hybrid encoding (Song and Shokri, section 3.1) and the levels of the
watermark's tests (section 3.2). Rows are as those of `studies`.
"""

from typing import Any

import numpy as np

from jmia.encoding import decode, hybrid, reconstruction, studies, trials, watermark
from jmia.stats import intervals

Row = dict[str, Any]
_RECORDS = 100  # records of each kind that are reconstructed or looked up
_MISSING = (1, 2, 4, 6, 8, 10)
_HASH_BITS = (4, 8, 12, 16)
_SENSITIVE, _LOW_BITS, _LABELLED = 8, 8, 50
_LEAST_SCORED = 64  # rows scored at once, at least
_CLAIMED = 200  # rows of a claim, and as many controls
_DECOYS = 199  # wrong keys of a claim of unrelated rows
_LEVELS = (0.01, 0.05)


def reconstructed(context: trials.Context) -> list[Row]:
  """How often the completion decoded as most likely a member is the true record.

  Raises:
    ValueError: if the rows are not bits.
  """
  _check_bits(context, "reconstruction")
  drawn = trials.draw(context)
  run = trials.train(context, drawn)
  rows = []
  for m, trial in enumerate(drawn):
    score = _scorer(context, run.encoded.model(m), trial)
    rng = np.random.default_rng([context.seed, m])
    for number in _MISSING:
      for kind, of_kind in (("encoded", trial.encoded), ("test", trial.test)):
        ranks = [
          reconstruction.rank_of_truth(
            score,
            context.dataset.x[row],
            rng.choice(context.dataset.x.shape[1], number, replace=False),
          )
          for row in of_kind[:_RECORDS]
        ]
        hits = np.sum(np.array(ranks) == 0)
        bounds = intervals.clopper_pearson(hits, np.array(len(ranks)))
        rows.append(
          studies.row(context, "reconstruction", m, run.encoded)
          | {
            "records": kind,
            "num_missing": number,
            "num_records": len(ranks),
            "top1": float(hits / len(ranks)),
            "top1_ci": [float(bounds.low), float(bounds.high)],
            "chance": reconstruction.chance(number),
          }
        )
  return rows


def hybrids(context: trials.Context) -> list[Row]:
  """Sensitive attributes recovered, by the hash alone and with membership.

  White-box: entries of all encoded records in the weights' low-order bits. Black-box:
  entries of a few, in the labels of extra rows that the model is trained on.

  Raises:
    ValueError: if the rows are not bits.
  """
  _check_bits(context, "hybrid")
  drawn = trials.draw(context)
  is_sensitive = np.zeros(context.dataset.x.shape[1], bool)
  is_sensitive[-_SENSITIVE:] = True
  if context.black_box:
    return _by_labels(context, drawn, is_sensitive)
  run = trials.train(context, drawn)
  rows = []
  for m, trial in enumerate(drawn):
    for num_bits in _HASH_BITS:
      hidden = hybrid.entries(
        context.dataset.x[trial.encoded], is_sensitive, num_bits, trial.key.secret
      )
      message = hybrid.pack(hidden)
      published = run.encoded.model(m)
      published["params"] = hybrid.hide_in_weights(
        published["params"], message, _LOW_BITS
      )
      read = hybrid.read_from_weights(published["params"], len(message), _LOW_BITS)
      rows += _looked_up(
        context,
        studies.row(context, "hybrid", m, run.encoded)
        | {
          "hash_bits": num_bits,
          "num_entries": len(trial.encoded),
          "bit_errors": float((read != message).mean()),
          "test_accuracy": trials.accuracy(context, published, trial.test),
        },
        published,
        trial,
        hybrid.unpack(read, num_bits, _SENSITIVE),
        is_sensitive,
      )
  return rows


def _by_labels(context, drawn, is_sensitive) -> list[Row]:
  """The black-box form of `hybrids`."""
  num_bits, dataset = 8, context.dataset
  extended, with_rows, messages = dataset, [], []
  for trial in drawn:
    hidden = hybrid.entries(
      dataset.x[trial.encoded[:_LABELLED]], is_sensitive, num_bits, trial.key.secret
    )
    messages.append(hybrid.pack(hidden))
    x, y = hybrid.extra_rows(
      trial.key.secret, messages[-1], dataset.x.shape[1:], dataset.num_classes,
      dataset.x.dtype,
    )  # fmt: skip
    new = np.arange(len(y), dtype=np.int32) + extended.num_examples
    extended = extended._replace(
      x=np.concatenate([extended.x, x]), y=np.concatenate([extended.y, y])
    )
    with_rows.append(trial._replace(members=np.concatenate([trial.members, new])))
  longer = context._replace(dataset=extended)
  run = trials.train(longer, with_rows, "hybrid")
  rows = []
  for m, trial in enumerate(with_rows):
    published, message = run.encoded.model(m), messages[m]
    answered = trials.predict(longer, published, trial.members[len(drawn[m].members) :])
    read = hybrid.read_from_labels(answered, len(message), dataset.num_classes)
    rows += _looked_up(
      context,
      studies.row(context, "hybrid", m, run.encoded)
      | {
        "hash_bits": num_bits,
        "num_entries": min(_LABELLED, len(trial.encoded)),
        "bit_errors": float((read != message).mean()),
        "test_accuracy": trials.accuracy(context, published, trial.test),
      },
      published,
      trial._replace(encoded=trial.encoded[:_LABELLED]),
      hybrid.unpack(read, num_bits, _SENSITIVE),
      is_sensitive,
    )
  return rows


def _looked_up(context, row, published, trial, hidden, is_sensitive) -> list[Row]:
  """Rows of what look-ups of encoded records and of test rows give, by each way."""
  score = _scorer(context, published, trial)
  # Entries are in the order of the encoded records: a sample of them is asked for.
  rng = np.random.default_rng([context.seed, row["trial"]])
  asked = {
    "encoded": rng.permutation(trial.encoded)[:_RECORDS],
    "test": trial.test[:_RECORDS],
  }
  rows = []
  for way, judge in (("hash alone", None), ("hash and membership", score)):
    found = {
      kind: [
        (
          hybrid.look_up(
            hidden, context.dataset.x[at], is_sensitive, trial.key.secret, judge
          ),
          context.dataset.x[at][is_sensitive],
        )
        for at in people
      ]
      for kind, people in asked.items()
    }
    answered = [
      (f.sensitive, t) for f, t in found["encoded"] if f.sensitive is not None
    ]
    right = sum(np.array_equal(guess, truth) for guess, truth in answered)
    rows.append(
      row
      | {
        "way": way,
        "num_records": len(found["encoded"]),
        "mean_matches": float(np.mean([f.matches for f, _ in found["encoded"]])),
        "recovered": right / len(found["encoded"]),
        "wrongly_recovered": (len(answered) - right) / len(found["encoded"]),
        "false_recoveries": float(
          np.mean([f.sensitive is not None for f, _ in found["test"]])
        ),
      }
    )
  return rows


def calibrated(context: trials.Context, num_claims: int = 1000) -> list[Row]:
  """How often false claims are accepted, on a watermarked and on a clean model.

  Three kinds of claim on each model: the owner's (one); `num_claims` wrong keys for the
  rows that are claimed, which is also a thief who knows the rows but not the secret;
  and the owner's key for `num_claims` sets of unrelated rows.

  Args:
    context: of the study; one trial is used.
    num_claims: of each kind of false claim, and wrong keys beside them for `p_key`;
      at least 99, or no claim could be accepted.
  """
  context = context._replace(num_trials=1)
  drawn = trials.draw(context)
  watermarked = trials.train(context, drawn, "watermark").encoded
  clean = trials.train_baseline(context, drawn, "watermark_baseline")
  rows = []
  for model, found in (("watermarked", watermarked), ("clean", clean)):
    row = studies.row(context, "watermark", 0, found) | {"model": model}
    rows += _claims(context, row, found.model(0), drawn[0], num_claims)
  return rows


def _claims(context, row, variables, trial, num_claims) -> list[Row]:
  """Rows of the claims on one model."""
  rng = np.random.default_rng([context.seed, 1])
  others = trial.others
  size = min(_CLAIMED, len(trial.encoded), len(others), len(trial.test) // 2)
  pool = trial.test[: 4 * size]
  rows = np.concatenate([trial.encoded[:size], others[:size], pool])
  keys = [trial.key, *watermark.wrong_keys(trial.key, 2 * num_claims, context.seed)]
  shape, scale = context.dataset.x.shape[1:], context.dataset.feature_scale
  decoders = decode.fit(context.model, variables, keys, shape)
  scores = decode.scores(
    context.model, variables, decoders, context.dataset.x[rows], scale
  )
  is_claimed = np.arange(2 * size) < size
  on_claim, level = scores[:, : 2 * size], min(_LEVELS)
  shares = watermark.claimed_share(on_claim, is_claimed)
  decoys = 1 + num_claims  # from here on they calibrate, and claim nothing

  def claim_by(key: int) -> watermark.Verdict:
    against = np.append(shares[key], shares[decoys:])
    return watermark.judge(against, on_claim[key] > 0, is_claimed, level)

  def claim_unrelated() -> watermark.Verdict:
    at = 2 * size + rng.permutation(len(pool))[: 2 * size]
    chosen = [0, *range(decoys, min(len(keys), decoys + _DECOYS))]
    return watermark.verify(scores[np.ix_(chosen, at)], is_claimed, level)

  verdicts = {
    "owner": [claim_by(0)],
    "wrong key": [claim_by(key) for key in range(1, decoys)],
    "unrelated rows": [claim_unrelated() for _ in range(num_claims)],
  }
  return [
    row | {"claim": claim, "num_claims": len(of_claim)} | _levels(of_claim)
    for claim, of_claim in verdicts.items()
  ]


def _levels(verdicts: list[watermark.Verdict]) -> Row:
  """How often claims are accepted at each level, and the mean share decoded."""
  found: Row = {
    "mean_share": float(np.mean([v.share for v in verdicts])),
    "mean_claimed_called": float(np.mean([v.claimed_called for v in verdicts])),
    "least_p_value": float(min(v.p_value for v in verdicts)),
  }
  for name in ("p_rows", "p_key", "p_value"):
    for level in _LEVELS:
      accepted = np.array([getattr(v, name) <= level for v in verdicts])
      bounds = intervals.clopper_pearson(accepted.sum(), np.array(len(verdicts)))
      found[f"{name}_at_{level}"] = float(accepted.mean())
      found[f"{name}_at_{level}_ci"] = [float(bounds.low), float(bounds.high)]
  return found


def _scorer(context, variables, trial):
  """A function of rows that decodes them with the trial's key; fitted once."""
  decoders = trials.decoders(context, variables, trial)

  def score(x: np.ndarray) -> np.ndarray:
    # Sizes are rounded up to powers of two, so that few programs are compiled.
    size = max(_LEAST_SCORED, 1 << (len(x) - 1).bit_length())
    filled = np.minimum(np.arange(size), len(x) - 1)
    return decode.scores(
      context.model, variables, decoders, x[filled], context.dataset.feature_scale
    )[0][: len(x)]

  return score


def _check_bits(context: trials.Context, study: str) -> None:
  x = context.dataset.x
  if x.ndim != 2 or x.dtype != np.uint8 or x[:1000].max() > 1:
    raise ValueError(f"study={study}: rows of {context.dataset.name} are not bits")
