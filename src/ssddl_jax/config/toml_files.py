"""TOML files of config fields: the file that `--config` names, and a run's config.toml."""

import dataclasses
import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from ssddl_jax.common.errors import ConfigError, written
from ssddl_jax.common.paths import read_text
from ssddl_jax.config.config import INPUTS, Config, is_path


def read_toml(path: str | Path) -> dict[str, Any]:
    """Config fields from a TOML file, unchanged; a run directory's `config.toml` is such a file.

    The table `[environment]` (versions, device) is for people and is ignored. Raises `ConfigError`.
    """
    table = read_table(path)
    table.pop("environment", None)
    known = [field.name for field in dataclasses.fields(Config)]
    fields: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"fields are {', '.join(known)}"
            raise ConfigError(name, written(value), f"is not a field of the config; {hint}")
        if name in fields:
            remedy = f"is in {path} twice, as {name} and as {name.replace('_', '-')}; keep one"
            raise ConfigError(name, written(value), remedy)
        fields[name] = value
    return fields


def read_config_file(path: str | Path) -> dict[str, Any]:
    """As `read_toml`, for `--config`: relative input files are relative to the file's folder."""
    fields = read_toml(path)
    folder = Path(path).absolute().parent
    for name in INPUTS:
        value = fields.get(name)
        if isinstance(value, str) and is_path(name, value) and value[:1] not in ("", "~"):
            fields[name] = os.path.join(folder, value)
    return fields


def read_table(path: str | Path) -> dict[str, Any]:
    """The whole content of a TOML file. Raises `ConfigError`."""
    text = read_text("config", path, 1 << 20)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers too long or tables too deep for Python
        raise ConfigError("config", path, f"is not a TOML file: {error}") from error
