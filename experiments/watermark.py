r"""Puts a watermark into a model, and tells whether a model carries it.

    python -m experiments.watermark embed --data_file=FILE.npz --output_dir=DIR
    python -m experiments.watermark verify --model_file=MODEL.npz \
        --key_file=DIR/key.json --claim_file=DIR/claim.npz

`embed` trains a classifier on FILE.npz (x [N, ...] and y [N]; x_test and y_test, if
there, are what accuracy is measured on) in which a part of the rows is encoded. DIR
then holds model.npz to publish, and key.json and claim.npz to keep to yourself. It
prints a commitment: publish it with a date before the model, since a key that was
chosen after a model is no evidence.

`verify` decodes the claimed rows with the key. It makes two tests, of the rows and of
the key (`jmia.encoding.watermark`), and the claim stands if both reject at --level and
the rows were assigned as the secret draws them. All of that can be made up for a model
that is public: --commitment=HASH, published before the model, shows that it was not.
It does not show that the rows were not chosen before, by what the key's decoder says of
models of one's own; then a model that was never encoded is claimed many times as often
as --level says. So a claim holds only if they were not. The level is of one commitment:
who publishes several makes as many tries.

A model that can only be asked: embed with --black_box. Then

    python -m experiments.watermark queries --key_file=... --claim_file=... \
        --num_wrong_keys=99 --seed=SEED --output_dir=DIR

writes DIR/queries.npz with all that is to be asked: the claimed rows, and the
synthetic rows of the key among those of wrong ones. Which is yours, nobody can tell who
does not know SEED: take one that cannot be guessed. `verify --answers_file=ANSWERS.npy`
takes the logits or log-probabilities in that order, with the same --num_wrong_keys and
--seed.
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
  "command", None, ["embed", "queries", "verify"], "May be given without its name."
)
_DATA_FILE = flags.DEFINE_string("data_file", None, "An .npz of x and y to train on.")
_MODEL_FILE = flags.DEFINE_string("model_file", None, "A model.npz to verify.")
_ANSWERS_FILE = flags.DEFINE_string(
  "answers_file", None, "Logits or log-probabilities [Q, C] of the queries, .npy."
)
_KEY_FILE = flags.DEFINE_string("key_file", None, "The key.json of embed.")
_CLAIM_FILE = flags.DEFINE_string("claim_file", None, "The claim.npz of embed.")
_COMMITMENT = flags.DEFINE_string(
  "commitment",
  None,
  "With verify: the commitment that was published before the model. Without it the"
  " verdict is valid only if the key's own was. It does not show that the rows were not"
  " chosen by looking at other models.",
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
  "Chance of accepting a claim that is false, at most, if rows were not chosen.",
)
_NUM_WRONG_KEYS = flags.DEFINE_integer(
  "num_wrong_keys", 999, "Secrets that the key is compared with.", lower_bound=1
)


# What only some commands read.
_OF_COMMAND = {
  "embed": (
    *("data_file", "secret", "layer", "black_box", "encoded_fraction", "num_claimed"),
    *("key_rows", "discriminator_rate"),
  ),
  "queries": ("key_file", "claim_file", "num_wrong_keys"),
  "verify": (
    *("key_file", "claim_file", "num_wrong_keys", "model_file", "answers_file"),
    *("commitment", "level"),
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
_LEAST_KNOWN = 0.95  # of the discriminator's rows; below, embed says so


def main() -> None:
  """Runs the command."""
  commands = {"embed": embed, "queries": write_queries, "verify": verify}
  if _COMMAND.value is None:
    raise ValueError(f"expected a command, one of {', '.join(commands)}")
  common.refuse_of_others("command", _COMMAND.value, _OF_COMMAND)
  if _COMMAND.value != "embed":
    common.refuse(_OF_TRAINING, "is for --command=embed")
  if _BLACK_BOX.value:
    common.refuse(["layer"], "is not read with --black_box, which encodes in outputs")
  commands[_COMMAND.value]()


def embed() -> None:
  """Trains an encoded model; writes it, its key and a claim."""
  _require(_DATA_FILE)
  with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
    for name in ("model.npz", "key.json", "claim.npz"):
      if (output_dir / name).exists():
        raise ValueError(f"output_dir holds {name}, which would be lost: name another")
    dataset = datasets.load(f"npz:{_DATA_FILE.value}")
    config, key = _settings(dataset)
    model = encode.make_model(config.train, dataset)
    rows = np.arange(dataset.num_train)
    # Copies of a row share its side, and one of them stands for all in the claim.
    firsts = watermark.distinct(dataset.x[rows])
    # The secret draws the assignment too: whoever holds the key can show it was drawn.
    is_encoded = watermark.assign(
      dataset.x[firsts], round(_ENCODED_FRACTION.value * len(firsts)), key.secret
    )
    claim = _claim(dataset, firsts[is_encoded], firsts[~is_encoded], key.secret)
    encoded = rows[watermark.is_among(dataset.x[rows], dataset.x[firsts[is_encoded]])]
    jobs = encode.make_jobs(
      [rows], [encoded], keys_lib.expand([key], model, dataset.x.shape[1:])
    )
    # A secret that was drawn ends with its process: no other run could go on from it.
    kept = output_dir / "checkpoints" if _SECRET.value else None
    with common.progress_bars() as progress:
      trained = encode.train(
        config,
        dataset,
        jobs,
        jax.random.key(common.SEED.value),
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
  if known < _LEAST_KNOWN:
    warning = (
      "\nThat is little. Whether a claim stands on it, `verify` says: ask it before the"
      " model is published. More is encoded with more --num_epochs, a higher"
      " --discriminator_rate, or features scaled to about 1."
    )
  print(
    f"Accuracy: {_accuracy(published, dataset)}. Of {len(encoded):,} encoded rows the"
    f" discriminator knows, with all others, {known:.1%}.{warning}"
    f"\nPublish {output_dir / 'model.npz'}; keep key.json and claim.npz to yourself."
    f"\nCommitment, to be published with a date before the model:\n{commitment}"
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
    print(f"Valid only if {commitment} was published before the model (--commitment).")


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
    else "valid only if it was published before the model (--commitment)."
  )
  hashes = [
    ("The commitment, of key and rows", commitment, known),
    (f"The key, {_KEY_FILE.value}", claim_pages.sha256(str(_KEY_FILE.value)), ""),
    (f"The rows, {_CLAIM_FILE.value}", claim_pages.sha256(str(_CLAIM_FILE.value)), ""),
    (f"Asked, {asked}", claim_pages.sha256(asked), ""),
  ]
  page = claim_pages.of_watermark(
    verdict, asked, assignment.words, assignment.assumes, hashes
  )
  claim_page.write(path, page)


def _settings(dataset: types.Dataset) -> tuple[encode.EncodeConfig, keys_lib.Key]:
  """How the model is trained, and its key."""
  setup = settings.SETUPS["digits" if dataset.num_train < 10_000 else "mnist_mlp"]
  train = setup.train
  if training_flags.NUM_EPOCHS.value is not None:
    train = config_lib.with_epochs(train, training_flags.NUM_EPOCHS.value)
  train = training_flags.override(train)
  secret = _SECRET.value or str(secrets.randbits(64))
  if not secret.isdecimal():
    raise ValueError("secret must be an integer from 0 to 2^64 - 1")
  model = encode.make_model(train, dataset)
  if _LAYER.value is None:
    key = keys_lib.default(model, int(secret), black_box=_BLACK_BOX.value)
  else:
    key = keys_lib.Key(secret=int(secret), layer=_LAYER.value)
  key = dataclasses.replace(key, num_synthetic=_KEY_ROWS.value)
  rate = encoding_flags.DISCRIMINATOR_RATE.value
  config = encode.EncodeConfig(
    train=train,
    layer=key.layer,
    discriminator_rate=setup.discriminator_rate if rate is None else rate,
  )
  return config, key


def _claim(dataset, encoded, others, seed: int) -> files.Claim:
  """Encoded rows and controls, as many of each, in no order."""
  size = min(_NUM_CLAIMED.value, len(encoded), len(others))
  rng = np.random.default_rng([seed, 1])
  rows = np.concatenate([rng.permutation(part)[:size] for part in (encoded, others)])
  is_claimed = np.arange(2 * size) < size
  order = rng.permutation(2 * size)
  return files.Claim(dataset.x[rows[order]], is_claimed[order], dataset.feature_scale)


def _key_and_claim() -> tuple[keys_lib.Key, files.Claim]:
  """The owner's files, if they belong together."""
  key, commitment = files.read_key(str(_KEY_FILE.value))
  claim = files.read_claim(str(_CLAIM_FILE.value))
  if _commitment(key, claim, files.key_schema(str(_KEY_FILE.value))) != commitment:
    raise ValueError(
      f"claim_file={_CLAIM_FILE.value} and key_file={_KEY_FILE.value} are not what the"
      " key's commitment was made for"
    )
  return key, claim


def _assignment(key: keys_lib.Key, claim: files.Claim) -> _Assignment:
  """How the rows were assigned, as far as the claim shows it."""
  schema = files.key_schema(str(_KEY_FILE.value))
  if schema == 1:
    return _OLD
  if not watermark.is_assigned(claim.x, claim.is_claimed, key.secret):
    return _CHOSEN
  return _BY_SECRET_UNSCALED if schema == 2 else _BY_SECRET


def _commitment(key: keys_lib.Key, claim: files.Claim, schema: int = 3) -> str:
  """What binds the owner to both; what it binds depends on the key's schema."""
  sides = claim.x[claim.is_claimed], claim.x[~claim.is_claimed]
  if schema < 3:
    return watermark.old_commitment(key, *sides)
  return watermark.commitment(key, *sides, claim.feature_scale)


def _ask_model(key: keys_lib.Key, claim: files.Claim) -> np.ndarray:
  """`[1 + K, N]` scores by a model that is at hand."""
  model = files.read_model(str(_MODEL_FILE.value))
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
