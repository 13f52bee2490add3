"""`module:attribute` names, by which users bring their own models, optimizers and PRGs."""

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ssddl_jax.common.errors import ConfigError


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
    """Shapes that a user's function returns, found by tracing it; nothing is compiled.

    Raises `ConfigError` if the function fails: better now than in the middle of a round.
    """
    try:
        return jax.eval_shape(function, *given)
    except Exception as error:  # a user's function may do anything
        why = f"its {what} fails: {type(error).__name__}: {error}"
        if isinstance(error, jax.errors.TracerArrayConversionError):
            why = f"its {what} uses NumPy on traced values; use jax.numpy"
        if type(error).__name__ == "InvalidRngError":
            why = (
                f"its {what} draws random numbers (an active Dropout?) but receives no key, since "
                "all participants would draw the same; remove it"
            )
        raise ConfigError(field, name, why) from error


def draws(function: Callable[..., Any], *given: Any) -> bool:
    """Whether a function uses any of JAX's random generators, found by tracing it."""
    text = str(jax.make_jaxpr(function)(*given))
    return (
        re.search(r"= (random_bits|threefry2x32|rng_bit_generator|rng_uniform)\b", text) is not None
    )


def source_sha256(part: Any) -> str:
    """SHA-256 of a part's code: the source of its function or class and of their module, and its
    `repr`; if it has no source, its name. What a part reads or imports is not included.
    """
    digest = hashlib.sha256()
    for piece in part if isinstance(part, tuple) else (part,):
        named = inspect.isfunction(piece) or inspect.isclass(piece)
        code = piece if named else type(piece)
        for source in (code, sys.modules.get(code.__module__)):
            try:
                digest.update(inspect.getsource(source).encode())  # type: ignore[arg-type]
            except (OSError, TypeError):
                digest.update(code.__qualname__.encode())
        if not named and not callable(getattr(piece, "func", None)):
            digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(piece)).encode())
    return digest.hexdigest()
