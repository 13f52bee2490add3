"""Keys that participants agree on before they can share, counted the same way for every protocol.

Bytes of one participant in a key's life, and the same spread over the rounds of that life. Free of
JAX. Ours, where the sources leave room: a public key is 32 bytes (X25519) and goes through the
server; SSDDL's participants publish one each before the first round and fetch everybody else's,
since groups are drawn anew; the pair keys of all rounds follow from these (docs/protocol.md,
section 4).
SecAgg's two keys a member live one round, as Bonawitz et al. have it: the mask key of a member that
vanishes is opened. The bytes of a run count SecAgg's keys in every round, and SSDDL's not at all;
`KeyAgreement.counted` says which.
"""

from typing import Any

from ssddl_jax.baselines.traffic import KEY, KeyAgreement
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.protocols import protocol_of


def key_agreement(
    config: Any, dimension: int, neighbours: int, rounds: int | None = None
) -> KeyAgreement:
    """What a config's protocol takes; zeros where nothing is encrypted or masked. `neighbours` k;
    `rounds`: of the run, the config's if not given.
    """
    life, keys = rounds or config.rounds, protocol_of(config).keys
    if not keys:
        return KeyAgreement(0, 0, life, counted=False)
    found: KeyAgreement = resolve(keys)(config, dimension, neighbours, life)
    return found


def of_ssddl(config: Any, dimension: int, neighbours: int, rounds: int) -> KeyAgreement:
    """One key of each participant, published before the first round; everybody else's down."""
    return KeyAgreement(KEY, KEY * (config.participants - 1), rounds, counted=False)
