"""Objects of the package by name, imported when they are needed: for records that stay light."""

from importlib import import_module
from typing import Any


def resolve(name: str) -> Any:
    """What `module:attribute` names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
