"""Rejects settings of JAX under which a round would be wrong or would not run."""

import os
import sys
from typing import Any

from ssddl_jax.common.errors import ConfigError, one_line

_MOVES = ("", "_host_to_device", "_device_to_host", "_device_to_device")


_SETTINGS: list[tuple[str, tuple[Any, ...], str]] = [  # a setting of JAX, the refused values, why
    ("jax_enable_x64", (True,), "words have 32 bits here, and 64-bit types change them"),
    ("jax_disable_jit", (True,), "a round is one compiled program, and this runs it line by line"),
    *(
        (
            f"jax_transfer_guard{move}",
            ("disallow", "disallow_explicit"),
            "data and results are moved between the host and its devices",
        )
        for move in _MOVES
    ),
]


def check_jax() -> None:
    """Raises `ConfigError` for a setting of JAX under which a round cannot work."""
    import jax

    for name, refused, why in _SETTINGS:
        value = getattr(jax.config, name)
        if value in refused:
            raise ConfigError(name.upper(), "1" if value is True else value, f"{why}; unset it")
    missing = missing_device()
    if missing:
        raise missing


def refused_variable(error: Exception) -> ConfigError | None:
    """The error to show if JAX could not be imported because of an environment variable."""
    ours = isinstance(error, ConfigError)
    if "jax" not in sys.modules and isinstance(error, ValueError) and not ours:
        for name, value in os.environ.items():
            if name.startswith("JAX_") and name.lower() in str(error).lower():
                return ConfigError(name, value, f"JAX does not take it; unset it ({error})")
    return None


def missing_device() -> ConfigError | None:
    """The error to show if JAX_PLATFORMS names a missing device; JAX may fail without a message."""
    given = os.environ.get("JAX_PLATFORMS")
    if not given or "jax" not in sys.modules:
        return None
    import jax

    try:
        jax.devices()
    except Exception as error:
        why = one_line(error, 300) or "JAX says no more"
        return ConfigError("JAX_PLATFORMS", given, f"no such device is here; unset it ({why})")
    return None
