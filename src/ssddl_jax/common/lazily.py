"""The package's objects by name, imported when needed, so that records need no heavy imports."""

from importlib import import_module
from typing import Any


def resolve(name: str) -> Any:
    """The object that `module:attribute` names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
