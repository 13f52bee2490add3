"""Bits that the rivals move, for every member that takes part in a round. Free of JAX.

Sources of the formulas: the papers that `protocols.PROTOCOLS` names, as docs/protocol.md, section 8
has them. Bits of a message are rounded up to bytes.
"""

from fractions import Fraction
from math import ceil, floor, log2
from typing import Any, NamedTuple

LWE_DIMENSION, LWE_MODULUS_BITS = 3000, 77  # Phong et al.: n, log2 q
PAILLIER_KEY_BITS, PAILLIER_PAD_BITS = 3072, 15
_FLOAT = 32


class Moved(NamedTuple):
    """Bytes of one member's round, to and from the server."""

    up: int
    down: int


def to_bytes(bits: int) -> int:
    """Whole bytes."""
    return -(-bits // 8)


def chosen(fraction: float, dimension: int) -> int:
    """How many of d coordinates a fraction theta, the decimal as written, is: at least one."""
    return max(1, floor(Fraction(repr(float(fraction))) * dimension))


def dssgd(config: Any, dimension: int) -> Moved:
    """Values with their indices up, values down."""
    index = ceil(log2(dimension)) if dimension > 1 else 1
    up = chosen(config.dssgd_theta_u, dimension) * (_FLOAT + index)
    return Moved(to_bytes(up), to_bytes(chosen(config.dssgd_theta_d, dimension) * _FLOAT))


def lwe_bits(dimension: int) -> int:
    """A ciphertext of d coordinates: n + d of them modulo q."""
    return (LWE_DIMENSION + dimension) * LWE_MODULUS_BITS


def paillier_bits(dimension: int, key_bits: int = PAILLIER_KEY_BITS) -> int:
    """Ciphertexts modulo the key's square, each with as many padded values as fit its key."""
    each = (key_bits - 1) // (_FLOAT + PAILLIER_PAD_BITS)
    return -(-dimension // each) * 2 * key_bits


def member(config: Any, dimension: int) -> Moved:
    """One member's bytes of a round under a protocol that sums nothing securely."""
    model = to_bytes(_FLOAT * dimension)
    protocol = config.protocol
    if protocol in ("central", "standalone"):
        return Moved(0, 0)  # central: the data moved once, before the first round
    if protocol == "dssgd":
        return dssgd(config, dimension)
    if protocol == "phong-lwe":
        return Moved(*(2 * (to_bytes(lwe_bits(dimension)),)))
    if protocol == "phong-paillier":
        return Moved(*(2 * (to_bytes(paillier_bits(dimension)),)))
    return Moved(model, model)  # plain, snt


def public_key(config: Any, dimension: int) -> int:
    """Bytes of the public key that every participant fetches before the first round, if any."""
    if config.protocol == "phong-lwe":
        return to_bytes(LWE_DIMENSION * dimension * LWE_MODULUS_BITS)
    if config.protocol == "phong-paillier":
        return to_bytes(PAILLIER_KEY_BITS)
    return 0


def pooled(config: Any, examples: int, example_bytes: int) -> int:
    """Bytes of the data that all participants together hand over before the first round.

    `examples`: of everybody; `example_bytes`: one with its label.
    """
    return examples * example_bytes if config.protocol == "central" else 0
