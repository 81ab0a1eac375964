r"""Puts a watermark into a model, and tells whether a model carries it.

    python -m experiments.watermark commit --data_file=FILE.npz --output_dir=DIR
    python -m experiments.watermark embed --data_file=FILE.npz --output_dir=DIR \
        --prepared=DIR/secret.json --nonce=NONCE
    python -m experiments.watermark verify --model_file=DIR/model.npz \
        --key_file=DIR/key.json --claim_file=DIR/claim.npz \
        --nonce=NONCE --commitment=HASH

`commit` draws a secret, hashes the rows of FILE.npz (x [N, ...] and y [N]; x_test and
y_test, if there, are what accuracy is measured on), writes both to DIR/secret.json and
prints a commitment. Publish it with a date. Then take as NONCE a text that becomes
known later and that nobody can foresee or choose: a later round of a public beacon, a
later newspaper's headline, a long number that whoever will verify draws.

`embed` trains a classifier on FILE.npz in which a part of the rows is encoded, as the
nonce draws them. DIR then holds model.npz to publish, and key.json and claim.npz to
keep to yourself.

`verify` decodes the claimed rows with the key. It makes two tests, of the rows and of
the key (`jmia.encoding.watermark`), and the claim stands if both reject at --level and
the rows are those that the nonce draws from all that were committed to. Nothing is
assumed then but the order: commitment, nonce, model. The level is of one commitment:
who publishes several makes as many tries.

For one's own use `embed` does without --prepared and --nonce: the secret draws the
rows, and a commitment is printed, to be published before the model. It shows that
nothing was made up for a model that is public. It does not show that the rows were not
chosen before, by what the key's decoder says of models of one's own; then a model that
was never encoded is claimed many times as often as --level says. So a claim holds only
if they were not.

A model that can only be asked: commit, or embed, with --black_box. Then

    python -m experiments.watermark queries --key_file=... --claim_file=... \
        --num_wrong_keys=99 --seed=SEED --output_dir=DIR

writes DIR/queries.npz with all that is to be asked: the claimed rows, and the
synthetic rows of the key among those of wrong ones. Which is yours, nobody can tell who
does not know SEED: take one that cannot be guessed. `verify --answers_file=ANSWERS.npy`
takes the logits, log-probabilities or probabilities in that order, with the same
--num_wrong_keys and --seed.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import secrets
import shutil
from typing import NamedTuple

from absl import flags
import jax
import numpy as np

from jmia import datasets, types
from jmia.encoding import (
  activations,
  decode,
  encode,
  files,
  nonces,
  settings,
  synthetic,
  watermark,
)
from jmia.encoding import keys as keys_lib
from jmia.report import claim_page, results
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

from . import claim_pages, common, encoding_flags, training_flags

POSITIONAL = "command"
flags.declare_key_flag("seed")
flags.declare_key_flag("output_dir")
# All that train but --num_members: a watermark is of all rows.
_OF_TRAINING = tuple(
  flag.name
  for flag in flags.FLAGS.flags_by_module_dict()[training_flags.__name__]
  if flag.name != "num_members"
)
for _name in _OF_TRAINING:
  flags.declare_key_flag(_name)
flags.adopt_module_key_flags(encoding_flags)
_COMMAND = flags.DEFINE_enum(
  "command",
  None,
  ["commit", "embed", "queries", "verify"],
  "May be given without its name.",
)
_DATA_FILE = flags.DEFINE_string("data_file", None, "An .npz of x and y to train on.")
_MODEL_FILE = flags.DEFINE_string("model_file", None, "A model.npz to verify.")
_ANSWERS_FILE = flags.DEFINE_string(
  "answers_file",
  None,
  "Logits, log-probabilities or probabilities [Q, C] of the queries, .npy.",
)
_KEY_FILE = flags.DEFINE_string("key_file", None, "The key.json of embed.")
_CLAIM_FILE = flags.DEFINE_string("claim_file", None, "The claim.npz of embed.")
_COMMITMENT = flags.DEFINE_string(
  "commitment",
  None,
  "With verify: the commitment that was published before the model. Without it the"
  " verdict is valid only if the key's own was. Without a nonce it does not show that"
  " the rows were not chosen by looking at other models.",
)
_PREPARED = flags.DEFINE_string(
  "prepared", None, "With embed: the secret.json of commit; takes --nonce."
)
_NONCE = flags.DEFINE_string(
  "nonce",
  None,
  "With embed and verify: a text of 16 characters or more that became known after the"
  " commitment was published, and that nobody could foresee or choose.",
)
_SECRET = flags.DEFINE_string(
  "secret",
  None,
  "The key's integer. Default: drawn from the operating system, and then a run that is"
  " interrupted begins again.",
)
_LAYER = flags.DEFINE_string(
  "layer", None, "Layer to encode in. Default: the paper's for the model."
)
_BLACK_BOX = flags.DEFINE_bool(
  "black_box", False, "Encode in the outputs, so that the model need not be at hand."
)
_ENCODED_FRACTION = flags.DEFINE_float(
  "encoded_fraction", 0.2, "Fraction of the rows to encode; the paper's."
)
_NUM_CLAIMED = flags.DEFINE_integer(
  "num_claimed", 500, "Encoded rows to claim, and as many controls.", lower_bound=1
)
_KEY_ROWS = flags.DEFINE_integer(
  "key_rows", 500, "Synthetic rows of each kind of the key.", lower_bound=1
)
_LEVEL = flags.DEFINE_float(
  "level",
  0.01,
  "Chance of accepting a claim that is false, at most; without a nonce, if the rows"
  " were not chosen by looking at other models.",
)
_NUM_WRONG_KEYS = flags.DEFINE_integer(
  "num_wrong_keys", 999, "Secrets that the key is compared with.", lower_bound=1
)


# What stands in secret.json.
_OF_PREPARED = ("secret", "layer", "black_box", "num_claimed", "key_rows")
# What only some commands read.
_OF_COMMAND = {
  "commit": (*_OF_PREPARED, "data_file", "encoded_fraction"),
  "embed": (
    *(*_OF_PREPARED, "data_file", "encoded_fraction", "discriminator_rate"),
    *("prepared", "nonce"),
  ),
  "queries": ("key_file", "claim_file", "num_wrong_keys"),
  "verify": (
    *("key_file", "claim_file", "num_wrong_keys", "model_file", "answers_file"),
    *("commitment", "level", "nonce"),
  ),
}


class _Assignment(NamedTuple):
  """How claimed rows and controls came to be so, and what a claim on them assumes."""

  words: str
  can_stand: bool
  assumes: str


_NOT_CHOSEN = (
  "the rows were not chosen after looking at what the key's decoder says of any model"
)
_OLD = _Assignment(
  "the key is of an older version, which cannot show how rows were assigned: the claim"
  " cannot stand",
  False,
  _NOT_CHOSEN,
)
_CHOSEN = _Assignment(
  "not assigned as the secret draws them: the claim cannot stand", False, _NOT_CHOSEN
)
_BY_SECRET = _Assignment(
  "assigned as the secret draws them; nothing shows how rows and secret were chosen",
  True,
  _NOT_CHOSEN,
)
_BY_SECRET_UNSCALED = _BY_SECRET._replace(
  words=f"{_BY_SECRET.words}, and the key is of an older version, whose commitment does"
  " not bind feature_scale",
  assumes=f"{_NOT_CHOSEN}, and the claim's feature_scale is that of the training",
)
_ORDER = (
  "the commitment was published before the nonce was known to anybody, and the model"
  " after it"
)
_NOT_BY_NONCE = _Assignment(
  "not those that the nonce draws from all that were committed to: the claim cannot"
  " stand",
  False,
  _ORDER,
)
_LEAST_KNOWN = 0.95  # of the discriminator's rows; below, embed says so


def main() -> None:
  """Runs the command."""
  commands = {
    "commit": commit,
    "embed": embed,
    "queries": write_queries,
    "verify": verify,
  }
  if _COMMAND.value is None:
    raise ValueError(f"expected a command, one of {', '.join(commands)}")
  common.refuse_of_others("command", _COMMAND.value, _OF_COMMAND)
  if _COMMAND.value == "commit":  # the model tells which layer is encoded in
    rest = [name for name in _OF_TRAINING if name != "model"]
    common.refuse([*rest, "seed"], "is not read with commit")
  elif _COMMAND.value != "embed":
    common.refuse(_OF_TRAINING, "is for --command=embed")
  if _BLACK_BOX.value:
    common.refuse(["layer"], "is not read with --black_box, which encodes in outputs")
  commands[_COMMAND.value]()


def commit() -> None:
  """Writes what is committed to, and prints the commitment."""
  _require(_DATA_FILE)
  with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
    path = output_dir / "secret.json"
    if path.exists():
      raise ValueError(
        f"output_dir holds {path.name}, which would be lost: name another"
      )
    dataset = datasets.load(f"npz:{_DATA_FILE.value}")
    _, key = _settings(dataset)
    firsts = _distinct(dataset)
    num_encoded = _num_encoded(firsts)
    prepared = nonces.prepare(
      key,
      dataset.x[firsts],
      min(_NUM_CLAIMED.value, num_encoded, len(firsts) - num_encoded),
      dataset.feature_scale,
    )
    files.write_prepared(path, prepared)
  print(
    f"{path} binds {len(firsts):,} distinct rows, of which {prepared.num_claimed:,}"
    f" will be claimed and {prepared.num_claimed:,} be controls. Keep it to yourself."
    "\nCommitment, to be published with a date before the nonce is known:"
    f"\n{nonces.commitment(prepared)}"
  )


def embed() -> None:
  """Trains an encoded model; writes it, its key and a claim."""
  _require(_DATA_FILE)
  if (_PREPARED.value is None) != (_NONCE.value is None):
    raise ValueError("--prepared and --nonce need each other")
  prepared = None
  if _PREPARED.value is not None:
    common.refuse(_OF_PREPARED, "is not read with --prepared, which says it")
    prepared = files.read_prepared(str(_PREPARED.value))
  with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
    for name in ("model.npz", "key.json", "claim.npz"):
      if (output_dir / name).exists():
        raise ValueError(f"output_dir holds {name}, which would be lost: name another")
    dataset = datasets.load(f"npz:{_DATA_FILE.value}")
    config, key = _settings(dataset, None if prepared is None else prepared.key)
    model = encode.make_model(config.train, dataset)
    rows = np.arange(dataset.num_train)
    chosen, claim = _drawn(dataset, key, prepared)
    # Copies of a row share its side, and one of them stands for all in the claim.
    encoded = rows[watermark.is_among(dataset.x[rows], dataset.x[chosen])]
    jobs = encode.make_jobs(
      [rows], [encoded], keys_lib.expand([key], model, dataset.x.shape[1:])
    )
    # A secret that was drawn ends with its process: no other run could go on from it.
    is_given = _SECRET.value is not None or prepared is not None
    kept = output_dir / "checkpoints" if is_given else None
    with common.progress_bars() as progress:
      trained = encode.train(
        config,
        dataset,
        jobs,
        jax.random.key(common.SEED.value, impl="threefry2x32"),
        checkpoint_dir=kept,
        progress=lambda done, total: progress("embed", done, total),
      )
    if trained.diverged_epoch[0] >= 0:
      raise ValueError(
        f"training diverged in epoch {trained.diverged_epoch[0]}: lower --learning_rate"
        " or --discriminator_rate"
      )
    published = files.Model(
      config.train.model,
      {"dtype": config.train.compute_dtype, **dict(config.train.model_options)},
      dataset.num_classes,
      dataset.feature_scale,
      trained.model(0),
    )
    commitment = _commitment(key, claim)
    files.write_claim(output_dir / "claim.npz", claim)
    files.write_key(output_dir / "key.json", key, commitment)
    files.write_model(output_dir / "model.npz", published)
    if kept is not None:
      shutil.rmtree(kept, ignore_errors=True)
  known, warning = _last(trained, "encoding_accuracy"), ""
  changed = "".join(f"\n{note}" for note in dataset.notes)
  if dataset.given is not None:
    changed += (
      "\nThe model takes rows changed so, not as they came, and its file does not hold"
      " how: say so where it is published."
    )
  if known < _LEAST_KNOWN:
    warning = (
      "\nThat is little. Whether a claim stands on it, `verify` says: ask it before the"
      " model is published. More is encoded with more --num_epochs, a higher"
      " --discriminator_rate, or features scaled to about 1."
    )
  said = (
    "Without a nonce (`commit`) a claim holds only if the rows were not chosen by"
    " looking at other models."
    "\nCommitment, to be published with a date before the model:"
  )
  if prepared is not None:
    said = "Commitment, which was published before the nonce was known:"
  print(
    f"Accuracy: {_accuracy(published, dataset)}. Of {len(encoded):,} encoded rows the"
    f" discriminator knows, with all others, {known:.1%}.{warning}{changed}"
    f"\nPublish {output_dir / 'model.npz'}; keep key.json and claim.npz to yourself."
    f"\n{said}\n{commitment}"
  )


def write_queries() -> None:
  """Writes what a black-box model is to be asked."""
  _require(_KEY_FILE, _CLAIM_FILE)
  key, claim = _key_and_claim()
  with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
    keys = _shuffled(key)
    drawn = [_synthetic(one, claim.x.shape[1:]) for one in keys]
    rows = claim.x.astype(np.float32) * np.float32(claim.feature_scale)
    files.write_queries(output_dir / "queries.npz", np.concatenate([*drawn, rows]))
  print(
    f"{output_dir / 'queries.npz'} holds {2 * key.num_synthetic:,} synthetic rows of"
    f" each of {len(keys):,} keys, and {len(rows):,} claimed rows and controls. They"
    " are as a model sees them: features are multiplied by"
    f" {claim.feature_scale:g} already."
  )


def verify() -> None:
  """Prints the verdict; with --output_dir also writes verdict.json and its page."""
  _require(_KEY_FILE, _CLAIM_FILE)
  if (_MODEL_FILE.value is None) == (_ANSWERS_FILE.value is None):
    raise ValueError("one of --model_file and --answers_file must have a value")
  key, claim = _key_and_claim()
  commitment = _commitment(key, claim, files.key_schema(str(_KEY_FILE.value)))
  if _COMMITMENT.value is not None and _COMMITMENT.value.strip() != commitment:
    raise ValueError(
      f"commitment={_COMMITMENT.value} is not of key_file={_KEY_FILE.value} and"
      f" claim_file={_CLAIM_FILE.value}: theirs is {commitment}"
    )
  assignment = _assignment(key, claim)
  scores = _ask_model(key, claim) if _MODEL_FILE.value else _read_answers(key, claim)
  kept = watermark.distinct(claim.x)
  verdict = watermark.verify(scores[:, kept], claim.is_claimed[kept], _LEVEL.value)
  accepted = verdict.accepted and assignment.can_stand
  verdict = verdict._replace(accepted=accepted)
  words = {
    "assignment": assignment.words,
    "assumes": assignment.assumes,
    "commitment": commitment,
    "commitment_given": _COMMITMENT.value is not None,
    "nonce": _NONCE.value,
  }
  if common.OUTPUT_DIR.value is not None:
    with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
      results.write(
        output_dir / "verdict.json", {"schema": 1, **verdict._asdict(), **words}
      )
      _write_page(output_dir / "verdict.html", verdict, assignment, commitment)
  print(_text(verdict, assignment.assumes))
  print(f"  Rows: {assignment.words}.")
  if _COMMITMENT.value is None:
    print(f"Valid only if {commitment} was published before {_after()} (--commitment).")


def _write_page(
  path: pathlib.Path,
  verdict: watermark.Verdict,
  assignment: _Assignment,
  commitment: str,
) -> None:
  """Writes the verdict as a page to hand to somebody else."""
  asked = str(_MODEL_FILE.value or _ANSWERS_FILE.value)
  known = (
    "the one that was published."
    if _COMMITMENT.value is not None
    else f"valid only if it was published before {_after()} (--commitment)."
  )
  hashes = [
    ("The commitment, of key and rows", commitment, known),
    (f"The key, {_KEY_FILE.value}", claim_pages.sha256(str(_KEY_FILE.value)), ""),
    (f"The rows, {_CLAIM_FILE.value}", claim_pages.sha256(str(_CLAIM_FILE.value)), ""),
    (f"Asked, {asked}", claim_pages.sha256(asked), ""),
  ]
  page = claim_pages.of_watermark(
    verdict,
    asked,
    assignment.words,
    assignment.assumes,
    hashes,
    by_nonce=_NONCE.value is not None,
  )
  claim_page.write(path, page)


def _after() -> str:
  """What comes after the commitment."""
  return "the model" if _NONCE.value is None else "the nonce was known"


def _settings(
  dataset: types.Dataset, key: keys_lib.Key | None = None
) -> tuple[encode.EncodeConfig, keys_lib.Key]:
  """How the model is trained, and its key: the one given, or that of the flags."""
  setup = settings.SETUPS["digits" if dataset.num_train < 10_000 else "mnist_mlp"]
  train = setup.train
  if training_flags.NUM_EPOCHS.value is not None:
    train = config_lib.with_epochs(train, training_flags.NUM_EPOCHS.value)
  train = training_flags.override(train)
  if key is None:
    key = _new_key(encode.make_model(train, dataset), dataset)
  rate = encoding_flags.DISCRIMINATOR_RATE.value
  config = encode.EncodeConfig(
    train=train,
    layer=key.layer,
    discriminator_rate=setup.discriminator_rate if rate is None else rate,
  )
  return config, key


def _new_key(model, dataset: types.Dataset) -> keys_lib.Key:
  """The key of the flags."""
  secret = _SECRET.value or str(secrets.randbits(64))
  if not secret.isdecimal():
    raise ValueError("secret must be an integer from 0 to 2^64 - 1")
  if _LAYER.value is None:
    key = keys_lib.default(model, int(secret), black_box=_BLACK_BOX.value)
  else:
    key = keys_lib.Key(secret=int(secret), layer=_LAYER.value)
  # Refused now if the model has no such layer, and not once it was committed to.
  activations.num_units(model, key.layer, dataset.x.shape[1:])
  return dataclasses.replace(key, num_synthetic=_KEY_ROWS.value)


def _distinct(dataset: types.Dataset) -> np.ndarray:
  """Where each content of the training rows occurs first."""
  return watermark.distinct(dataset.x[: dataset.num_train])


def _num_encoded(firsts: np.ndarray) -> int:
  number = round(_ENCODED_FRACTION.value * len(firsts))
  if not 1 <= number < len(firsts):
    raise ValueError(
      f"encoded_fraction={_ENCODED_FRACTION.value} of {len(firsts)} distinct rows is"
      f" {number}: expected from 1 to {len(firsts) - 1}"
    )
  return number


def _drawn(
  dataset: types.Dataset, key: keys_lib.Key, prepared: nonces.Prepared | None
) -> tuple[np.ndarray, files.Claim]:
  """The distinct rows to encode, and the claim: by the nonce if there is one."""
  firsts = _distinct(dataset)
  number = _num_encoded(firsts)
  if prepared is None:
    # Whoever holds the key can show that the secret drew the sides.
    is_encoded = watermark.assign(dataset.x[firsts], number, key.secret)
    encoded, others = firsts[is_encoded], firsts[~is_encoded]
    size = min(_NUM_CLAIMED.value, len(encoded), len(others))
    return encoded, _claim(dataset, encoded, others, size, key.secret)
  hashes = nonces.row_hashes(dataset.x[firsts], key.secret)
  mine = prepared._replace(
    feature_scale=dataset.feature_scale, rows=nonces.digest(hashes)
  )
  if mine != prepared:
    raise ValueError(
      f"data_file={_DATA_FILE.value} does not hold the rows that"
      f" prepared={_PREPARED.value} was committed to with"
    )
  size = prepared.num_claimed
  if not size <= number <= len(firsts) - size:
    raise ValueError(
      f"encoded_fraction={_ENCODED_FRACTION.value} is {number} rows: expected from"
      f" {size} to {len(firsts) - size}, as {size} are claimed and {size} controls"
    )
  order = firsts[nonces.order(hashes, str(_NONCE.value))]
  claim = _claim(dataset, order[:size], order[-size:], size, key.secret)
  return order[:number], claim._replace(row_hashes=hashes)


def _claim(dataset, encoded, others, size: int, seed: int) -> files.Claim:
  """Encoded rows and controls, as many of each, in no order."""
  rng = np.random.default_rng([seed, 1])
  rows = np.concatenate([rng.permutation(part)[:size] for part in (encoded, others)])
  is_claimed = np.arange(2 * size) < size
  order = rng.permutation(2 * size)
  return files.Claim(dataset.x[rows[order]], is_claimed[order], dataset.feature_scale)


def _key_and_claim() -> tuple[keys_lib.Key, files.Claim]:
  """The owner's files, if they belong together."""
  key, commitment = files.read_key(str(_KEY_FILE.value))
  claim = files.read_claim(str(_CLAIM_FILE.value))
  schema = files.key_schema(str(_KEY_FILE.value))
  if schema < 3 and claim.row_hashes is not None:
    raise ValueError(
      f"claim_file={_CLAIM_FILE.value} was assigned by a nonce, which"
      f" key_file={_KEY_FILE.value} of an older version knows nothing of"
    )
  if _commitment(key, claim, schema) != commitment:
    raise ValueError(
      f"claim_file={_CLAIM_FILE.value} and key_file={_KEY_FILE.value} are not what the"
      " key's commitment was made for"
    )
  return key, claim


def _assignment(key: keys_lib.Key, claim: files.Claim) -> _Assignment:
  """How the rows were assigned, as far as the claim shows it."""
  if claim.row_hashes is None and _NONCE.value is not None:
    raise ValueError(
      f"nonce={_NONCE.value}: the secret alone has assigned claim_file="
      f"{_CLAIM_FILE.value}, so leave it out"
    )
  if claim.row_hashes is not None and _NONCE.value is None:
    raise ValueError(
      f"--nonce must have a value: a nonce has assigned claim_file={_CLAIM_FILE.value},"
      " which became known after the commitment"
    )
  if claim.row_hashes is not None:
    is_drawn = nonces.is_assigned(
      claim.x, claim.is_claimed, key.secret, str(_NONCE.value), claim.row_hashes
    )
    words = f"assigned by the nonce {_NONCE.value!r} after the commitment"
    return _Assignment(words, True, _ORDER) if is_drawn else _NOT_BY_NONCE
  schema = files.key_schema(str(_KEY_FILE.value))
  if schema == 1:
    return _OLD
  if not watermark.is_assigned(claim.x, claim.is_claimed, key.secret):
    return _CHOSEN
  return _BY_SECRET_UNSCALED if schema == 2 else _BY_SECRET


def _commitment(key: keys_lib.Key, claim: files.Claim, schema: int = 3) -> str:
  """What binds the owner to both; what it binds depends on the key's schema."""
  if claim.row_hashes is not None:
    number = int(claim.is_claimed.sum())
    rows = nonces.digest(claim.row_hashes)
    return nonces.commitment(nonces.Prepared(key, number, claim.feature_scale, rows))
  sides = claim.x[claim.is_claimed], claim.x[~claim.is_claimed]
  if schema < 3:
    return watermark.old_commitment(key, *sides)
  return watermark.commitment(key, *sides, claim.feature_scale)


def _ask_model(key: keys_lib.Key, claim: files.Claim) -> np.ndarray:
  """`[1 + K, N]` scores by a model that is at hand."""
  model = files.read_model(str(_MODEL_FILE.value), claim.x.shape[1:])
  wrong = watermark.wrong_keys(key, _NUM_WRONG_KEYS.value, common.SEED.value)
  with common.progress_bars("key") as progress:
    decoders = decode.fit(
      model.module,
      model.variables,
      [key, *wrong],
      claim.x.shape[1:],
      progress=lambda done, total: progress("decoders", done, total),
    )
  return decode.scores(
    model.module, model.variables, decoders, claim.x, model.feature_scale
  )


def _read_answers(key: keys_lib.Key, claim: files.Claim) -> np.ndarray:
  """`[1 + K, N]` scores by the answers of a model that was asked."""
  if key.layer != activations.OUTPUT:
    raise ValueError(
      f"key_file={_KEY_FILE.value} reads layer {key.layer!r}, which answers do not"
      " show: expected --model_file"
    )
  keys = _shuffled(key)
  num_synthetic = 2 * key.num_synthetic
  num_queries = len(keys) * num_synthetic + len(claim.x)
  answers = files.read_answers(str(_ANSWERS_FILE.value), num_queries)
  of_synthetic = answers[: len(keys) * num_synthetic]
  with common.progress_bars("key") as progress:
    scores = decode.scores_of_readings(
      of_synthetic.reshape(len(keys), num_synthetic, -1),
      answers[len(of_synthetic) :],
      keys,
      progress=lambda done, total: progress("decoders", done, total),
    )
  own = keys.index(key)
  return np.concatenate([scores[own : own + 1], np.delete(scores, own, axis=0)])


def _shuffled(key: keys_lib.Key) -> list[keys_lib.Key]:
  """The key among wrong ones, where nobody can tell it."""
  wrong = watermark.wrong_keys(key, _NUM_WRONG_KEYS.value, common.SEED.value)
  return sorted([key, *wrong], key=lambda one: one.secret)


def _synthetic(key: keys_lib.Key, shape: Sequence[int]) -> np.ndarray:
  return synthetic.rows(
    key.secret, tuple(shape), key.num_synthetic, low=key.low, high=key.high
  )


def _accuracy(model: files.Model, dataset: types.Dataset) -> str:
  """Of training rows, and of test rows if there are any."""
  predict = jax.jit(recipe_lib.predictor(model.module, model.feature_scale))
  found = []
  for name, rows in (
    ("training rows", slice(0, dataset.num_train)),
    ("test rows", slice(dataset.num_train, None)),
  ):
    if len(dataset.y[rows]):
      x = dataset.x[rows]
      parts = np.array_split(x, -(-len(x) // 1000))
      labels = [np.asarray(predict(model.variables, p)).argmax(-1) for p in parts]
      right = (np.concatenate(labels) == dataset.y[rows]).mean()
      found.append(f"{right:.1%} of {len(x):,} {name}")
  return ", ".join(found)


def _last(trained: encode.Encoded, metric: str) -> float:
  return float(trained.metrics[metric][0, -1])


def _text(verdict: watermark.Verdict, assumes: str) -> str:
  """The verdict in words."""
  p_rows = claim_pages.p_text(verdict.p_rows)
  return (
    f"{claim_pages.watermark_sentence(verdict, assumes)}\n"
    f"  Of the rows that score highest, {verdict.share:.1%} are claimed.\n"
    f"  Called members: {verdict.claimed_called:.1%} of the claimed rows,"
    f" {verdict.controls_called:.1%} of the controls.\n"
    f"  Against rows assigned at random: p {p_rows}.\n"
    f"  Against secrets drawn at random: p {claim_pages.p_text(verdict.p_key)}."
  )


def _require(*needed: flags.FlagHolder) -> None:
  for flag in needed:
    if flag.value is None:
      raise ValueError(f"--{flag.name} must have a value")


if __name__ == "__main__":
  common.run(main)
