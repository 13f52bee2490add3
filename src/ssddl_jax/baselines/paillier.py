"""Additively homomorphic encryption by Paillier's scheme, packed, as in Phong et al. 2018.

The library `phe` (extra `paillier`) does the arithmetic. A plaintext holds as many *slots* as fit
the key; each is a 32-bit number with 15 bits of room for additions. Numbers are shifted to be
positive, so a sum of K ciphertexts is K shifts too large. K may be at most 2^15.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ssddl_jax.baselines.phong_bytes import PAILLIER_KEY_BITS, PAILLIER_PAD_BITS
from ssddl_jax.common.errors import ConfigError

VALUE_BITS = 32
SLOT_BITS = VALUE_BITS + PAILLIER_PAD_BITS
_SHIFT = 1 << (VALUE_BITS - 1)


class Keys(NamedTuple):
    """A key pair of `phe`."""

    public: Any
    secret: Any


class Sealed(NamedTuple):
    """Ciphertexts of one vector, or of the sum of `terms` vectors."""

    ciphertexts: list[int]
    terms: int
    width: int


def installed() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec("phe") is not None


def missing() -> str | None:
    """What to install if the library is missing, or None."""
    return None if installed() else "needs the extra paillier: pip install 'ssddl-jax[paillier]'"


def generate(key_bits: int = PAILLIER_KEY_BITS) -> Keys:
    """A fresh key pair. Raises `ConfigError` if the library is not installed."""
    if why := missing():
        raise ConfigError("protocol", "phong-paillier", why)
    from phe import paillier

    return Keys(*paillier.generate_paillier_keypair(n_length=key_bits))


def slots(key_bits: int = PAILLIER_KEY_BITS) -> int:
    """Numbers per plaintext; they stay below half the key's modulus."""
    return (key_bits - 1) // SLOT_BITS


def ciphertexts(width: int, key_bits: int = PAILLIER_KEY_BITS) -> int:
    """Ciphertexts of a vector of `width` numbers."""
    return -(-width // slots(key_bits))


def multiplications(width: int, key_bits: int = PAILLIER_KEY_BITS) -> int:
    """Multiplications of big numbers that encrypt a vector, and as many that decrypt it.

    Square and multiply takes about 1.5 per bit of an exponent: a squaring for every bit, and a
    product for every second one. A ciphertext has one exponent of `key_bits` modulo n^2; a
    plaintext has two of half as many, modulo p^2 and q^2.
    """
    return ciphertexts(width, key_bits) * key_bits * 3 // 2


def encrypt(keys: Keys, values: Sequence[int]) -> Sealed:
    """Encrypts signed 32-bit numbers. Raises `ConfigError` for a number that does not fit."""
    for value in values:
        if not -_SHIFT <= value < _SHIFT:
            raise ConfigError("values", value, "must be signed 32-bit numbers")
    each = slots(keys.public.n.bit_length())
    packed = [
        sum((int(v) + _SHIFT) << (SLOT_BITS * i) for i, v in enumerate(values[at : at + each]))
        for at in range(0, len(values), each)
    ]
    return Sealed([keys.public.raw_encrypt(m) for m in packed], 1, len(values))


def add(keys: Keys, first: Sealed, second: Sealed) -> Sealed:
    """The ciphertexts of the sum: products modulo n^2.

    Raises `ConfigError` for more than 2^15 terms, and for vectors of different lengths.
    """
    terms, square = first.terms + second.terms, keys.public.nsquare
    if first.width != second.width:
        raise ConfigError("second", second.width, f"must have {first.width} values, like the first")
    if terms > 1 << PAILLIER_PAD_BITS:
        remedy = f"{PAILLIER_PAD_BITS} bits of room hold {1 << PAILLIER_PAD_BITS} terms"
        raise ConfigError("additions", terms, remedy)
    pairs = zip(first.ciphertexts, second.ciphertexts, strict=True)
    return Sealed([a * b % square for a, b in pairs], terms, first.width)


def decrypt(keys: Keys, sealed: Sealed) -> list[int]:
    """The sums of the vectors that were added."""
    each, mask = slots(keys.public.n.bit_length()), (1 << SLOT_BITS) - 1
    plain = [keys.secret.raw_decrypt(c) for c in sealed.ciphertexts]
    shift = sealed.terms * _SHIFT
    return [
        (plain[i // each] >> (SLOT_BITS * (i % each)) & mask) - shift for i in range(sealed.width)
    ]


def measure(width: int, key_bits: int = PAILLIER_KEY_BITS, members: int = 3) -> dict[str, Any]:
    """Times the encryption of a slice of `width` coordinates.

    Returns medians over the members, at least two, and `exact`: whether the sum of their
    ciphertexts decrypted to the exact sum. Raises `ConfigError` if the library is not installed.
    """
    keys = generate(key_bits)
    rng = np.random.default_rng(0)
    values = rng.integers(-_SHIFT, _SHIFT, (members, width)).tolist()
    sealed, encrypting = _timed(lambda row: encrypt(keys, row), [(row,) for row in values])
    pairs = list(pairwise(sealed))
    _, adding = _timed(lambda first, second: add(keys, first, second), pairs)
    summed = reduce(lambda first, second: add(keys, first, second), sealed)
    opened, decrypting = _timed(lambda sums: decrypt(keys, sums), [(summed,)] * members)
    whole = ciphertexts(width, key_bits) * slots(
        key_bits
    )  # the last plaintext may have empty slots
    return {
        "encrypt_seconds_per_coordinate": encrypting / whole,
        "add_seconds_per_coordinate": adding / whole,
        "decrypt_seconds_per_coordinate": decrypting / whole,
        "exact": opened[-1] == np.sum(values, axis=0, dtype=np.int64).tolist(),
    }


def _timed(call: Callable[..., Any], each: Sequence[tuple[Any, ...]]) -> tuple[list[Any], float]:
    """The results, and the median seconds of one call."""
    results, taken = [], []
    for arguments in each:
        begin = time.perf_counter()
        results.append(call(*arguments))
        taken.append(time.perf_counter() - begin)
    return results, float(np.median(taken))
