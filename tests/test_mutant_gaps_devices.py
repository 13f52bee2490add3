"""Sums over tiles of keys that lie on several devices: more keys than one tile holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import harness
from ssddl_jax.chacha import CHACHA8
from ssddl_jax.encoding import Encoding
from ssddl_jax.parallel import make_mesh
from ssddl_jax.sharing import Attempt, Messages, Scheme, ideal
from ssddl_jax.sharing.left_over import sum_shares
from ssddl_jax.sharing.secagg import self_sums

SIZE = 130  # a tile is of 64


def scheme_on(devices):
    return Scheme(
        size=SIZE,
        dimension=15,
        neighbours=SIZE - 1,
        threshold=2,
        least_alive=3,
        vanishing=0,
        shares="paired",
        dropout_rule="retry",
        encoding=Encoding(1.0, 20),
        prg=CHACHA8,
        mesh=make_mesh(devices),
    )


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).integers(0, 2**32, shape, np.uint32))


def ideal_uploads(scheme):
    everybody = jnp.ones(SIZE, bool)
    word = jnp.uint32(0)
    ids = jnp.arange(SIZE, dtype=jnp.uint32)
    attempt = Attempt(drawn(8), drawn(8), word, word, ids, everybody, everybody)
    return ideal(scheme).share(attempt, Messages(drawn(16), drawn(16), None))


def self_masks(scheme):
    return self_sums(scheme, drawn(SIZE, 8), jnp.ones(SIZE, bool), drawn(SIZE))


def opened_pads(scheme):
    ends = jnp.arange(SIZE, dtype=jnp.int32)
    counted = jnp.ones(SIZE, bool)
    return sum_shares(scheme, drawn(SIZE, 8), lambda keys, i, j: keys[i], ends, ends, counted)


@pytest.mark.parametrize("made", [ideal_uploads, self_masks, opened_pads])
def test_sums_of_many_keys_do_not_depend_on_devices(made):
    one, three = (jax.jit(lambda d=devices: made(scheme_on(d)))() for devices in (1, 3))
    harness.same_trees(one, three)
