"""`module:attribute` names: how a user brings in a model, an optimizer or a PRG of their own."""

import importlib
import sys
from pathlib import Path
from typing import Any

from ssddl_jax.errors import ConfigError


def load_attribute(field: str, name: str) -> Any:
    """The object that `module:attribute` names; the current folder is searched first.

    Raises `ConfigError` naming `field` if there is no such module or attribute.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(field, name, f"cannot be imported: {error}") from error
    return found
