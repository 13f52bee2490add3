"""Work on many slots in fixed tiles, on one device or many.

A list of items is cut into tiles of one width; each device scans over its tiles, adding into
accumulators; at the end the devices' accumulators are joined. Integer sums make the result
independent of the number of devices (docs/design.md, facts 4 to 6).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ssddl_jax.core.devices import AXIS

Tree = Any


def tile_count(slots: int, tile: int, devices: int) -> int:
    """Tiles of so many slots, rounded up to a multiple of `devices`."""
    return -(-slots // (tile * devices)) * devices


def tile_starts(slots: int, tile: int, devices: int) -> Array:
    """First slot of every tile, i32 [tiles]."""
    return tile * jnp.arange(tile_count(slots, tile, devices), dtype=jnp.int32)


def tile_slots(start: Array, tile: int, slots: int) -> Array:
    """Slots of the tile that starts there, i32 [tile]; padding has the number `slots`."""
    return jnp.minimum(start + jnp.arange(tile, dtype=jnp.int32), slots)


def into_tiles(slots: int, tile: int, devices: int) -> Array:
    """Slot numbers [tiles, tile] of all tiles at once."""
    starts = tile_starts(slots, tile, devices)
    return jax.vmap(lambda start: tile_slots(start, tile, slots))(starts)


def scan_tiles(
    mesh: Mesh,
    body: Callable[..., tuple[Tree, Tree]],
    join: Callable[[Tree], Tree],
    shared: Tree,
    start: Tree,
    tiles: Tree,
) -> tuple[Tree, Tree]:
    """Scans `body(shared, carry, tile) -> (carry, rows)` over tiles, split over the mesh.

    `shared` is the same on every device; `start(shared)`, or `start` itself, is the first carry;
    `join` adds the devices' carries (inside `shard_map`, over `AXIS`); rows, stacked [tiles, ...],
    come back in the order of the tiles, whole on every device: an exchange for each array, so there
    should be few.
    """

    def local(shared: Tree, begin: Tree, tiles: Tree) -> tuple[Tree, Tree]:
        first = start(shared) if callable(start) else begin
        return lax.scan(partial(body, shared), first, tiles)

    begin = None if callable(start) else start
    if mesh.size == 1:
        return local(shared, begin, tiles)

    def per_device(shared: Tree, begin: Tree, tiles: Tree) -> tuple[Tree, Tree]:
        carry, rows = local(shared, begin, tiles)
        return join(carry), lax.all_gather(rows, AXIS, tiled=True)

    split = jax.shard_map(
        per_device,
        mesh=mesh,
        in_specs=(P(), P(), P(AXIS)),
        out_specs=(P(), P()),
        check_vma=False,
    )
    return split(shared, begin, tiles)
