"""Tiles of shares: every pair of partners occurs once, whatever tiles fit a size best."""

import itertools
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from ssddl_jax.core.arithmetic.chacha import CHACHA20
from ssddl_jax.core.arithmetic.encoding import Encoding
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import Attempt, Scheme
from ssddl_jax.core.sharing.schedules.edges import Sharers, edges_at
from ssddl_jax.core.sharing.schedules.tiled import geometry_of, stream_of

BANDS = [(17, 2), (20, 6), (41, 22), (41, 38)]  # the last is cheaper as a circle
RINGS = [(n, k, shares) for (n, k), shares in itertools.product(BANDS, ("paired", "directed"))]
CIRCLES = [(n, n - 1, "paired") for n in (3, 4, 5, 9, 10, 11, 64)]
SQUARES = [(n, n - 1, "directed") for n in (3, 10)]


def scheme_of(size, neighbours, shares):
    return Scheme(
        size=size,
        dimension=9,
        neighbours=neighbours,
        threshold=2,
        least_alive=0,
        vanishing=0,
        shares=shares,
        encoding=Encoding(1.0, 0, 32),
        prg=CHACHA20,
        mesh=make_mesh(1),
    )


def dealt(scheme, members):
    """How often each (dealer, holder) occurs, by ids, with the sign of the row."""
    ids = jnp.array(np.random.default_rng(scheme.size).permutation(scheme.size), jnp.uint32)
    key, zero = jnp.arange(8, dtype=jnp.uint32), jnp.uint32(0)
    attempt = Attempt(key, key, zero, zero, ids, members, members)
    graph = None
    if not scheme.complete:
        graph = graphs.make_ring(ids * jnp.uint32(0x9E3779B9), members)

    def keys_of(source, dealers, holders):
        pair = jnp.stack([source[dealers], source[holders]], axis=-1)
        return jnp.pad(pair, [(0, 0)] * dealers.ndim + [(0, 6)])

    made = edges_at(scheme, geometry_of(scheme), keys_of, Sharers(attempt, graph, ids), 0)
    used = np.asarray(made.factor) != 0
    pairs = np.moveaxis(np.asarray(made.keys), 2, -1)[used][:, :2]
    return ids, graph, Counter(map(tuple, pairs.tolist()))


@pytest.mark.parametrize(("size", "neighbours", "shares"), [*CIRCLES, *SQUARES, *RINGS])
def test_every_pair_of_partners_shares_once(size, neighbours, shares):
    """Also if some members do not take part."""
    scheme, slots = scheme_of(size, neighbours, shares), jnp.arange(size, dtype=jnp.int32)
    for away in ([], [0, size - 1], range(1, size, 3)):
        members = np.ones(size, bool)
        members[list(away)] = False
        ids, graph, counts = dealt(scheme, jnp.asarray(members))
        near = ~np.eye(size, dtype=bool) & members & members[:, None]
        if graph is not None:
            near &= np.asarray(graphs.are_partners(graph, neighbours, slots[:, None], slots[None]))
        pairs = np.asarray(ids)[np.argwhere(near)].tolist()
        wanted = {(i, j) for i, j in pairs if shares == "directed" or i < j}
        assert set(counts) == wanted
        assert set(counts.values()) <= {1}


SIZES = [(10, 9, 1.12), (64, 63, 1.02), (1000, 52, 1.01), (10**6, 70, 1), (10**6, 10**6 - 1, 1.01)]


@pytest.mark.parametrize(("size", "neighbours", "most"), SIZES)
def test_few_shares_are_padding(size, neighbours, most):
    """Of what is evaluated, if everybody shares. Tiles are counted without being listed."""
    made = stream_of(scheme_of(size, neighbours, "paired"), whole=True).geometry.shares
    assert size * neighbours // 2 <= made <= most * size * neighbours / 2
    made = stream_of(scheme_of(size, neighbours, "directed"), whole=True).geometry.shares
    assert size * neighbours <= made <= most * size * neighbours
