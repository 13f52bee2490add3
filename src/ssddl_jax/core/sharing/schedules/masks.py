"""Masks: the signed sum of a slot's shares, and what is summed so that no carry is lost."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

from ssddl_jax.core.sharing.base import Scheme

_FEW = 1 << 15  # partners: signed sums of so many halves, less one, stay below 2^31


class Masks(NamedTuple):
    """A scheme's masks: the sums of a slot's shares, signed."""

    each: Callable[..., Array]  # (attempt, ring, source of keys) -> u32 [n, W]
    sums: Callable[..., Array]  # (attempt, ring, source, weights u32 [sums, n]) -> u32 [sums, W]


def pieces_of(scheme: Scheme) -> int:
    """What is added of every share (`tiles.parts_of`): enough for every carry."""
    if scheme.ring.limbs == 1:
        return 1
    return 2 if scheme.neighbours < _FEW else 4


def settle(sums: UInt32[Array, "n pieces W"]) -> UInt32[Array, "n W"]:
    """Wide words from signed sums of whole limbs and of their upper halves or bytes, mod 2^32 each.

    With P_1, P_2, ... the sums of the upper pieces, each of b bits, that of the lowest is
    P_0 = whole - 2^b P_1 - 2^2b P_2 - ...; all are signed and below 2^31, halves for fewer than
    2^15 partners, bytes for fewer than 2^23. The carry out of a low limb is
    floor((P_0 + 2^b P_1 + ...) / 2^32), taken piece by piece.
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
