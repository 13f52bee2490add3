"""The cost of agreeing on keys, counted the same way for every protocol.

Bytes of one participant over a key's lifetime, and the same divided by the rounds of that lifetime.
Imports no JAX. Where the papers leave it open, we assume that a public key is 32 bytes (X25519) and
goes through the server. SSDDL's participants publish one key each before the first round and fetch
everybody else's, since every round draws a new group; the pair keys of all rounds follow from them
(docs/protocol.md, section 4).

SecAgg's two keys per member live for one round, as in Bonawitz et al., because the mask key of a
member that vanishes is opened. The bytes of a run include SecAgg's keys in every round, and never
SSDDL's; `KeyAgreement.counted` says which.
"""

from typing import Any

from ssddl_jax.baselines.traffic import KEY, KeyAgreement
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.protocols import protocol_of


def key_agreement(
    config: Any, dimension: int, neighbours: int, rounds: int | None = None
) -> KeyAgreement:
    """The cost for a config's protocol; zeros if it neither encrypts nor masks.

    `neighbours`: k. `rounds`: of the run; the config's if not given.
    """
    life, keys = rounds or config.rounds, protocol_of(config).keys
    if not keys:
        return KeyAgreement(0, 0, life, counted=False)
    found: KeyAgreement = resolve(keys)(config, dimension, neighbours, life)
    return found


def of_ssddl(config: Any, dimension: int, neighbours: int, rounds: int) -> KeyAgreement:
    """Each participant's key up before the first round, and everybody else's down."""
    return KeyAgreement(KEY, KEY * (config.participants - 1), rounds, counted=False)
