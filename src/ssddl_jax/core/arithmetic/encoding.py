"""Converts updates to message words and back (docs/protocol.md, sections 3.2 to 3.4).

Encoding clips, scales by 2^f, rounds to int32, multiplies by the weight, appends the weight word
and reduces into the ring. Decoding lifts the aggregate and divides by 2^f and by its weight word.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float32, UInt32

from ssddl_jax.core.arithmetic.reductions import sum_together
from ssddl_jax.core.arithmetic.rings import RINGS, split


class Encoding(NamedTuple):
    """The static parameters of the encoding: clip c, fraction bits f, and the ring."""

    clip: float
    fraction_bits: int
    ring_bits: int = 32

    def words(self, dimension: int) -> int:
        """W, the number of words in a message for `dimension` coordinates."""
        return (dimension + 1) * RINGS[self.ring_bits].limbs


class Encoded(NamedTuple):
    """Messages of m participants. The row of a non-finite update is zeros."""

    words: UInt32[Array, "m W"]
    finite: Bool[Array, " m"]
    clipped: UInt32[Array, " m"]  # coordinates that the clip changed


class EncodedPieces(NamedTuple):
    """The same, still in pieces: those of the update in order, then the weight word."""

    words: tuple[UInt32[Array, "m ..."], ...]
    finite: Bool[Array, " m"]
    clipped: UInt32[Array, " m"]


def encode_rows(
    updates: Float32[Array, "m d"],
    weights: UInt32[Array, " m"],
    encoding: Encoding,
    noise: Float32[Array, "m d"] | None = None,
) -> Encoded:
    """Encodes m updates. With `noise` in [0, 1), rounding is stochastic."""
    words, finite, clipped = encode_pieces((updates,), weights, encoding, noise)
    return Encoded(joined(words, encoding), finite, clipped)


def encode_pieces(
    updates: Sequence[Float32[Array, "m ..."]],
    weights: UInt32[Array, " m"],
    encoding: Encoding,
    noise: Float32[Array, "m d"] | None = None,
) -> EncodedPieces:
    """Encodes m updates that come in pieces, such as the leaves of a model.

    With `noise`, or in the wide ring, each piece must be [m, columns]. Pieces are not joined:
    inside a loop XLA's CPU compiler would copy the joined array slowly, which takes two to four
    times as long as the encoding itself.
    """
    clip = jnp.float32(encoding.clip)
    ring = RINGS[encoding.ring_bits]
    broken = beyond = jnp.zeros_like(weights)
    for piece in updates:
        tests = [~jnp.isfinite(piece), jnp.abs(piece) > clip]
        # One reduce for both: XLA's CPU compiler vectorises it, but neither of the two alone.
        rest = tuple(range(1, piece.ndim))
        more = sum_together([test.astype(jnp.uint32) for test in tests], rest)
        broken, beyond = broken + more[0], beyond + more[1]
    finite = broken == 0
    weights = jnp.where(finite, weights, jnp.uint32(0))
    words, at = [], 0
    for piece in updates:
        safe = jnp.where(along(finite, piece), piece, jnp.float32(0))
        scaled = jnp.clip(safe, -clip, clip) * jnp.float32(2.0**encoding.fraction_bits)
        if noise is None:
            rounded = jnp.rint(scaled)
        else:
            below = jnp.floor(scaled)
            drawn = noise[:, at : at + piece.shape[1]]
            rounded = below + (drawn < scaled - below).astype(jnp.float32)
        weight = along(weights, piece)[..., 0]
        words.append(ring.encode(rounded.astype(jnp.int32), weight))
        at += piece.shape[1]
    last = jnp.stack([weights, *[jnp.zeros_like(weights)] * (ring.limbs - 1)], axis=1)
    return EncodedPieces((*words, last), finite, jnp.where(finite, beyond, jnp.uint32(0)))


def along(values: Array, piece: Array) -> Array:
    """Values [m] reshaped to broadcast against a piece [m, ...]."""
    return values.reshape(-1, *(1,) * (piece.ndim - 1))


def joined(words: Sequence[UInt32[Array, "*m _"]], encoding: Encoding) -> UInt32[Array, "*m W"]:
    """Joins pieces into messages: all low limbs, then (wide ring) all high limbs.

    Sums of messages are joined the same way.
    """
    if encoding.ring_bits == 32:
        return jnp.concatenate(words, axis=-1)
    lows, highs = zip(*map(split, words), strict=True)
    return jnp.concatenate([*lows, *highs], axis=-1)


def decode_words(
    aggregate: UInt32[Array, " W"], encoding: Encoding
) -> tuple[Float32[Array, " d"], UInt32[Array, " limbs"]]:
    """Decodes an aggregate to its weighted mean and its weight word (limbs, low first).

    If the weight word is zero, so is the mean; `possible_weight` says whether the word is valid.
    """
    ring = RINGS[encoding.ring_bits]
    values = ring.lift(aggregate)
    weight = weight_word(aggregate, encoding)
    scale = jnp.float32(2.0**-encoding.fraction_bits)
    # The rounding must not depend on the program around it. The barrier keeps XLA from replacing
    # the division by a product with the reciprocal. The branch keeps XLA from fusing the division
    # with the addition that follows. Both once depended on the number of devices.
    divisor = lax.optimization_barrier(jnp.full_like(values[:-1], values[-1]))
    mean = lax.cond(
        values[-1] > 0,
        lambda: values[:-1] * scale / divisor,
        lambda: jnp.zeros_like(values[:-1]),
    )
    return mean, weight


def weight_word(aggregate: UInt32[Array, " W"], encoding: Encoding) -> UInt32[Array, " limbs"]:
    """The weight word of an aggregate: its last word, or the last of both limbs (section 3.4)."""
    if encoding.ring_bits == 32:
        return aggregate[-1:]
    low, high = split(aggregate)
    return jnp.stack([low[-1], high[-1]])


def possible_weight(
    weight: UInt32[Array, " limbs"], count: UInt32[Array, ""], uniform: bool, most: int
) -> Bool[Array, ""]:
    """Whether a weight word can be a sum of weights. If it cannot, the masks did not cancel.

    Uniform weights sum to exactly `count`, the number of updates in the aggregate. Otherwise the
    sum is in 1..most, with most = n m_max.
    """
    low = weight[0]
    high = weight[1] if weight.shape[0] == 2 else jnp.uint32(0)
    if uniform:
        return (low == count) & (high == 0)
    top, bottom = jnp.uint32(most >> 32), jnp.uint32(most & 0xFFFFFFFF)
    at_most = (high < top) | ((high == top) & (low <= bottom))
    return at_most & ((low > 0) | (high > 0))
