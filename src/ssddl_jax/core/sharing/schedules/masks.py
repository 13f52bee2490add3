"""Masks: signed sums of a slot's shares, and how the wide ring keeps their carries."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

from ssddl_jax.core.sharing.base import Scheme

_FEW = 1 << 15  # with fewer partners, signed sums of halves stay below 2^31


class Masks(NamedTuple):
    """How a schedule computes the masks, the signed sums of each slot's shares."""

    each: Callable[..., Array]  # (attempt, graph, source of keys) -> u32 [n, W]
    sums: Callable[..., Array]  # (attempt, graph, source, weights u32 [sums, n]) -> u32 [sums, W]


def pieces_of(scheme: Scheme) -> int:
    """The number of pieces of every share that are summed, so that no carry is lost.

    See `pair_tiles.parts_of`.
    """
    if scheme.ring.limbs == 1:
        return 1
    return 2 if scheme.neighbours < _FEW else 4


def settle(sums: UInt32[Array, "n pieces W"]) -> UInt32[Array, "n W"]:
    """Wide words from signed sums of whole limbs and of their upper halves or bytes, all mod 2^32.

    Let P_1, P_2, ... be the sums of the upper pieces, of b bits each. The sum of the lowest pieces
    is P_0 = whole - 2^b P_1 - 2^2b P_2 - ... All P_i are signed and below 2^31 in magnitude: halves
    for fewer than 2^15 partners, bytes for fewer than 2^23. The carry out of a low limb is
    floor((P_0 + 2^b P_1 + ...) / 2^32), computed piece by piece.
    """
    whole, bits = sums[:, 0], 32 // sums.shape[1]
    upper = [sums[:, i] for i in range(1, sums.shape[1])]
    lowest = whole
    for i, piece in enumerate(upper):
        lowest = lowest - (piece << jnp.uint32(bits * (i + 1)))
    carry, *rest = (lax.bitcast_convert_type(piece, jnp.int32) for piece in (lowest, *upper))
    for piece in rest:
        carry = piece + (carry >> bits)
    carry = carry >> bits
    half = whole.shape[-1] // 2
    carried = lax.bitcast_convert_type(carry[..., :half], jnp.uint32)
    return jnp.concatenate([whole[..., :half], whole[..., half:] + carried], axis=-1)
