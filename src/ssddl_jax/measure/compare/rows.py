"""Which rows a comparison has: a protocol, and what tells it from the config's.

A row is written NAME or NAME:VARIANT. Variants: of ssddl its dropout rule, of dssgd its theta_u.
"""

from dataclasses import replace
from typing import NamedTuple

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import PROTOCOLS
from ssddl_jax.config.rules import CHOICES

DEFAULT = (
    "ssddl,secagg,secagg+,plain,dssgd:1,dssgd:0.1,dssgd:0.01,phong-lwe,phong-paillier,snt,"
    "central,standalone"
)


class Contender(NamedTuple):
    """A line of the table to be."""

    name: str
    config: Config


def read_rows(text: str, config: Config) -> list[Contender]:
    """The rows of a list with commas, each checked. Raises `ConfigError`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise ConfigError("protocols", text, "must be different rows, at least one")
    return [Contender(name, _row(name, config)) for name in names]


def left_out(row: Contender) -> str | None:
    """Why a row cannot be measured here, or None."""
    if row.config.protocol == "phong-paillier":
        from ssddl_jax.baselines import paillier

        if not paillier.installed():
            return "needs the extra paillier: pip install 'ssddl-jax[paillier]'"
    return None


def _row(name: str, config: Config) -> Config:
    protocol, _, variant = name.partition(":")
    if protocol not in PROTOCOLS:
        raise ConfigError("protocols", name, f"must be some of {', '.join(PROTOCOLS)}")
    if not variant:
        return replace(config, protocol=protocol)
    if protocol == "dssgd":
        try:
            return replace(config, protocol=protocol, dssgd_theta_u=float(variant))
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                "protocols", name, "must be dssgd:THETA_U, such as dssgd:0.1"
            ) from None
    if protocol == "ssddl" and variant in CHOICES:
        return replace(config, protocol=protocol, dropout_rule=variant)
    rules = ", ".join(f"ssddl:{rule}" for rule in CHOICES)
    raise ConfigError(
        "protocols", name, f"has no variant {variant}; there are dssgd:THETA, {rules}"
    )
