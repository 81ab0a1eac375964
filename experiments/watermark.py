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
synthetic rows of the key among those of wrong ones. Nothing in them says which is yours
to who has not got the key; the answers of an encoded model do, to a suspect who looks
for that, and may then answer otherwise: no claim stands by it, and no false one.
`verify --answers_file=ANSWERS.npy --queries_file=DIR/queries.npz` takes the logits,
log-probabilities or probabilities in that order, with the same --num_wrong_keys and
--seed; with others it refuses.
"""

import pathlib
import shutil
import sys
from typing import Any

from absl import flags
import jax
import numpy as np

from jmia import datasets, types
from jmia.encoding import answers, claims, draws, files, owner, suspect
from jmia.encoding import keys as keys_lib
from jmia.report import claim_page
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

from . import (
  bars,
  claim_pages,
  common_flags,
  encoding_flags,
  launch,
  nonce_flags,
  run_folder,
  training_flags,
  verdict_files,
)

POSITIONAL = "command"
flags.declare_key_flag("seed")
flags.declare_key_flag("output_dir")
flags.declare_key_flag("restart")
# All that train but --num_members: a watermark is of all rows.
_OF_TRAINING = tuple(
  flag.name
  for flag in flags.FLAGS.flags_by_module_dict()[training_flags.__name__]
  if flag.name != "num_members"
)
for _name in _OF_TRAINING:
  flags.declare_key_flag(_name)
flags.adopt_module_key_flags(encoding_flags)
flags.adopt_module_key_flags(nonce_flags)
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
_QUERIES_FILE = flags.DEFINE_string(
  "queries_file",
  None,
  "With --answers_file: the queries.npz that was answered. It is compared with what"
  " --num_wrong_keys and --seed make, for others would read the answers in another"
  " order.",
)
_KEY_FILE = flags.DEFINE_string("key_file", None, "The key.json of embed.")
_CLAIM_FILE = flags.DEFINE_string("claim_file", None, "The claim.npz of embed.")
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
  "encoded_fraction",
  owner.ENCODED_FRACTION,
  "Fraction of the rows to encode; the paper's.",
)
_NUM_CLAIMED = flags.DEFINE_integer(
  "num_claimed",
  owner.NUM_CLAIMED,
  "Encoded rows to claim, and as many controls.",
  lower_bound=1,
)
_KEY_ROWS = flags.DEFINE_integer(
  "key_rows", owner.KEY_ROWS, "Synthetic rows of each kind of the key.", lower_bound=1
)
_LEVEL = flags.DEFINE_float(
  "level",
  owner.LEVEL,
  "Chance of accepting a claim that is false, at most; without a nonce, if the rows"
  " were not chosen by looking at other models.",
)
_NUM_WRONG_KEYS = flags.DEFINE_integer(
  "num_wrong_keys",
  owner.NUM_WRONG_KEYS,
  "Secrets that the key is compared with.",
  lower_bound=1,
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
    *("queries_file", "commitment", "level", "nonce"),
  ),
}


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
  common_flags.refuse_of_others("command", _COMMAND.value, _OF_COMMAND)
  if _COMMAND.value == "commit":  # the model tells which layer is encoded in
    rest = [name for name in _OF_TRAINING if name != "model"]
    common_flags.refuse([*rest, "seed"], "is not read with commit")
  elif _COMMAND.value != "embed":
    common_flags.refuse(_OF_TRAINING, "is for --command=embed")
  if _BLACK_BOX.value:
    common_flags.refuse(
      ["layer"], "is not read with --black_box, which encodes in outputs"
    )
  commands[_COMMAND.value]()


def commit() -> None:
  """Writes what is committed to, and prints the commitment."""
  _require(_DATA_FILE)
  name = "secret.json"
  with run_folder.owner_dir(common_flags.OUTPUT_DIR.value, [name]) as output_dir:
    path = output_dir / name
    dataset = datasets.load(f"npz:{_DATA_FILE.value}")
    prepared, commitment = owner.commit(
      dataset,
      _new_key(dataset, _training(dataset)),
      num_claimed=_NUM_CLAIMED.value,
      encoded_fraction=_ENCODED_FRACTION.value,
    )
    files.write_prepared(path, prepared)
  num_rows = len(draws.distinct_rows(dataset))
  print(
    f"{path} binds {num_rows:,} distinct rows, of which {prepared.num_claimed:,}"
    f" will be claimed and {prepared.num_claimed:,} be controls. Keep it to yourself."
    "\nCommitment, to be published with a date before the nonce is known:"
    f"\n{commitment}"
  )


def embed() -> None:
  """Trains an encoded model; writes it, its key and a claim."""
  _require(_DATA_FILE)
  if nonce_flags.PREPARED.value is not None:
    common_flags.refuse(_OF_PREPARED, "is not read with --prepared, which says it")
  with run_folder.owner_dir(common_flags.OUTPUT_DIR.value, owner.FILES) as output_dir:
    dataset = datasets.load(f"npz:{_DATA_FILE.value}")
    # A secret that was drawn ends with its process: no other run could go on from it.
    is_given = _SECRET.value is not None or nonce_flags.PREPARED.value is not None
    kept = output_dir / "checkpoints" if is_given else None
    with bars.shown() as progress:
      made = owner.embed(
        dataset,
        **_of_key(dataset),
        nonce=nonce_flags.NONCE.value,
        train=_training(dataset),
        discriminator_rate=encoding_flags.DISCRIMINATOR_RATE.value,
        encoded_fraction=_ENCODED_FRACTION.value,
        seed=common_flags.SEED.value,
        checkpoint_dir=kept,
        progress=lambda done, total: progress("embed", done, total),
      )
    owner.write(output_dir, made)
    if kept is not None:
      shutil.rmtree(kept, ignore_errors=True)
  print(_said_of(made, dataset, output_dir))


def _said_of(
  made: owner.Watermarked, dataset: types.Dataset, output_dir: pathlib.Path
) -> str:
  """What an owner must know of a model that was made."""
  warning, changed = "", "".join(f"\n{note}" for note in dataset.notes)
  if dataset.given is not None:
    changed += (
      "\nThe model takes rows changed so, not as they came, and its file does not hold"
      " how: say so where it is published."
    )
  if made.known < _LEAST_KNOWN:
    warning = (
      "\nThat is little. Whether a claim stands on it, `verify` says: ask it before the"
      " model is published. More is encoded with more --num_epochs, a higher"
      " --discriminator_rate, or features scaled to about 1."
    )
  said = "Commitment, which was published before the nonce was known:"
  if nonce_flags.PREPARED.value is None:
    said = (
      "Without a nonce (`commit`) a claim holds only if the rows were not chosen by"
      " looking at other models."
      "\nCommitment, to be published with a date before the model:"
    )
  return (
    f"Accuracy: {_accuracy(made.model, dataset)}. Of {made.num_encoded:,} encoded rows"
    f" the discriminator knows, with all others, {made.known:.1%}.{warning}{changed}"
    f"\nPublish {output_dir / 'model.npz'}; keep key.json and claim.npz to yourself."
    f"\n{said}\n{made.key.commitment}"
  )


def write_queries() -> None:
  """Writes what a black-box model is to be asked."""
  _require(_KEY_FILE, _CLAIM_FILE)
  key, claim = _key_and_claim()
  with run_folder.owner_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    x = owner.queries(
      key, claim, num_wrong_keys=_NUM_WRONG_KEYS.value, seed=common_flags.SEED.value
    )
    _check_no_others(output_dir / "queries.npz", x)
    files.write_queries(output_dir / "queries.npz", x)
  print(
    f"{output_dir / 'queries.npz'} holds {2 * key.key.num_synthetic:,} synthetic rows"
    f" of each of {1 + _NUM_WRONG_KEYS.value:,} keys, and {len(claim.x):,} claimed rows"
    " and controls. They are as a model sees them: features are multiplied by"
    f" {claim.feature_scale:g} already."
  )


def _check_no_others(path: pathlib.Path, x: np.ndarray) -> None:
  """Raises ValueError where other queries would be lost, which may have been sent."""
  if path.exists() and not np.array_equal(files.read_queries(path), x):
    raise ValueError(
      f"output_dir={path.parent} holds other queries, {path.name}, which would be lost:"
      " take another folder"
    )


def verify() -> None:
  """Prints the verdict; with --output_dir also writes verdict.json and its page."""
  _require(_KEY_FILE, _CLAIM_FILE)
  if (_MODEL_FILE.value is None) == (_ANSWERS_FILE.value is None):
    raise ValueError("one of --model_file and --answers_file must have a value")
  if _ANSWERS_FILE.value is not None:
    _require(_QUERIES_FILE)
  elif _QUERIES_FILE.value is not None:
    raise ValueError("--queries_file is not read without --answers_file")
  verdict_files.check()  # before minutes of decoding
  key, claim = _key_and_claim()
  with bars.shown("key") as progress:
    verdict = owner.verify(
      _suspect(key, claim),
      key,
      claim,
      nonce=nonce_flags.NONCE.value,
      commitment=nonce_flags.COMMITMENT.value,
      level=_LEVEL.value,
      num_wrong_keys=_NUM_WRONG_KEYS.value,
      seed=common_flags.SEED.value,
      progress=lambda done, total: progress("decoders", done, total),
    )
  content = {"schema": 1, **verdict.content()}
  verdict_files.show(verdict.statement, content, _page(verdict))


def _page(verdict: claims.Verdict) -> claim_page.Claim:
  """The verdict as a page to hand to somebody else."""
  asked, basis = str(_MODEL_FILE.value or _ANSWERS_FILE.value), verdict.basis
  known = (
    "the one that was published."
    if basis.commitment_given
    else f"valid only if it was published before {basis.published_before}"
    " (--commitment)."
  )
  hashes = [
    ("The commitment, of key and rows", basis.commitment, known),
    (f"The key, {_KEY_FILE.value}", claim_pages.sha256(str(_KEY_FILE.value)), ""),
    (f"The rows, {_CLAIM_FILE.value}", claim_pages.sha256(str(_CLAIM_FILE.value)), ""),
    (f"Asked, {asked}", claim_pages.sha256(asked), ""),
  ]
  return claim_pages.of_watermark(verdict, asked, hashes)


def _training(dataset: types.Dataset) -> config_lib.TrainConfig:
  """How the model is trained."""
  return training_flags.override(owner.default_setup(dataset).train)


def _of_key(dataset: types.Dataset) -> dict[str, Any]:
  """What `owner.embed` is told of the key: what was committed to, or the flags."""
  if nonce_flags.PREPARED.value is not None:
    return {"prepared": files.read_prepared(str(nonce_flags.PREPARED.value))}
  key = _new_key(dataset, _training(dataset))
  return {"key": key, "num_claimed": _NUM_CLAIMED.value}


def _new_key(dataset: types.Dataset, train: config_lib.TrainConfig) -> keys_lib.Key:
  """The key of the flags."""
  if _SECRET.value is not None and not _SECRET.value.isdecimal():
    raise ValueError("secret must be an integer from 0 to 2^64 - 1")
  return owner.new_key(
    dataset,
    train=train,
    secret=None if _SECRET.value is None else int(_SECRET.value),
    layer=_LAYER.value,
    black_box=_BLACK_BOX.value,
    num_synthetic=_KEY_ROWS.value,
  )


def _key_and_claim() -> tuple[claims.CommittedKey, claims.Claim]:
  """The owner's files, if they belong together."""
  key = files.read_key(str(_KEY_FILE.value))
  claim = files.read_claim(str(_CLAIM_FILE.value))
  try:
    claims.check(key, claim)
  except ValueError as error:
    raise ValueError(
      f"claim_file={_CLAIM_FILE.value}, key_file={_KEY_FILE.value}: {error}"
    ) from error
  return key, claim


def _check_asked(key: claims.CommittedKey, claim: claims.Claim) -> None:
  """Raises ValueError unless the flags make the queries that were answered."""
  asked = files.read_queries(str(_QUERIES_FILE.value))
  number, seed = _NUM_WRONG_KEYS.value, common_flags.SEED.value
  try:
    suspect.check_asked(asked, key.key, claim, number, seed)
  except ValueError as error:
    raise ValueError(f"queries_file={_QUERIES_FILE.value}: {error}") from error


def _suspect(key: claims.CommittedKey, claim: claims.Claim) -> files.Model | np.ndarray:
  """The model that is suspected, or its answers."""
  if _MODEL_FILE.value is not None:
    return files.read_model(str(_MODEL_FILE.value), claim.x.shape[1:])
  suspect.check_is_asked(key.key)
  _check_asked(key, claim)
  number = suspect.num_queries(key.key, claim, _NUM_WRONG_KEYS.value)
  found = files.read_answers(str(_ANSWERS_FILE.value), number)
  for note in answers.notes(str(_ANSWERS_FILE.value), found):
    print(f"watermark: {note}", file=sys.stderr)
  return found


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


def _require(*needed: flags.FlagHolder) -> None:
  for flag in needed:
    if flag.value is None:
      raise ValueError(f"--{flag.name} must have a value")


if __name__ == "__main__":
  launch.run(main)
