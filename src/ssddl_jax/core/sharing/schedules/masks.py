"""Masks: signed sums of a slot's shares, and how the wide ring keeps their carries."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

from ssddl_jax.core.sharing.base import Scheme

_FEW = 1 << 15  # with fewer partners, signed sums of halves stay below 2^31
ROWS = 1 << 29  # bytes of messages that are kept rather than computed twice


class MaskSums(NamedTuple):
    """What masks add to the sums of the messages, and to the sampled messages.

    A mask adds to the limbs of a message: itself in the 32-bit ring; in the wide ring also the
    carry from the low into the high limb, which depends on the message.
    """

    total: UInt32[Array, " W"]  # ring sum of the alive slots' masks
    digest: UInt32[Array, " W"]  # sum of (2 s + 1) * what is added, over the alive slots
    sampled: UInt32[Array, "K W"]  # what is added to the messages of `Scheme.sampled`


class Masks(NamedTuple):
    """How a schedule computes the masks, the signed sums of each slot's shares."""

    each: Callable[..., UInt32[Array, "n W"]]  # (attempt, graph, source of keys)
    sums: Callable[..., MaskSums]  # (attempt, graph, source of keys, Again or None)


def pieces_of(scheme: Scheme) -> int:
    """The number of pieces of every share that are summed, so that no carry is lost.

    See `pair_tiles.parts_of`.
    """
    if scheme.ring.limbs == 1:
        return 1
    return 2 if scheme.neighbours < _FEW else 4


def rows_fit(scheme: Scheme) -> bool:
    """Whether all messages are few enough to keep."""
    return 4 * scheme.size * scheme.width <= ROWS


def carries(whole: UInt32[Array, " *shape"], upper: Sequence[Array]) -> UInt32[Array, " *shape"]:
    """What signed sums of whole words carry into the next limb, as signed words.

    `upper` are the sums of the words' upper halves or bytes, P_1, P_2, ..., of b bits each, all mod
    2^32. The sum of the lowest pieces is P_0 = whole - 2^b P_1 - 2^2b P_2 - ... All P_i are signed
    and below 2^31 in magnitude: halves for fewer than 2^15 partners, bytes for fewer than 2^23. The
    carry is floor((P_0 + 2^b P_1 + ...) / 2^32), computed piece by piece.
    """
    bits = 32 // (1 + len(upper))
    lowest = whole
    for i, piece in enumerate(upper):
        lowest = lowest - (piece << jnp.uint32(bits * (i + 1)))
    carry, *rest = (lax.bitcast_convert_type(piece, jnp.int32) for piece in (lowest, *upper))
    for piece in rest:
        carry = piece + (carry >> bits)
    return lax.bitcast_convert_type(carry >> bits, jnp.uint32)


def settle(sums: UInt32[Array, "n pieces W"]) -> UInt32[Array, "n W"]:
    """Wide words from signed sums of whole limbs and of their upper halves or bytes."""
    whole = sums[:, 0]
    carried = carries(whole, [sums[:, i] for i in range(1, sums.shape[1])])
    return carried_up(whole, carried)


def carried_up(
    words: UInt32[Array, "*n W"], carried: UInt32[Array, "*n W"]
) -> UInt32[Array, "*n W"]:
    """Adds to the high limbs what the low limbs carry."""
    half = words.shape[-1] // 2
    high = words[..., half:] + carried[..., :half]
    return jnp.concatenate([words[..., :half], high], axis=-1)
