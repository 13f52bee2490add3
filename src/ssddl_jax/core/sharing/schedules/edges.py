"""Where members stand in a geometry, and the keys and signs of the shares between them."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int32

from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import Attempt, Scheme
from ssddl_jax.core.sharing.partners import KeysOf
from ssddl_jax.core.sharing.schedules.geometries import Geometry, positions
from ssddl_jax.core.sharing.schedules.pair_tiles import Edges


class Sharers(NamedTuple):
    """Who shares with whom in an attempt, and the source of the keys."""

    attempt: Attempt
    graph: graphs.RingGraph | None
    source: Any


def slots_at(
    geometry: Geometry, sharers: Sharers, at: Int32[Array, " *shape"]
) -> tuple[Int32[Array, " *shape"], Bool[Array, " *shape"]]:
    """The slots at some positions, and which positions hold members.

    In a circle of n slots, position p is slot p mod n. In a band, position p of a ring of m members
    is p mod m, from -m to 2 m - 1: once round, and once more on either side.
    """
    attempt, graph, _ = sharers
    if not geometry.rolls:
        size = attempt.members.shape[0]
        slot = at % size if geometry.skewed else jnp.minimum(at, size - 1)
        return slot, (geometry.skewed | (at < size)) & attempt.members[slot]
    assert graph is not None
    members = jnp.maximum(graph.members, 1)
    return graph.order[at % members], (at >= -members) & (at < 2 * members)


def edges_at(
    scheme: Scheme, geometry: Geometry, keys_of: KeysOf, sharers: Sharers, start: Array | int
) -> Edges:
    """The keys and signs of a geometry's shares, if its first position is `start`."""
    attempt, graph, source = sharers
    rows, columns = positions(geometry, start)
    row_slot, row_valid = slots_at(geometry, sharers, rows)
    column_slot, column_valid = slots_at(geometry, sharers, columns)
    exists = row_valid & column_valid
    if geometry.skewed:
        members, reach = jnp.int32(scheme.size), scheme.size
        if geometry.rolls:
            assert graph is not None
            members, reach = graph.members, scheme.neighbours // 2
        ahead = columns - rows
        first_half = 2 * (rows % jnp.maximum(members, 1)) < members
        once = (2 * ahead < members) | ((2 * ahead == members) & first_half)
        exists &= once & (rows < members) & (ahead <= reach)
    else:
        exists &= rows != columns
    if graph is not None and not geometry.rolls:
        exists &= graphs.are_partners(graph, scheme.neighbours, row_slot, column_slot)
    shape = exists.shape
    row_id = jnp.broadcast_to(attempt.ids[row_slot], shape)
    column_id = jnp.broadcast_to(attempt.ids[column_slot], shape)
    if scheme.shares == "paired":
        row_deals = row_id < column_id
    else:
        row_deals = jnp.broadcast_to(~jnp.asarray(geometry.backward)[None, :, None, None], shape)
    here, there = (jnp.broadcast_to(slot, shape) for slot in (row_slot, column_slot))
    dealers, holders = jnp.where(row_deals, here, there), jnp.where(row_deals, there, here)
    keys = keys_of(source, dealers, holders)
    sign = jnp.where(row_deals, jnp.uint32(1), jnp.uint32(0xFFFFFFFF))
    return Edges(keys=jnp.moveaxis(keys, -1, 2), factor=jnp.where(exists, sign, jnp.uint32(0)))
