"""`module:attribute` names: how a user brings in a model, an optimizer or a PRG of their own."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

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
    except (Exception, SystemExit) as error:  # a module may do anything
        why = f"cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(field, name, why) from error
    return found


def shapes_of(field: str, name: str, what: str, function: Callable[..., Any], *given: Any) -> Any:
    """Shapes of what a part's function gives, by tracing it: nothing is compiled.

    Raises `ConfigError` if the function fails: better now than in the middle of the round.
    """
    try:
        return jax.eval_shape(function, *given)
    except Exception as error:  # a user's function may do anything
        why = f"its {what} fails: {type(error).__name__}: {error}"
        raise ConfigError(field, name, why) from error
