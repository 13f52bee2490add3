"""Masks on a CPU: every share is computed once, in tiles that stay in a core's cache.

The devices divide up the chunks of the message. `geometries` defines the tiles, and `pair_tiles`
adds them.

A band may be too long to hold all its keys. Then it is cut into *stretches* of steps: keys exist
for one stretch at a time, and each chunk's window of masks is kept from one stretch to the next.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Int32, UInt32

from ssddl_jax.core.devices import AXIS
from ssddl_jax.core.exchange import rows_apart
from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import Again, Attempt, Scheme, slot_factors
from ssddl_jax.core.sharing.partners import KeysOf
from ssddl_jax.core.sharing.schedules import geometries, mask_sums, pair_tiles
from ssddl_jax.core.sharing.schedules.edges import Sharers, edges_at, slots_at
from ssddl_jax.core.sharing.schedules.kernels import lanes_of
from ssddl_jax.core.sharing.schedules.mask_sums import Leaving
from ssddl_jax.core.sharing.schedules.masks import (
    Masks,
    MaskSums,
    pieces_of,
    rows_fit,
    settle,
)
from ssddl_jax.core.tiling import scan_tiles

_FEW = 16  # members whose pairs, all in one buffer of masks, compile faster than a band
_TILE_BYTES = 1 << 19  # of shares at a time, which stay in a core's cache
HELD = 1 << 27  # bytes of keys, and in the wide ring of messages, of a stretch
_PER_EDGE = 190  # bytes of a share's key and sign and what they are made from; measured


def geometry_of(scheme: Scheme) -> geometries.Geometry:
    """The cheapest geometry for this graph and size."""
    return _band(scheme) or _whole(scheme)


def _paired(scheme: Scheme) -> bool:
    return scheme.shares == "paired"


def _whole(scheme: Scheme) -> geometries.Geometry:
    """The geometry of all pairs."""
    return geometries.circle(scheme.size) if _paired(scheme) else geometries.dense(scheme.size)


def _band(scheme: Scheme) -> geometries.Geometry | None:
    """The band, if it is the cheaper geometry."""
    if scheme.complete or scheme.size <= _FEW:
        return None
    rolling = geometries.band(scheme.size, scheme.neighbours // 2, both=not _paired(scheme))
    return rolling if rolling.shares < _whole(scheme).shares else None


def keeps_rows(scheme: Scheme) -> bool:
    """Whether all messages are kept: in the wide ring, if they are few or the graph is dense."""
    return scheme.ring.limbs == 2 and (rows_fit(scheme) or _band(scheme) is None)


def mask_bytes(scheme: Scheme) -> float:
    """Bytes of a stretch's edges and messages on all devices, and of the masks that are kept."""
    stream = stream_of(scheme, whole=keeps_rows(scheme))
    geometry, again = stream.geometry, scheme.ring.limbs == 2 and not keeps_rows(scheme)
    edges = _PER_EDGE * geometry.shares
    rows = 8 * scheme.width * geometry.steps * geometry.side if again else 0
    kept = _window_bytes(scheme, geometry) if stream.stretches > 1 else 0
    return float(scheme.mesh.size * (edges + rows) + 2 * kept)


def _window_bytes(scheme: Scheme, geometry: geometries.Geometry) -> int:
    return 4 * geometry.window * scheme.width * pieces_of(scheme)


def blocks_made(scheme: Scheme) -> int:
    """The PRG blocks of a round's masks, padding included."""
    chunks, count = chunking(scheme)
    stream = stream_of(scheme, whole=keeps_rows(scheme))
    return stream.geometry.shares * stream.stretches * chunks * count


def chunking(scheme: Scheme) -> tuple[int, int]:
    """(chunks, blocks in a chunk), chosen to fit the cache with the least padding.

    The devices divide up the chunks, so their number is a multiple of the number of devices.
    """
    geometry, devices = geometry_of(scheme), scheme.mesh.size
    most = max(16, _TILE_BYTES // (64 * geometry.side * geometry.across))
    share = -(-scheme.num_blocks // devices)

    vector = 1 if scheme.prg.in_memory else 16

    def blocks(chunks: int) -> int:
        return -(-share // (vector * chunks)) * vector

    least = -(-share // most)
    best = min(range(least, 2 * least + 1), key=lambda c: c * (blocks(c) + 4))
    return best * devices, blocks(best)


class Stream(NamedTuple):
    """The stretches of a geometry."""

    geometry: geometries.Geometry  # of each stretch
    stretches: int
    start: int  # the first position, <= 0


def stream_of(scheme: Scheme, whole: bool = False) -> Stream:
    """The stretches of a scheme: one, if its keys take little memory, or if `whole`.

    A ring has no end: masks at its beginning lack the shares with its last members. In the 32-bit
    ring these are added when they come. In the wide ring a mask must be whole, for its carries, so
    the band starts one window early, and only positions 0..m-1 are added.
    """
    geometry, devices, wide = geometry_of(scheme), scheme.mesh.size, scheme.ring.limbs == 2
    if whole or not geometry.rolls:
        return Stream(geometry, 1, 0)
    side = geometry.side
    early = geometry.window // side - 1 if wide else 0
    steps = geometry.steps + early
    each = _PER_EDGE * geometry.tiles * geometry.across + (8 * scheme.width if wide else 0)
    held = max(HELD, _window_bytes(scheme, geometry)) // devices
    stretches = -(-steps * side // max(geometry.window, held // each))
    return Stream(geometry._replace(steps=-(-steps // stretches)), stretches, -early * side)


def pair_masks(scheme: Scheme, keys_of: KeysOf) -> Masks:
    """The masks of a scheme; `keys_of` gives the key of each pair. Every share is expanded once."""
    pieces, count = pieces_of(scheme), chunking(scheme)[1]

    def each(attempt: Attempt, graph: graphs.RingGraph | None, source: Any) -> UInt32[Array, "n W"]:
        def add(rows: Array, leaving: Leaving, masks: pair_tiles.Pieces) -> Array:
            return rows.at[leaving.slots].add(jnp.swapaxes(lanes_of(masks), 0, 1))

        begin = jnp.zeros((scheme.size, 16 * pieces, count), jnp.uint32)
        whole, sharers = stream_of(scheme, whole=True), Sharers(attempt, graph, source)
        rows = _over_chunks(scheme, keys_of, whole, sharers, None, begin, add)
        rows = rows.reshape(*rows.shape[:2], pieces, 16, -1)
        parts = mask_sums.message(scheme, rows)
        return parts[:, 0] if pieces == 1 else settle(parts)

    def sums(
        attempt: Attempt, graph: graphs.RingGraph | None, source: Any, again: Again | None
    ) -> MaskSums:
        again = again if scheme.ring.limbs == 2 else None
        sharers, begin = Sharers(attempt, graph, source), mask_sums.begin(scheme, count)
        add = partial(mask_sums.add_rows, scheme)
        running = _over_chunks(scheme, keys_of, stream_of(scheme), sharers, again, begin, add)
        return mask_sums.joined(scheme, running)

    return Masks(each=each, sums=sums)


def _over_chunks(
    scheme: Scheme,
    keys_of: KeysOf,
    stream: Stream,
    sharers: Sharers,
    again: Again | None,
    begin: Any,
    add: Callable[[Any, Leaving, pair_tiles.Pieces], Any],
) -> Any:
    """Starts every chunk of blocks with `begin` and adds all masks to it.

    The chunks of a device are side by side: [devices, ..., chunks / devices * count].
    """
    geometry, stretches, start = stream
    chunks, count = chunking(scheme)
    pieces, prg = pieces_of(scheme), scheme.prg
    length = geometry.steps * geometry.side if geometry.rolls else geometry.size

    def body(shared: Any, carry: None, firsts: Array) -> tuple[None, Any]:
        """The sums for the chunks of one device."""
        sharers, given = shared

        def stretch_at(start: Array | int) -> Callable[..., tuple[pair_tiles.Pieces, Any]]:
            """One stretch, as a function of a chunk, its masks and its sums."""
            edges = edges_at(scheme, geometry, keys_of, sharers, start)
            leaving = _leaving(stream, sharers, start, length)
            lanes = None
            if again is not None:
                rows = _messages(scheme, again, given, leaving.slots.reshape(-1))
                lanes = mask_sums.lanes(scheme, rows, chunks * count)

            def rolled(first: Array, masks: pair_tiles.Pieces, running: Any) -> Any:
                own = leaving
                if lanes is not None:
                    rows = lax.dynamic_slice_in_dim(lanes, first.astype(jnp.int32), count, 2)
                    own = own._replace(messages=rows.reshape(*own.slots.shape, 16, count))
                return pair_tiles.roll(geometry, prg, edges, first, masks, running, own, add)

            def whole(first: Array, masks: pair_tiles.Pieces, running: Any) -> Any:
                masks = pair_tiles.whole_masks(geometry, prg, edges, first, masks)
                return masks, add(running, jax.tree.map(lambda x: x[0], leaving), masks)

            return rolled if geometry.rolls else whole

        def last(masks: pair_tiles.Pieces, running: Any) -> Any:
            """The sums with the rows that remain in the window."""
            if not geometry.rolls or start < 0:
                return running
            end, rest = start + stretches * length, geometry.window - geometry.side
            left = _leaving(stream, sharers, end, rest)
            return pair_tiles.empty(geometry, masks, running, left, add)

        blank = (pair_tiles.no_masks(geometry, prg, pieces, count), begin)
        if stretches == 1:
            only = stretch_at(start)
            sums = _side_by_side(lambda first: last(*only(first, *blank)), firsts, begin)
            return carry, sums

        def next_stretch(kept: Any, start: Array) -> tuple[Any, None]:
            stretch = stretch_at(start)
            return lax.map(lambda item: stretch(*item), (firsts, *kept)), None

        kept = jax.tree.map(lambda x: jnp.zeros((len(firsts), *x.shape), x.dtype), blank)
        starts = start + length * jnp.arange(stretches, dtype=jnp.int32)
        kept, _ = lax.scan(next_stretch, kept, starts)
        return carry, _side_by_side(lambda item: last(*item), kept, begin)

    each = chunks // scheme.mesh.size
    firsts = jnp.arange(chunks, dtype=jnp.uint32).reshape(-1, each) * jnp.uint32(count)
    sharers = jax.tree.map(jnp.asarray, sharers)  # a caller's may be NumPy's
    shared = (sharers, None if again is None else again.shared)
    _, sums = scan_tiles(scheme.mesh, body, rows_apart(), shared, None, firsts)
    return sums


def _side_by_side(sums_of: Callable[[Any], Any], chunks: Any, like: Any) -> Any:
    """`sums_of` every chunk, shaped like `like`, one beside the other along the last axis.

    Stacked, they would have to be transposed before they are a message.
    """
    number = jax.tree.leaves(chunks)[0].shape[0]
    begin = jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], number * x.shape[-1]), x.dtype), like)

    def step(so_far: Any, item: tuple[Array, Any]) -> tuple[Any, None]:
        at, chunk = item

        def put(whole: Array, sums: Array) -> Array:
            return lax.dynamic_update_slice_in_dim(whole, sums, at * sums.shape[-1], -1)

        return jax.tree.map(put, so_far, sums_of(chunk)), None

    return lax.scan(step, begin, (jnp.arange(number, dtype=jnp.int32), chunks))[0]


def _leaving(stream: Stream, sharers: Sharers, start: Array | int, length: int) -> Leaving:
    """The slots of the rows that leave from position `start` on, step by step."""
    geometry = stream.geometry
    side = geometry.side if geometry.rolls else geometry.size
    at = (start + jnp.arange(length, dtype=jnp.int32)).reshape(-1, side)
    slots, valid = slots_at(geometry, sharers, at)
    if stream.start < 0:  # each member once
        assert sharers.graph is not None
        valid &= (at >= 0) & (at < sharers.graph.members)
    alive = sharers.attempt.alive[slots] & valid
    return Leaving(slots, alive.astype(jnp.uint32), slot_factors(slots, alive))


def _messages(
    scheme: Scheme, again: Again, given: Any, slots: Int32[Array, " L"]
) -> UInt32[Array, "L W"]:
    """The messages of some slots, computed once more; the devices divide them up."""
    if scheme.mesh.size == 1:
        return again.rows(given, slots)
    each = -(-len(slots) // scheme.mesh.size)
    padded = jnp.pad(slots, (0, each * scheme.mesh.size - len(slots)))
    mine = lax.dynamic_slice_in_dim(padded, lax.axis_index(AXIS) * each, each)
    rows: Array = lax.all_gather(again.rows(given, mine), AXIS, tiled=True)
    return rows[: len(slots)]
