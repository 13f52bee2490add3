"""Groups against the oracle where a pass has several rounds: in the rounds' cases it has one."""

import jax
import jax.numpy as jnp
import pytest

from ssddl_jax import reference
from ssddl_jax.randomness import public_key, selected


@pytest.mark.parametrize("selection", ["random", "rotate"])
def test_groups_are_the_oracles(selection):
    seed, everybody, size = 2**40 + 3, 14, 4
    public, words = public_key(seed), reference.public_key(seed)
    group = jax.jit(lambda number: selected(public, number, size, everybody, selection))
    for number in range(7):
        wanted = reference.select_group(words, number, everybody, size, selection)
        assert group(jnp.uint32(number)).tolist() == wanted
