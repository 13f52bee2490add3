"""In rings so small that both sides meet, partners equal the oracle's for every set of members."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssddl_jax import reference
from ssddl_jax.core.arithmetic.randomness import public_key, ring_words
from ssddl_jax.core.sharing import graphs

SIZE, ROUND, ATTEMPT, SEED = 7, 5, 1, 2**33 + 1


@pytest.mark.parametrize("neighbours", [2, 4])
def test_partners_are_the_oracles_and_listed_once(neighbours):
    slots = jnp.arange(SIZE, dtype=jnp.int32)
    words = ring_words(public_key(SEED), jnp.uint32(ROUND), jnp.uint32(ATTEMPT), SIZE)

    @jax.jit
    def found(members):
        ring = graphs.make_ring(words, members)
        table = graphs.ring_partners(ring, neighbours, slots)
        square = graphs.are_partners(ring, neighbours, slots[:, None], slots[None])
        return *table, square

    public = reference.public_key(SEED)
    settings = reference.Settings(seed=SEED, clip=1.0, fraction_bits=8, neighbours=neighbours)
    for count in range(2, SIZE + 1):
        for members in itertools.combinations(range(SIZE), count):
            wanted = reference.neighbours_of(settings, public, ROUND, ATTEMPT, members, SIZE)
            here = jnp.asarray(np.isin(np.arange(SIZE), members))
            partners, valid, square = map(np.asarray, found(here))
            for slot, row in enumerate(wanted):
                assert sorted(partners[slot][valid[slot]].tolist()) == row
                assert np.flatnonzero(square[slot]).tolist() == row
