"""The flag of the binaries whose models can carry defences."""

from absl import flags

from jmia.defenses import registry

from . import pair_flags

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


def chosen() -> tuple[registry.DefenseConfig, ...]:
  """Returns the defences that were given.

  Raises:
    ValueError: if one is unknown, or its strength is missing or too many.
  """
  delta = pair_flags.DELTA.value
  options = {} if delta is None else {"delta": delta}
  return tuple(registry.parse(text, **options) for text in _DEFENSE.value or ())
