"""The settings of an audit back from its `report.json`."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from jmia.audit import config as config_lib
from jmia.defenses import registry
from jmia.training import augment, optimizers
from jmia.training import config as training_config


def settings_of(report: Mapping[str, Any]) -> config_lib.AuditConfig:
  """Returns the settings that an audit of a dataset was run with.

  Args:
    report: as `report.json`.

  Raises:
    ValueError: it is no report of an audit, or of no dataset, or holds settings that
      this version does not know.
  """
  config = report.get("config") if isinstance(report, Mapping) else None
  if not isinstance(config, Mapping):
    raise ValueError("it is no report.json of an audit")
  if "train" not in config:
    raise ValueError("the report is of a file of signals: give --signals again")
  names = {field.name for field in dataclasses.fields(config_lib.AuditConfig)}
  given = {name: value for name, value in config.items() if name in names}
  try:
    given |= {
      "attacks": tuple(config["attacks"]),
      "defenses": _defenses(config),
      "train": _train(config["train"]),
    }
    return config_lib.AuditConfig(**given)
  except (KeyError, TypeError) as error:
    raise ValueError(f"the report's config cannot be repeated: {error}") from error


def written(defense: registry.DefenseConfig) -> dict[str, Any]:
  """Returns all of a defence's settings as JSON values: an epsilon may be infinite."""
  content = dataclasses.asdict(defense)
  strength = content["strength"]
  return content | {"strength": None if strength is None else str(float(strength))}


def _defenses(config: Mapping[str, Any]) -> tuple[registry.DefenseConfig, ...]:
  if "defense_settings" not in config:  # of a version that kept their names alone
    return tuple(registry.parse(text) for text in config["defenses"])
  found = []
  for content in config["defense_settings"]:
    strength = content["strength"]
    strength = None if strength is None else float(strength)
    found.append(registry.DefenseConfig(**{**content, "strength": strength}))
  return tuple(found)


def _train(config: Mapping[str, Any]) -> training_config.TrainConfig:
  optimizer = dict(config["optimizer"])
  optimizer["boundaries"] = tuple(optimizer["boundaries"])
  augmentation = dict(config.get("augmentation", {}))  # older reports have none
  if "fill" in augmentation:
    augmentation["fill"] = tuple(augmentation["fill"])
  return training_config.TrainConfig(
    **{
      **config,
      "optimizer": optimizers.OptimizerConfig(**optimizer),
      "model_options": tuple(
        (name, _as_tuple(value)) for name, value in config["model_options"]
      ),
      "augmentation": augment.AugmentConfig(**augmentation),
    }
  )


def _as_tuple(value: Any) -> Any:
  return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
