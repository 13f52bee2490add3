"""What is added up from the masks of a chunk of blocks, as soon as they are whole.

Only sums leave a chunk: of the masks, of the masks times the digest's factors, and the masks of the
sampled slots. In the wide ring, words and what they carry are summed apart, for a low limb and its
high limb lie in different lanes and chunks. `joined` puts them together.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Int32, UInt32

from ssddl_jax.core.arithmetic.reductions import sum_together
from ssddl_jax.core.sharing.base import Scheme
from ssddl_jax.core.sharing.schedules.kernels import lanes_of
from ssddl_jax.core.sharing.schedules.masks import MaskSums, carried_up, carries, pieces_of
from ssddl_jax.core.sharing.schedules.pair_tiles import Pieces

_FEW_ROWS = 16  # so many are added in an unrolled loop


class Leaving(NamedTuple):
    """T slots whose masks are whole, at one step or stacked over steps."""

    slots: Int32[Array, "*steps T"]
    alive: UInt32[Array, "*steps T"]  # 1, or 0 for rows that must not be added
    factors: UInt32[Array, "*steps T"]  # of the uploads digest
    messages: UInt32[Array, "*steps T 16 count"] | None = None  # the wide ring's, for its carries


class Added(NamedTuple):
    """Running sums of one chunk, by lane and block."""

    sums: UInt32[Array, "2 16 count"]  # total and digest: one array, so one exchange of devices
    sampled: UInt32[Array, "K 16 count"]


Running = tuple[Added, ...]  # of words; in the wide ring also of what they carry


def begin(scheme: Scheme, count: int) -> Running:
    """Zeros."""
    zeros = jnp.zeros((2, 16, count), jnp.uint32)
    each = jnp.zeros((len(scheme.sampled), 16, count), jnp.uint32)
    return (Added(zeros, each),) * scheme.ring.limbs


def add_rows(scheme: Scheme, running: Running, leaving: Leaving, rows: Pieces) -> Running:
    """Adds the masks of some slots: 16 arrays u32 [T, count] for each piece, or [16, T, count]."""
    if scheme.ring.limbs == 1:
        (words,) = running
        both = _weighted(rows, jnp.stack([leaving.alive, leaving.factors]))
        return (Added(words.sums + both, _chosen(scheme, words.sampled, leaving, rows)),)
    words, carried = running
    assert leaving.messages is not None
    whole, upper = _split(scheme, rows)
    out = carries(whole, upper)  # of the mask alone
    own = jnp.swapaxes(leaving.messages, 0, 1)
    into = out + (own + whole < own).astype(jnp.uint32)  # of the upload
    total, over = words.sums[0], carried.sums[0]
    for t in range(whole.shape[1]):
        before = total
        total = total + leaving.alive[t] * whole[:, t]
        over = over + leaving.alive[t] * out[:, t] + (total < before).astype(jnp.uint32)
    factors = leaving.factors[None, :, None]
    digest = words.sums[1] + jnp.sum(factors * whole, axis=1, dtype=jnp.uint32)
    carried_digest = carried.sums[1] + jnp.sum(factors * into, axis=1, dtype=jnp.uint32)
    return (
        Added(jnp.stack([total, digest]), _chosen(scheme, words.sampled, leaving, (whole,))),
        Added(
            jnp.stack([over, carried_digest]), _chosen(scheme, carried.sampled, leaving, (into,))
        ),
    )


def joined(scheme: Scheme, running: Running) -> MaskSums:
    """The sums of all chunks, [devices, ...], as messages u32 [W]."""
    sums = []
    for added in running:
        total, digest = in_order(scheme, added.sums)
        sums.append(MaskSums(total, digest, message(scheme, added.sampled)))
    return sums[0] if len(sums) == 1 else MaskSums(*map(carried_up, *sums))


def message(scheme: Scheme, lanes: UInt32[Array, "c *lead 16 count"]) -> UInt32[Array, "*lead W"]:
    """Words from their lanes in every chunk."""
    chunks, *lead, _, count = lanes.shape
    row = jnp.moveaxis(lanes, 0, -2).reshape(*lead, 16, chunks * count)
    blocks = scheme.num_blocks
    return row[..., :blocks].reshape(*lead, 16 * blocks)[..., : scheme.width]


def in_order(
    scheme: Scheme, lanes: UInt32[Array, "devices sums 16 count"]
) -> tuple[UInt32[Array, " W"], ...]:
    """Messages from the lanes of their blocks; those of the last device may be padded.

    XLA's CPU compiler makes one loop over the words of it, with a division for each. So runs of
    words are copied. The padding of a lane's last run is overwritten by the next lane.
    """
    devices, sums, _, count = lanes.shape
    blocks = scheme.num_blocks

    def copied() -> Array:
        def copy(words: Array, lane: Array) -> tuple[Array, None]:
            for device in range(devices):
                run = lax.dynamic_index_in_dim(lanes[device], lane, 1, keepdims=False)
                at = (jnp.int32(0), lane * blocks + device * count)
                words = lax.dynamic_update_slice(words, run, at)
            return words, None

        words = jnp.zeros((sums, 16 * blocks + devices * count), jnp.uint32)
        return lax.scan(copy, words, jnp.arange(16, dtype=jnp.int32))[0][:, : scheme.width]

    return tuple(lax.platform_dependent(cpu=copied, default=lambda: message(scheme, lanes)))


def lanes(scheme: Scheme, rows: UInt32[Array, "L W"], padded: int) -> UInt32[Array, "L 16 padded"]:
    """The lanes of messages, padded to so many blocks."""
    blocks = scheme.num_blocks
    rows = jnp.pad(rows, ((0, 0), (0, 16 * blocks - scheme.width))).reshape(-1, 16, blocks)
    return jnp.pad(rows, ((0, 0), (0, 0), (0, padded - blocks)))


def _split(
    scheme: Scheme, rows: Pieces
) -> tuple[UInt32[Array, "16 T count"], list[UInt32[Array, "16 T count"]]]:
    """The sums of whole words, and of their upper pieces."""
    each = len(rows) // pieces_of(scheme)
    whole, *upper = (lanes_of(rows[i : i + each]) for i in range(0, len(rows), each))
    return whole, upper


def _weighted(rows: Pieces, factors: UInt32[Array, "sums T"]) -> UInt32[Array, "sums 16 count"]:
    """Sums of factor * row for every lane, in one loop: a loop each would compile more slowly."""
    if rows[0].shape[-2] <= _FEW_ROWS and rows[0].ndim == 2:
        return _weighted_few(rows, factors)
    products = [
        row * weights.reshape(*([1] * (row.ndim - 2)), -1, 1) for weights in factors for row in rows
    ]
    sums = sum_together(products, (products[0].ndim - 2,))
    return jnp.stack(sums).reshape(len(factors), 16, rows[0].shape[-1])


def _weighted_few(rows: Pieces, factors: UInt32[Array, "sums T"]) -> UInt32[Array, "sums 16 count"]:
    """The same with the rows added one by one. The axis of two makes it one loop over the blocks,
    which is vectorised: see `kernels`.
    """
    height, count = rows[0].shape
    once = jnp.uint32(1) - lax.broadcasted_iota(jnp.uint32, (count, 2), 1)
    sums = []
    for weights in factors:
        for row in rows:
            terms = [row[i] * weights[i] for i in range(height)]
            total = functools.reduce(jnp.add, terms)
            sums.append(lax.broadcast_in_dim(total, (count, 2), (0,)) * once)
    added = sum_together(sums, (1,))
    return jnp.stack(added).reshape(len(factors), 16, count)


def _chosen(scheme: Scheme, sampled: Array, leaving: Leaving, rows: Pieces) -> Array:
    """Adds the rows of sampled slots. A loop of no or one step: nearly all rows are of others."""
    if not scheme.sampled:
        return sampled
    wanted = jnp.array(scheme.sampled, jnp.int32)[:, None] == leaving.slots[None]
    wanted = wanted.astype(jnp.uint32) * leaving.alive[None]

    def add(_: Array, so_far: Array) -> Array:
        picked = wanted[:, None, :, None] * lanes_of(rows)[None]
        picked = jnp.sum(picked, axis=2, dtype=jnp.uint32)
        return so_far + picked

    some = jnp.any(wanted > 0).astype(jnp.int32)
    return lax.fori_loop(jnp.int32(0), some, add, sampled)
