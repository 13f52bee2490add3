"""Processes many slots in tiles of fixed size, on one device or many.

A list of items is cut into tiles of one size. Each device scans its tiles and adds into
accumulators, which are joined at the end. Sums are of integers, so the result does not depend on
the number of devices (docs/design.md, facts 4 to 6).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ssddl_jax.core.devices import AXIS
from ssddl_jax.core.exchange import Exchange, Tree


class Before(NamedTuple):
    """What is computed for many tiles together, before each is processed by itself."""

    prepare: Callable[[Tree, Array], Tree]  # (shared, starts [b]) -> arrays [b, ...]
    # (shared, what computes a tile's arrays, for their shapes) -> the first carry
    start: Callable[[Tree, Callable[[], Tree]], Tree]
    empty: int  # the start of a tile without slots
    together: int  # elements to compute together, about
    least: int  # that a tile takes on the way, if its arrays are fewer


def tile_count(slots: int, tile: int, devices: int) -> int:
    """Number of tiles of size `tile`, rounded up to a multiple of `devices`."""
    return -(-slots // (tile * devices)) * devices


def tile_starts(slots: int, tile: int, devices: int) -> Array:
    """The first slot of every tile, i32 [tiles]."""
    return tile * jnp.arange(tile_count(slots, tile, devices), dtype=jnp.int32)


def tile_slots(start: Array, tile: int, slots: int) -> Array:
    """The slots of the tile that begins at `start`, i32 [tile]; padding is `slots`."""
    return jnp.minimum(start + jnp.arange(tile, dtype=jnp.int32), slots)


def into_tiles(slots: int, tile: int, devices: int) -> Array:
    """The slots of all tiles, i32 [tiles, tile]; padding is `slots`."""
    starts = tile_starts(slots, tile, devices)
    return jax.vmap(lambda start: tile_slots(start, tile, slots))(starts)


def scan_tiles(
    mesh: Mesh,
    body: Callable[..., tuple[Tree, Tree]],
    exchange: Exchange,
    shared: Tree,
    start: Tree,
    tiles: Tree,
    before: Before | None = None,
) -> tuple[Tree, Tree]:
    """Scans `body(shared, carry, tile) -> (carry, rows)` over tiles that the devices divide up.

    `shared` is the same on every device, `start` is the first carry. `exchange` adds the carries of
    all devices and gathers their rows, inside `shard_map` over `AXIS`; one device has nothing to
    exchange. Rows are returned stacked, [tiles, ...], in the order of the tiles.

    With `before`, `body` gets `(tile, prepared)`, and the first carry is that of `before`.
    """

    def local(shared: Tree, begin: Tree, tiles: Tree) -> tuple[Tree, Tree]:
        if before is None:
            return lax.scan(partial(body, shared), begin, tiles)
        prepare = jax.jit(
            before.prepare
        )  # traced once for its shapes and, if in one block, its use

        def of_first_tile() -> Tree:
            return jax.tree.map(lambda x: x[0], prepare(shared, tiles))

        one, first = jax.eval_shape(of_first_tile), before.start(shared, of_first_tile)

        def block(carry: Tree, tiles: Array) -> tuple[Tree, Tree]:
            prepared = prepare(shared, tiles)
            return lax.scan(partial(body, shared), carry, (tiles, prepared))

        each = max(before.least, sum(leaf.size for leaf in jax.tree.leaves(one)))
        at_once = max(1, before.together // each)
        blocks = -(-len(tiles) // at_once)
        if blocks == 1:  # a loop of one step would only take longer to compile
            return block(first, tiles)
        spare = -len(tiles) % blocks
        whole = jnp.pad(tiles, (0, spare), constant_values=before.empty)
        carry, rows = lax.scan(block, first, whole.reshape(blocks, -1))
        return carry, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: len(tiles)], rows)

    if mesh.size == 1:
        return local(shared, start, tiles)

    def per_device(shared: Tree, begin: Tree, tiles: Tree) -> tuple[Tree, Tree]:
        return exchange(*local(shared, begin, tiles))

    split = jax.shard_map(
        per_device,
        mesh=mesh,
        in_specs=(P(), P(), P(AXIS)),
        out_specs=(P(), P()),
        check_vma=False,
    )
    return split(shared, start, tiles)
