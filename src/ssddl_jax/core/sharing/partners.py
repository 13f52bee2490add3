"""The partners of each slot in an attempt, and the keys that they share."""

from collections.abc import Callable
from typing import Any

from jax import Array
from jaxtyping import Bool, Int32, UInt32

from ssddl_jax.core.arithmetic.randomness import pair_keys, ring_words
from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import Attempt, Scheme

# (source of the keys, dealers' slots, holders' slots) -> keys u32 [..., 8]; slots broadcast.
KeysOf = Callable[[Any, Array, Array], Array]


def chain_keys(attempt: Attempt, dealers: Array, holders: Array) -> UInt32[Array, "... 8"]:
    """SSDDL's pair keys K_{i->j}, derived from the round's chain state."""
    return pair_keys(attempt.chain, attempt.number, attempt.ids[dealers], attempt.ids[holders])


def attempt_graph(scheme: Scheme, attempt: Attempt) -> graphs.RingGraph | None:
    """The ring graph of an attempt's members; None for the complete graph."""
    if scheme.complete:
        return None
    words = ring_words(attempt.public, attempt.round, attempt.number, scheme.size)
    return graphs.make_ring(words, attempt.members)


def partners_of(
    scheme: Scheme, attempt: Attempt, graph: graphs.RingGraph | None, slots: Int32[Array, " T"]
) -> tuple[Int32[Array, "T k"], Bool[Array, "T k"]]:
    """The partners of some slots, as slots, and which of them exist."""
    if graph is None:
        return graphs.complete_partners(attempt.members, slots)
    return graphs.ring_partners(graph, scheme.neighbours, slots)
