"""The sharing graph inside the compiled round: who shares with whom in an attempt.

The graph is complete, or a k-regular Harary ring over a fresh public permutation of the attempt's
members (Bell et al. 2020; docs/protocol.md, section 5). Partners are found one tile of slots at a
time, so no n x n array exists. Members are a mask, so no dropout pattern causes a recompilation.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32


class RingGraph(NamedTuple):
    """An attempt's members in a ring, at positions 0..m-1; all other slots follow."""

    order: Int32[Array, " n"]  # the slot at a position
    position: Int32[Array, " n"]  # the position of a slot
    members: Int32[Array, ""]  # m


def make_ring(words: UInt32[Array, " n"], members: Bool[Array, " n"]) -> RingGraph:
    """Orders the members by their words; ties go to the lower slot."""
    size = members.shape[0]
    slots = jnp.arange(size, dtype=jnp.int32)
    outside = (~members).astype(jnp.uint32)
    _, _, order = lax.sort((outside, words, slots), num_keys=2, is_stable=True)
    position = jnp.zeros(size, jnp.int32).at[order].set(slots)
    return RingGraph(order, position, jnp.sum(members, dtype=jnp.int32))


def ring_partners(
    graph: RingGraph, neighbours: int, slots: Int32[Array, " T"]
) -> tuple[Int32[Array, "T k"], Bool[Array, "T k"]]:
    """Partner slots at ring distance 1..k/2 on both sides, and which of them exist.

    In a small ring the two sides meet. Each partner then counts once, and for k >= m - 1 the graph
    is complete.
    """
    distance = jnp.arange(1, neighbours // 2 + 1, dtype=jnp.int32)
    offsets = jnp.concatenate([distance, -distance])
    forward = jnp.concatenate([distance > 0, distance < 0])
    position = graph.position[slots]
    count = jnp.maximum(graph.members, 1)
    partners = graph.order[(position[:, None] + offsets[None, :]) % count]
    reach = 2 * jnp.abs(offsets)
    once = (reach < count) | ((reach == count) & forward)
    valid = (position < graph.members)[:, None] & once[None, :]
    return partners, valid


def are_partners(
    graph: RingGraph,
    neighbours: int,
    first: Int32[Array, " *shape"],
    second: Int32[Array, " *shape"],
) -> Bool[Array, " *shape"]:
    """Whether two slots share: both are members, at ring distance 1..k/2."""
    here, there = graph.position[first], graph.position[second]
    apart = jnp.abs(here - there)
    distance = jnp.minimum(apart, graph.members - apart)
    inside = (here < graph.members) & (there < graph.members)
    return inside & (distance >= 1) & (distance <= neighbours // 2)


def complete_partners(
    members: Bool[Array, " n"], slots: Int32[Array, " T"]
) -> tuple[Int32[Array, "T n-1"], Bool[Array, "T n-1"]]:
    """All other slots as partners, and which of them exist: those where both are members."""
    others = jnp.arange(members.shape[0] - 1, dtype=jnp.int32)[None, :]
    partners = others + (others >= slots[:, None]).astype(jnp.int32)
    return partners, members[partners] & members[slots][:, None]


def survivors_connected(
    graph: RingGraph, neighbours: int, alive: Bool[Array, " n"]
) -> Bool[Array, ""]:
    """Whether the survivors' graph is connected.

    No edge crosses a gap of more than k/2 positions between neighbouring survivors. One such gap
    leaves a path; two cut the graph.
    """
    size = alive.shape[0]
    here = jnp.arange(size, dtype=jnp.int32)
    survives = alive[graph.order] & (here < graph.members)
    last = lax.cummax(jnp.where(survives, here, -1))
    previous = jnp.concatenate([jnp.full(1, -1, jnp.int32), last[:-1]])
    first = jnp.argmax(survives).astype(jnp.int32)
    wrapped = first + graph.members - last[-1]  # from the last survivor around to the first
    inner = survives & (previous >= 0) & (here - previous > neighbours // 2)
    gaps = jnp.sum(inner, dtype=jnp.int32) + (wrapped > neighbours // 2).astype(jnp.int32)
    return gaps <= 1
