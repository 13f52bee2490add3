"""Updates to message words and back (docs/protocol.md, sections 3.2 to 3.4).

encode: clip, scale by 2^f, round to int32, multiply by the weight, append the weight word, reduce
into the ring. decode: lift the aggregate, divide by 2^f and by its own weight word.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float32, UInt32

from ssddl_jax.core.arithmetic.reductions import sum_together
from ssddl_jax.core.arithmetic.rings import RINGS, split


class Encoding(NamedTuple):
    """The static choices of the encoding."""

    clip: float
    fraction_bits: int
    ring_bits: int = 32

    def words(self, dimension: int) -> int:
        """W, the message words of an update of `dimension` coordinates."""
        return (dimension + 1) * RINGS[self.ring_bits].limbs


class Encoded(NamedTuple):
    """Messages of some participants; the rows of non-finite updates are zeros."""

    words: UInt32[Array, "m W"]
    finite: Bool[Array, " m"]
    clipped: UInt32[Array, " m"]  # coordinates that the clip changed


class EncodedPieces(NamedTuple):
    """The same before `joined`: word pieces in the order of the updates', then the weight word."""

    words: tuple[UInt32[Array, "m ..."], ...]
    finite: Bool[Array, " m"]
    clipped: UInt32[Array, " m"]


def encode_rows(
    updates: Float32[Array, "m d"],
    weights: UInt32[Array, " m"],
    encoding: Encoding,
    noise: Float32[Array, "m d"] | None = None,
) -> Encoded:
    """Messages of m updates; `noise` in [0, 1) makes the rounding stochastic."""
    words, finite, clipped = encode_pieces((updates,), weights, encoding, noise)
    return Encoded(joined(words, encoding), finite, clipped)


def encode_pieces(
    updates: Sequence[Float32[Array, "m ..."]],
    weights: UInt32[Array, " m"],
    encoding: Encoding,
    noise: Float32[Array, "m d"] | None = None,
) -> EncodedPieces:
    """Messages of m updates that come in pieces, such as a model's leaves; with `noise`, or in the
    wide ring, pieces have one axis besides.

    They stay apart: XLA's CPU compiler copies slowly what is joined inside a loop, two to four
    times the whole encoding.
    """
    clip = jnp.float32(encoding.clip)
    ring = RINGS[encoding.ring_bits]
    broken = beyond = jnp.zeros_like(weights)
    for piece in updates:
        tests = [~jnp.isfinite(piece), jnp.abs(piece) > clip]
        # In one reduce: XLA's CPU compiler vectorises that, and neither of the two alone.
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
    """Values [m] for a piece [m, ...], to be broadcast."""
    return values.reshape(-1, *(1,) * (piece.ndim - 1))


def joined(words: Sequence[UInt32[Array, "*m _"]], encoding: Encoding) -> UInt32[Array, "*m W"]:
    """Messages, or their sums, from pieces: all low limbs, then (wide ring) all high limbs."""
    if encoding.ring_bits == 32:
        return jnp.concatenate(words, axis=-1)
    lows, highs = zip(*map(split, words), strict=True)
    return jnp.concatenate([*lows, *highs], axis=-1)


def decode_words(
    aggregate: UInt32[Array, " W"], encoding: Encoding
) -> tuple[Float32[Array, " d"], UInt32[Array, " limbs"]]:
    """The weighted mean that an aggregate holds, and its weight word (limbs, low first).

    A zero weight word gives a mean of zeros: whether it is possible is `possible_weight`'s to say.
    """
    ring = RINGS[encoding.ring_bits]
    values = ring.lift(aggregate)
    weight = weight_word(aggregate, encoding)
    scale = jnp.float32(2.0**-encoding.fraction_bits)
    # Rounded in one way only, whatever the program around it: the barrier keeps XLA from turning
    # the division by one number into a product with its reciprocal, the branch from fusing it with
    # what is added next. Either depended on the number of devices.
    divisor = lax.optimization_barrier(jnp.full_like(values[:-1], values[-1]))
    mean = lax.cond(
        values[-1] > 0,
        lambda: values[:-1] * scale / divisor,
        lambda: jnp.zeros_like(values[:-1]),
    )
    return mean, weight


def weight_word(aggregate: UInt32[Array, " W"], encoding: Encoding) -> UInt32[Array, " limbs"]:
    """docs/protocol.md, section 3.4: the last word, or the last of both limbs."""
    if encoding.ring_bits == 32:
        return aggregate[-1:]
    low, high = split(aggregate)
    return jnp.stack([low[-1], high[-1]])


def possible_weight(
    weight: UInt32[Array, " limbs"], count: UInt32[Array, ""], uniform: bool, most: int
) -> Bool[Array, ""]:
    """Whether a weight word can be a sum of weights: if not, masks did not cancel.

    Uniform: exactly `count`, the updates in the aggregate. Weighted: 1..most, most = n m_max.
    """
    low = weight[0]
    high = weight[1] if weight.shape[0] == 2 else jnp.uint32(0)
    if uniform:
        return (low == count) & (high == 0)
    top, bottom = jnp.uint32(most >> 32), jnp.uint32(most & 0xFFFFFFFF)
    at_most = (high < top) | ((high == top) & (low <= bottom))
    return at_most & ((low > 0) | (high > 0))
