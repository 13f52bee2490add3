"""The schedules, as records of the steps in which a platform computes and adds PRG words.

`cpu` takes short steps whose buffers stay in a core's cache (`tiled`, `kernels`). `gpu` and `tpu`
take few long steps whose sums stay in registers (`by_holder`, `key_sums`). All give the same words.
A scheme names its schedule, and its code asks `schedule_of(scheme)`. Every schedule runs on every
platform, so tests can compare them on a CPU alone. `core/devices.py` holds what a schedule changes
outside the sharing layer (`Traits`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, UInt32

from ssddl_jax.core.arithmetic import field
from ssddl_jax.core.arithmetic.chacha import PRG, rolled
from ssddl_jax.core.arithmetic.field import MERSENNE31, P
from ssddl_jax.core.arithmetic.key_sums import (
    DRAWN_HALVES,
    FIELD_HALVES,
    HALVES,
    WEIGHTED,
    WEIGHTED_TWICE,
    Terms,
    key_sums,
)
from ssddl_jax.core.arithmetic.rings import MOST, from_halves
from ssddl_jax.core.devices import platform_of
from ssddl_jax.core.sharing.base import Scheme
from ssddl_jax.core.sharing.partners import KeysOf
from ssddl_jax.core.sharing.schedules import by_holder, kernels, tiled
from ssddl_jax.core.sharing.schedules.masks import Masks
from ssddl_jax.core.tiling import tile_count

_KEYS_OF_A_ROW = 32  # gives enough rows to fill a chip, and few enough sums to add afterwards
_HELD = 1 << 28  # bytes of the rows' sums
_REPLACED = 1 << 18  # blocks whose rejected words are replaced together


class Schedule(NamedTuple):
    """How a schedule computes and adds words.

    Sums are over K <= `keys_at_once(scheme, items)` keys, u32 [K, 8]; `counted` bool [K] selects
    those that count.
    """

    masks: Callable[[Scheme, KeysOf], Masks]
    keeps_rows: Callable[[Scheme], bool]  # the masks need all messages at once
    mask_bytes: Callable[[Scheme], float]  # of masks and keys: all of a CPU, or one accelerator
    blocks_made: Callable[[Scheme], int]  # PRG blocks of a round's masks, with padding
    keys_at_once: Callable[[Scheme, int], int]  # (scheme, length of the list) -> K
    # (keys, weights u32 [K]) -> ring sum of weight * word, u32 [W]; in the wide ring 0 or 1 each
    key_sums: Callable[[Scheme, Array, Array], Array]
    # (keys, weights, first block, count) -> the same in Z_2^32 by lanes, u32 [16, count]
    key_lanes: Callable[[Scheme, Array, Array, Array, int], Array]
    # (keys, counted, factors u32 [K]) -> ring sum, and sum of factor * word, word by word
    drawn_sums: Callable[[Scheme, Array, Array, Array], tuple[Array, Array]]
    rows: Callable[[Scheme, Array, Array], Array]  # (keys, factor) -> factor * words, u32 [K, W]
    # (keys, members, first block) -> sums of uniform field elements, u32 [16, count]
    coefficients: Callable[[Scheme, Array, Array, Array, int], Array]
    coefficient_blocks: Callable[[Scheme], int]  # blocks of a message at a time


def schedule_of(scheme: Scheme) -> Schedule:
    """The schedule of a scheme."""
    return SCHEDULES[scheme.schedule]


def _cpu_key_sums(
    scheme: Scheme, keys: UInt32[Array, "K 8"], weights: UInt32[Array, " K"]
) -> UInt32[Array, " W"]:
    return kernels.key_sums(scheme.prg, scheme.ring, scheme.width, keys, weights)


def _cpu_key_lanes(
    scheme: Scheme, keys: Array, weights: Array, first: Array, count: int
) -> UInt32[Array, "16 count"]:
    return kernels.key_lanes(scheme.prg, keys, weights, first, count)


def _cpu_drawn_sums(
    scheme: Scheme,
    keys: UInt32[Array, "K 8"],
    counted: Bool[Array, " K"],
    factors: UInt32[Array, " K"],
) -> tuple[UInt32[Array, " W"], UInt32[Array, " W"]]:
    return kernels.drawn_sums(scheme.prg, scheme.ring, scheme.width, keys, counted, factors)


def _cpu_rows(
    scheme: Scheme, keys: UInt32[Array, "K 8"], factor: UInt32[Array, " K"]
) -> UInt32[Array, "K W"]:
    words = kernels.written(scheme.prg, list(keys.T), factor, jnp.uint32(0), scheme.num_blocks)
    lanes = jnp.swapaxes(kernels.lanes_of(words), 0, 1)
    return lanes.reshape(keys.shape[0], -1)[:, : scheme.width]


def _cpu_coefficients(
    scheme: Scheme, keys: Array, members: Array, first: Array, count: int
) -> UInt32[Array, "16 count"]:
    return kernels.coefficient_sums(scheme.prg, keys, members, first, count)


def _summed(
    scheme: Scheme, terms: Terms, keys: UInt32[Array, "K 8"], *weights: UInt32[Array, " K"]
) -> list[UInt32[Array, " W"]]:
    """The sum of each term over all keys, as messages u32 [W]."""
    sums = _over_keys(scheme, terms, keys, weights, jnp.uint32(0), scheme.num_blocks)
    return [lanes.reshape(-1)[: scheme.width] for lanes in sums]


def _over_keys(
    scheme: Scheme,
    terms: Terms,
    keys: UInt32[Array, "K 8"],
    weights: tuple[UInt32[Array, " K"], ...],
    first: Array,
    count: int,
) -> UInt32[Array, "terms 16 count"]:
    """Arranges the keys in rows, sums along each row, then adds the rows' sums."""
    spare = -keys.shape[0] % min(_KEYS_OF_A_ROW, keys.shape[0])
    each = min(_KEYS_OF_A_ROW, keys.shape[0])
    in_rows = jnp.pad(keys, ((0, spare), (0, 0))).reshape(-1, each, 8)
    given = jnp.stack([jnp.pad(weight, (0, spare)).reshape(-1, each) for weight in weights])
    platform = platform_of(scheme.mesh)
    sums = key_sums(scheme.prg, terms, in_rows, given, first, count, platform=platform)
    return jnp.sum(sums, axis=0, dtype=jnp.uint32)


def _key_sums(
    scheme: Scheme, keys: UInt32[Array, "K 8"], weights: UInt32[Array, " K"]
) -> UInt32[Array, " W"]:
    if scheme.ring.limbs == 1:
        return _summed(scheme, WEIGHTED, keys, weights)[0]
    return from_halves(*_summed(scheme, HALVES, keys, weights))


def _key_lanes(
    scheme: Scheme, keys: Array, weights: Array, first: Array, count: int
) -> UInt32[Array, "16 count"]:
    return _over_keys(scheme, WEIGHTED, keys, (weights,), first, count)[0]


def _drawn_sums(
    scheme: Scheme,
    keys: UInt32[Array, "K 8"],
    counted: Bool[Array, " K"],
    factors: UInt32[Array, " K"],
) -> tuple[UInt32[Array, " W"], UInt32[Array, " W"]]:
    one = counted.astype(jnp.uint32)
    if scheme.ring.limbs == 1:
        total, digest = _summed(scheme, WEIGHTED_TWICE, keys, one, factors)
        return total, digest
    low, high, digest = _summed(scheme, DRAWN_HALVES, keys, one, factors)
    return from_halves(low, high), digest


def _rows(
    scheme: Scheme, keys: UInt32[Array, "K 8"], factor: UInt32[Array, " K"]
) -> UInt32[Array, "K W"]:
    words = key_sums(
        scheme.prg,
        WEIGHTED,
        keys[:, None],
        factor[None, :, None],
        0,
        scheme.num_blocks,
        platform=platform_of(scheme.mesh),
    )
    return words.reshape(keys.shape[0], -1)[:, : scheme.width]


def _keys_at_once(scheme: Scheme, items: int) -> int:
    """As many keys as fit in memory, spread evenly over the steps of all devices."""
    rows = max(1, _HELD // (128 * scheme.num_blocks))
    steps = tile_count(max(1, items), min(rows * _KEYS_OF_A_ROW, MOST), scheme.mesh.size)
    return -(-max(1, items) // steps)


def _coefficients(
    scheme: Scheme, keys: UInt32[Array, "n 8"], members: Bool[Array, " n"], first: Array, count: int
) -> UInt32[Array, "16 count"]:
    def few(
        prg: PRG, keys: Array, members: Array, first: Array, count: int
    ) -> UInt32[Array, "16 count"]:
        one = members.astype(jnp.uint32)
        low, high, rejected = _over_keys(scheme, FIELD_HALVES, keys, (one,), first, count)
        total = field.from_halves(low, high)
        return lax.cond(
            jnp.any(rejected > 0),
            lambda: MERSENNE31.add(total, _replacements(rolled(prg), keys, one, first, count)),
            lambda: total,
        )

    return kernels.coefficient_sums(scheme.prg, keys, members, first, count, few)


def _replacements(
    prg: PRG, keys: UInt32[Array, "n 8"], one: UInt32[Array, " n"], first: Array, count: int
) -> UInt32[Array, "16 count"]:
    """The field sum of the replacements for rejected words, several members at a time."""
    counter = first + jnp.arange(count, dtype=jnp.uint32)[None]

    def drawn(keys: Array, nonce_word: int) -> UInt32[Array, "16 m count"]:
        nonce = [jnp.full((1, 1), word, jnp.uint32) for word in (nonce_word, 0, 0)]
        block = prg.block([keys[:, i, None] for i in range(8)], counter, nonce)
        return (block if prg.in_memory else jnp.stack(block)) & jnp.uint32(P)

    def step(total: Array, members: tuple[Array, Array]) -> tuple[Array, None]:
        keys, counted = members
        zero, (a, b, c) = jnp.uint32(0), (drawn(keys, nonce) for nonce in range(3))
        c = jnp.where(c == jnp.uint32(P), zero, c)
        instead = jnp.where(a == jnp.uint32(P), jnp.where(b == jnp.uint32(P), c, b), zero)
        instead = instead * counted[None, :, None]
        halves = [instead & jnp.uint32(0xFFFF), instead >> jnp.uint32(16)]
        sums = [jnp.sum(half, axis=1, dtype=jnp.uint32) for half in halves]
        return MERSENNE31.add(total, field.from_halves(*sums)), None

    together = min(len(keys), max(1, _REPLACED // count))
    spare = -len(keys) % together
    grouped = jnp.pad(keys, ((0, spare), (0, 0))).reshape(-1, together, 8)
    counted = jnp.pad(one, (0, spare)).reshape(-1, together)
    total, _ = lax.scan(step, jnp.zeros((16, count), jnp.uint32), (grouped, counted))
    return total


CPU = Schedule(
    masks=tiled.pair_masks,
    keeps_rows=tiled.keeps_rows,
    mask_bytes=tiled.mask_bytes,
    blocks_made=tiled.blocks_made,
    keys_at_once=lambda scheme, items: min(64, items + -items % kernels.LANES),
    key_sums=_cpu_key_sums,
    key_lanes=_cpu_key_lanes,
    drawn_sums=_cpu_drawn_sums,
    rows=_cpu_rows,
    coefficients=_cpu_coefficients,
    coefficient_blocks=lambda scheme: 256,
)
_LONG = Schedule(
    masks=by_holder.pair_masks,
    keeps_rows=by_holder.keeps_rows,
    mask_bytes=by_holder.mask_bytes,
    blocks_made=by_holder.blocks_made,
    keys_at_once=_keys_at_once,
    key_sums=_key_sums,
    key_lanes=_key_lanes,
    drawn_sums=_drawn_sums,
    rows=_rows,
    coefficients=_coefficients,
    coefficient_blocks=lambda scheme: max(256, _HELD // (256 * scheme.size)),
)
SCHEDULES = {"cpu": CPU, "gpu": _LONG, "tpu": _LONG}
