"""Additively homomorphic encryption from learning with errors (LWE), as in Phong et al. 2018.

    keys      R, S small [n, l];  A uniform [n, n];  P = p R - A S           (mod q)
    encrypt   c1 = e1 A + p e2,  c2 = e1 P + p e3 + m                        (mod q)
    decrypt   c1 S + c2 = p (e1 R + e2 S + e3) + m, lifted, then mod p, lifted

with n = 3000, q = 2^77, p = 2^48 + 1 and small numbers from a discrete Gaussian of parameter s = 8.
Sums of ciphertexts decrypt to sums of messages while both messages and noise stay in range. l
coordinates share a key. For a whole update, l = d, the public key would have n d numbers, so
callers encrypt slices.

Numbers mod q are ten digits of base 2^8 on a leading axis, canonical (0..255, the last 0..31) or
*balanced* (-128..127), so that products of small matrices with digits are exact in float32:
n * TAIL * 128 < 2^24. Carries are propagated in int32. No 64-bit types; any backend.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float32, Int8, Int32, UInt32

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.core.arithmetic.chacha import words

DIGITS, Q_BITS, P_BITS = 10, 77, 48
P = 2**P_BITS + 1
NARROWEST, WIDEST = 1.0, 8.0  # s
TAIL = 20  # largest magnitude of a small number: at s = 8, 21 has probability below 2^-32
_TOP = 31  # mask of the last digit
_FAILURE_BITS = 40
Wide = UInt32[Array, "*batch l 2"]  # signed numbers of 64 bits: low limb, high limb


class Parameters(NamedTuple):
    """The dimension n, and the Gaussian's parameter s."""

    dimension: int = 3000
    width: float = 8.0


PHONG = Parameters()


class Keys(NamedTuple):
    """The public key A, P (balanced digits) and the secret key S; R is discarded."""

    a: Int8[Array, "10 n n"]
    p: Int8[Array, "10 n l"]
    secret: Float32[Array, "n l"]


class Ciphertexts(NamedTuple):
    """Canonical digits of c1 and c2 of a batch."""

    c1: Int32[Array, "10 *batch n"]
    c2: Int32[Array, "10 *batch l"]


class Small(NamedTuple):
    """The randomness of an encryption."""

    e1: Float32[Array, "b n"]
    e2: Float32[Array, "b n"]
    e3: Float32[Array, "b l"]


def thresholds(width: float) -> np.ndarray:
    """u32 [TAIL]: how many of 2^31 equally likely values give a magnitude below 1, 2, ... TAIL.

    Rounded up, so that no tail is heavier than the Gaussian's and its tail bounds hold.
    """
    x = np.arange(4 * TAIL)
    mass = np.exp(-math.pi * (x / width) ** 2) * np.where(x == 0, 1, 2)
    below = np.cumsum(mass)[:TAIL] / mass.sum()
    return np.ceil(below * 2.0**31).astype(np.uint32)


def gaussian(parameters: Parameters, drawn: UInt32[Array, " *shape"]) -> Float32[Array, " *shape"]:
    """Small numbers from uniform words: 31 bits and the table give the magnitude, one the sign."""
    table = jnp.asarray(thresholds(parameters.width))
    uniform = drawn >> jnp.uint32(1)

    def count(index: Array, total: Array) -> Array:
        return total + (uniform >= table[index]).astype(jnp.int32)

    magnitude = lax.fori_loop(0, TAIL, count, jnp.zeros(drawn.shape, jnp.int32))
    return jnp.where(drawn & jnp.uint32(1) == 1, -magnitude, magnitude).astype(jnp.float32)


def check_parameters(parameters: Parameters) -> None:
    """Raises `ConfigError` if products would be inexact, or the table too short for the width."""
    n, s = parameters
    most = ((1 << 24) - 1) // (TAIL * 128)
    if not 1 <= n <= most:
        raise ConfigError("dimension", n, f"must be 1 to {most}; above, products lose bits")
    if not NARROWEST <= s <= WIDEST:
        remedy = f"must be {NARROWEST} to {WIDEST}: small numbers of magnitude up to {TAIL}"
        raise ConfigError("width", s, remedy)


def generate(parameters: Parameters, key: UInt32[Array, "8"], width: int) -> Keys:
    """Keys for vectors of `width` coordinates, from a ChaCha key.

    Raises `ConfigError` for parameters that `check_parameters` refuses.
    """
    check_parameters(parameters)
    n = parameters.dimension
    r, s = (gaussian(parameters, _words(key, i, n * width).reshape(n, width)) for i in (1, 2))

    def plane(index: Array) -> tuple[Array, Array]:
        """A digit of A and its product with S; uniform octets are uniform balanced digits."""
        drawn = _words(key, 3, -(-n * n // 4), index)
        octets = lax.bitcast_convert_type(drawn, jnp.int8).reshape(-1)[: n * n].reshape(n, n)
        digit = jnp.where(index == DIGITS - 1, octets & jnp.int8(_TOP), octets)
        return digit, _exact(digit.astype(jnp.float32), s)

    a, times = lax.map(plane, jnp.arange(DIGITS, dtype=jnp.uint32))
    public = settle(_plus_p_times(-times.astype(jnp.int32), r.astype(jnp.int32)))
    return Keys(a, balanced(public), s)


def _words(key: Array, purpose: int, count: int, index: Array | int = 0) -> UInt32[Array, " count"]:
    """Words of a key for encryption (purpose 0), R (1), S (2) or digit `index` of A (3)."""
    parts = (purpose, index, int.from_bytes(b"LWE ", "little"))
    return words(key, jnp.stack([jnp.asarray(part, jnp.uint32) for part in parts]), count)


def _exact(small: Array, digits: Array) -> Array:
    """A product of integers whose result float32 holds exactly, on any backend."""
    return jnp.matmul(small, digits, precision=lax.Precision.HIGHEST)


def settle(digits: Int32[Array, " 10 *shape"]) -> Int32[Array, " 10 *shape"]:
    """Canonical digits mod q from any digits with |digit| < 2^30."""
    carry = jnp.zeros_like(digits[0])
    out = []
    for digit in digits:
        value = digit + carry
        out.append(value & 255)
        carry = value >> 8
    out[-1] = out[-1] & _TOP
    return jnp.stack(out)


def balanced(digits: Int32[Array, " 10 *shape"]) -> Int8[Array, " 10 *shape"]:
    """Canonical digits as -128..127; the last digit wraps at q."""
    carry = jnp.zeros_like(digits[0])
    out = []
    for digit in digits[:-1]:
        value = digit + carry
        carry = (value >= 128).astype(jnp.int32)
        out.append(value - 256 * carry)
    out.append((digits[-1] + carry) & _TOP)
    return jnp.stack(out).astype(jnp.int8)


def _plus_p_times(digits: Array, small: Array) -> Array:
    """digits + p * small, carries not propagated: p = 2^48 + 1 is 1 at digits 0 and 6."""
    return digits.at[0].add(small).at[P_BITS // 8].add(small)


def draw(parameters: Parameters, keys: UInt32[Array, "b 8"], width: int) -> Small:
    """The randomness of a batch of encryptions, from one ChaCha key each."""
    n = parameters.dimension

    def one(key: Array) -> Array:
        return gaussian(parameters, _words(key, 0, 2 * n + width))

    drawn = jax.vmap(one)(keys)
    return Small(drawn[:, :n], drawn[:, n : 2 * n], drawn[:, 2 * n :])


def head(public: Keys, small: Small) -> Int32[Array, "10 b n"]:
    """c1: the part of a ciphertext that is common to its coordinates."""
    product = lax.map(lambda digit: _exact(small.e1, digit.astype(jnp.float32)), public.a)
    return settle(_plus_p_times(product.astype(jnp.int32), small.e2.astype(jnp.int32)))


def body(public: Keys, small: Small, messages: Wide) -> Int32[Array, "10 b l"]:
    """c2: a number mod q for each coordinate."""
    product = lax.map(lambda digit: _exact(small.e1, digit.astype(jnp.float32)), public.p)
    masked = _plus_p_times(product.astype(jnp.int32), small.e3.astype(jnp.int32))
    return settle(masked + message_digits(messages))


def encrypt(
    parameters: Parameters, public: Keys, keys: UInt32[Array, "b 8"], messages: Wide
) -> Ciphertexts:
    """Encrypts messages [b, l, 2], |m| <= (p - 1) / 2; each needs a fresh ChaCha key in `keys`."""
    small = draw(parameters, keys, public.p.shape[-1])
    return Ciphertexts(head(public, small), body(public, small, messages))


def total(ciphertexts: Ciphertexts) -> Ciphertexts:
    """The sum over the batch's first axis, of fewer than 2^22 ciphertexts."""
    return Ciphertexts(*(settle(jnp.sum(part, axis=1)) for part in ciphertexts))


def decrypt(keys: Keys, ciphertexts: Ciphertexts) -> Wide:
    """The messages [*batch, l, 2]."""
    c1 = balanced(ciphertexts.c1)
    product = lax.map(lambda digit: _exact(digit.astype(jnp.float32), keys.secret), c1)
    return plaintext(settle(product.astype(jnp.int32) + ciphertexts.c2))


def wide(values: Int32[Array, " *shape"]) -> UInt32[Array, "*shape 2"]:
    """32-bit numbers as messages."""
    limbs = jnp.stack([values, values >> 31], axis=-1)
    return lax.bitcast_convert_type(limbs, jnp.uint32)


def message_digits(messages: Wide) -> Int32[Array, "10 *batch l"]:
    """The digits of a signed message mod q, canonical except for the last one."""
    octet = jnp.uint32(255)
    digits = [messages[..., 0] >> jnp.uint32(8 * i) & octet for i in range(4)]
    digits += [messages[..., 1] >> jnp.uint32(8 * i) & octet for i in range(4)]
    sign = jnp.where(messages[..., 1] >> jnp.uint32(31) == 1, octet, jnp.uint32(0))
    return jnp.stack([*digits, sign, sign]).astype(jnp.int32)


def plaintext(digits: Int32[Array, "10 *batch l"]) -> Wide:
    """A number mod q, lifted to (-q/2, q/2), reduced mod p, lifted to (-p/2, p/2).

    Since 2^48 = -1 mod p, low + 2^48 high with 0 <= low < 2^48 reduces to low - high.
    """
    unsigned = digits.astype(jnp.uint32)

    def joined(parts: Array) -> Array:
        out = parts[0]
        for i, part in enumerate(parts[1:], start=1):
            out = out | part << jnp.uint32(8 * i)
        return out

    low, middle = joined(unsigned[:4]), joined(unsigned[4:6])
    high = joined(unsigned[6:])  # 29 bits, signed
    negative = high >> jnp.uint32(Q_BITS - P_BITS - 1) == 1
    high = jnp.where(negative, high | jnp.uint32(0xE0000000), high)
    above = jnp.where(negative, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))
    low, middle = _less((low, middle), (high, above))
    signed = lax.bitcast_convert_type(middle, jnp.int32)
    half = 1 << (P_BITS - 33)
    large = (signed > half) | ((signed == half) & (low > 0))
    reduced = _less((low, middle), (jnp.ones_like(low), jnp.full_like(low, 1 << (P_BITS - 32))))
    pairs = zip(reduced, (low, middle), strict=True)
    return jnp.stack([jnp.where(large, a, b) for a, b in pairs], axis=-1)


def _less(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """first - second of 64-bit numbers in two limbs."""
    low = first[0] - second[0]
    borrow = (first[0] < second[0]).astype(jnp.uint32)
    return low, first[1] - second[1] - borrow


# How many ciphertexts may be added


def headroom(largest: int, parameters: Parameters = PHONG, coordinates: int = 1 << 20) -> int:
    """How many ciphertexts of messages |m| <= `largest` may be added.

    Their sum stays within (p - 1) / 2 and their noise below q / (2 p), except with probability
    2^-40 over all coordinates.

    Small numbers are subgaussian with the Gaussian's variance parameter v = s^2 / (2 pi). So the 2n
    squares of a key's column sum to at most v (2n + 2 sqrt(2n x) + 2x) except with probability
    e^-x, as for chi-square. Given that, the noise of K ciphertexts is subgaussian with variance
    K v (squares + 1). Each of the two steps may fail with half of the probability.
    """
    by_message = ((P - 1) // 2) // max(largest, 1)
    x = (_FAILURE_BITS + 1) * math.log(2) + math.log(2 * coordinates)
    degrees = 2 * parameters.dimension
    variance = parameters.width**2 / (2 * math.pi)
    squares = variance * (degrees + 2 * math.sqrt(degrees * x) + 2 * x)
    room = 2 ** (Q_BITS - P_BITS - 1) - 2  # minus what p's last bit and the message need
    return min(by_message, int(room**2 / (2 * x * variance * (squares + 1))))


def check_additions(count: int, largest: int, parameters: Parameters = PHONG) -> None:
    """Raises `ConfigError` if the sum of `count` ciphertexts of |m| <= `largest` could wrap."""
    most = headroom(largest, parameters)
    if count > most:
        remedy = f"at most {most} ciphertexts of messages up to {largest} add up exactly"
        raise ConfigError("additions", count, remedy)
