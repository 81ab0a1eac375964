"""The flag of the binaries whose models can carry defences."""

from absl import flags

from jmia.defenses import registry

from . import common_flags, shared_flags, training_flags

flags.declare_key_flag("delta")
_DEFENSE = flags.DEFINE_list(
  "defense",
  None,
  "Defences that every model carries, as NAME or NAME:STRENGTH: "
  + "; ".join(
    f"{name} ({meaning})" if meaning else name
    for name, meaning in registry.describe().items()
  ),
)

# The flag whose setting a defence of that name replaces.
_REPLACED = {"l2": training_flags.WEIGHT_DECAY, "dropout": training_flags.DROPOUT_RATE}


def chosen(*, reads_delta: bool = False) -> tuple[registry.DefenseConfig, ...]:
  """Returns the defences that were given.

  Args:
    reads_delta: whether --delta is of use without DP-SGD too.

  Raises:
    ValueError: if one is unknown, its strength is missing or too many, or a flag is
      given that would be ignored for it.
  """
  delta = shared_flags.DELTA.value
  options = {} if delta is None else {"delta": delta}
  found = tuple(registry.parse(text, **options) for text in _DEFENSE.value or ())
  names = [defense.name for defense in found]
  for name, flag in _REPLACED.items():
    if name in names:
      common_flags.refuse(
        [flag.name], f"with --defense={name}, which replaces it: give one"
      )
  if "dp_sgd" not in names and not reads_delta:
    common_flags.refuse(["delta"], "is of --defense=dp_sgd, which is not given")
  return found
