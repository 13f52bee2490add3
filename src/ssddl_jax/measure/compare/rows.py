"""The rows of a comparison: a protocol, and optionally a variant of it.

A row is written NAME or NAME:VARIANT. The variant sets the field that the protocol's record names:
the dropout rule for ssddl, theta_u for dssgd.
"""

from dataclasses import replace
from typing import Any, NamedTuple, get_type_hints

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.config import Config
from ssddl_jax.config.kinds import accepts, alternatives, choice_of, from_text
from ssddl_jax.config.protocol import Protocol
from ssddl_jax.config.protocols import PROTOCOLS, protocol_of

DEFAULT = ",".join(
    f"{name}:{variant}" if variant else name
    for name, protocol in PROTOCOLS.items()
    for variant in protocol.rows
)


class Contender(NamedTuple):
    """One row of a comparison, before it is trained."""

    name: str
    config: Config


def read_rows(text: str, config: Config) -> list[Contender]:
    """The rows of a comma-separated list, each checked. Raises `ConfigError`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise ConfigError("protocols", text, "must be at least one row, each named once")
    rows = [Contender(name, _row(name, config)) for name in names]
    if any(row.config.in_python for row in rows):
        remedy = "trains one seed at a time, and is not compiled; use pairwise or ideal"
        raise ConfigError("engine", "reference", remedy)
    return rows


def left_out(row: Contender) -> str | None:
    """Why a row cannot be measured here, or None."""
    missing = protocol_of(row.config).missing
    return resolve(missing)() if missing else None


def variants() -> list[str]:
    """All rows with a variant, as NAME:VARIANT."""
    return [f"{p.name}:{word}" for p in PROTOCOLS.values() if p.variant for word in _words(p)]


def _words(protocol: Protocol) -> list[str]:
    """The variants of a protocol: the choices of its field, or a word for a number."""
    parts = alternatives(get_type_hints(Config)[protocol.variant])
    choices = [str(value) for part in parts for value in choice_of(part)]
    return choices or [protocol.variant.removeprefix(f"{protocol.name}_").upper()]


def _row(name: str, config: Config) -> Config:
    protocol, _, variant = name.partition(":")
    if protocol not in PROTOCOLS:
        raise ConfigError("protocols", name, f"must be some of {', '.join(PROTOCOLS)}")
    if not variant:
        return replace(config, protocol=protocol)
    field = PROTOCOLS[protocol].variant
    kind = get_type_hints(Config).get(field, type(None))
    value: Any = from_text(variant, kind)
    if accepts(value, kind):
        return replace(config, protocol=protocol, **{field: value})
    if kind is float:
        word, usual = _words(PROTOCOLS[protocol])[0], getattr(Config, field)
        remedy = f"must be {protocol}:{word}, such as {protocol}:{usual:g}"
    else:
        remedy = f"has no variant {variant}; use one of {', '.join(variants())}"
    raise ConfigError("protocols", name, remedy)
