"""Code that a run directory names: it is not imported unless the user trusts it.

People share run directories, and `prg = "module:attribute"` in a `config.toml` would run a
stranger's file. Imports no JAX, and finds modules without importing anything.
"""

import shlex
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ssddl_jax.common.errors import ConfigError

# Fields that may name code, and the Python argument that replaces each.
_FIELDS = {
    "model": "model",
    "prg": None,
    "local_optimizer": "local",
    "server_optimizer": "server",
    "sinks": None,
}


def named_code(fields: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a config that name a user's code, with the first such name of each."""
    found = {}
    for field in _FIELDS:
        names = str(fields.get(field) or "").split(",")
        own = [name.strip() for name in names if ":" in name]
        if own:
            found[field] = own[0]
    return found


def check_trust(fields: Mapping[str, Any], trust: bool, parts: Mapping[str, Any]) -> None:
    """Refuses a run directory's config that names code, unless it is trusted or the part is given.

    Raises `ConfigError` naming the module and the file.
    """
    if trust:
        return
    for field, name in named_code(fields).items():
        if parts.get(_FIELDS[field] or "") is not None:
            continue
        remedy = f"would import {_whereabouts(name)}; if you trust it, add --trust (trust=True)"
        raise ConfigError(field, fields[field], remedy)


def needs_trust(directory: Path) -> bool:
    """Whether `resume` and `verify` of this run directory would import code that it names."""
    with suppress(OSError, ValueError):
        return bool(named_code(tomllib.loads((directory / "config.toml").read_text("utf-8-sig"))))
    return False


def resume_command(directory: Path) -> str:
    """The command that continues a run, quoted for a shell."""
    trust = " --trust" if needs_trust(directory) else ""
    return f"ssddl resume {shlex.quote(str(directory))}{trust}"


def _whereabouts(name: str) -> str:
    """The module and file of `module:attribute`, found without importing parent packages."""
    module = name.partition(":")[0]
    top, *inner = module.split(".")
    with suppress(Exception):  # a path hook may do anything
        spec = PathFinder.find_spec(top, [str(Path.cwd()), *sys.path])
        if spec is not None:
            folders = spec.submodule_search_locations
            file = Path(*([next(iter(folders)), *inner] if folders else [str(spec.origin)]))
            return f"module {module} from {file}"
    return f"module {module}, which was not found"
