"""Bytes of Phong et al. 2018, under both schemes of encryption. Free of JAX."""

from typing import Any

from ssddl_jax.baselines.traffic import FLOAT, KeyAgreement, Moved, to_bytes

LWE_DIMENSION, LWE_MODULUS_BITS = 3000, 77  # n, log2 q
PAILLIER_KEY_BITS, PAILLIER_PAD_BITS = 3072, 15


def lwe_bits(dimension: int) -> int:
    """Bits of the ciphertext of d coordinates: n + d numbers modulo q."""
    return (LWE_DIMENSION + dimension) * LWE_MODULUS_BITS


def paillier_bits(dimension: int, key_bits: int = PAILLIER_KEY_BITS) -> int:
    """Bits of the ciphertexts modulo the key's square; each packs as many values as fit."""
    each = (key_bits - 1) // (FLOAT + PAILLIER_PAD_BITS)
    return -(-dimension // each) * 2 * key_bits


def lwe(config: Any, dimension: int) -> Moved:
    """The ciphertext of the model down, that of the update up."""
    each = to_bytes(lwe_bits(dimension))
    return Moved(each, each)


def paillier(config: Any, dimension: int) -> Moved:
    """The same under Paillier's scheme."""
    each = to_bytes(paillier_bits(dimension))
    return Moved(each, each)


def lwe_keys(config: Any, dimension: int, neighbours: int, rounds: int) -> KeyAgreement:
    """The public key: n d numbers modulo q, which every participant downloads once."""
    public = to_bytes(LWE_DIMENSION * dimension * LWE_MODULUS_BITS)
    return KeyAgreement(0, public, rounds, counted=False)


def paillier_keys(config: Any, dimension: int, neighbours: int, rounds: int) -> KeyAgreement:
    """The public modulus, which every participant downloads once."""
    return KeyAgreement(0, to_bytes(PAILLIER_KEY_BITS), rounds, counted=False)
