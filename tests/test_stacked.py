"""The sharing layer on stacked pytrees, as users call it without a round."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.core.arithmetic.chacha import CHACHA8, rolled
from ssddl_jax.core.arithmetic.randomness import initial_chain


def stacked(n, salt=0):
    rng = np.random.default_rng([4, salt])
    return {
        "kernel": jnp.asarray(rng.normal(0, 0.4, (n, 3, 4)).astype(np.float32)),
        "bias": (jnp.asarray(rng.normal(0, 0.4, (n, 5)).astype(np.float32)),),
        "scalar": jnp.asarray(rng.normal(0, 0.4, n).astype(np.float32)),
    }


@pytest.mark.parametrize(("n", "ring_bits"), [(3, 64), (6, 32)])
def test_the_layer_from_end_to_end(n, ring_bits):
    """encode -> share -> hold = mask; reconstruct; aggregate; decode: jitted, exact."""
    updates = stacked(n)
    kind = {"ring_bits": ring_bits}
    messages = jax.jit(lambda u: sd.encode(u, fraction_bits=20, **kind))(updates)
    shares = jax.jit(lambda m: sd.share(m, prg=CHACHA8, **kind))(messages)
    uploads = jax.jit(lambda m: sd.mask(m, prg=CHACHA8, **kind))(messages)
    assert shares.shape == (n, n, messages.shape[1])
    assert np.array_equal(sd.reconstruct(shares, **kind), messages)
    assert np.array_equal(sd.hold(shares, **kind), uploads)
    total = sd.aggregate(uploads, **kind)
    assert np.array_equal(total, sd.aggregate(messages, **kind))
    mean = jax.jit(lambda t: sd.decode(t, updates, fraction_bits=20, **kind))(total)
    for made, leaf in zip(jax.tree.leaves(mean), jax.tree.leaves(updates), strict=True):
        assert made.shape == leaf.shape[1:]
        assert np.abs(np.asarray(made - leaf.mean(0))).max() < 2**-21 + 1e-6


def test_any_share_missing_hides_the_message():
    """All but one share of a dealer, summed, differ from its message in about every word."""
    messages = sd.encode(stacked(5))
    shares = np.asarray(jax.jit(partial(sd.share, prg=rolled(CHACHA8)))(messages))
    for dealer, gone in itertools.product(range(5), range(5)):
        rest = np.delete(shares[dealer], gone, axis=0).sum(axis=0, dtype=np.uint32)
        assert (rest == np.asarray(messages[dealer])).mean() < 0.1


def test_uploads_equal_the_oracle():
    updates = stacked(4)
    rows = np.concatenate([np.asarray(x).reshape(4, -1) for x in jax.tree.leaves(updates)], 1)
    ids = [3, 9, 4, 70000]
    chain = np.asarray(initial_chain(17))
    for shares in ("directed", "paired"):
        settings = reference.Settings(
            seed=17, clip=1.0, fraction_bits=24, shares=shares, prg_rounds=8
        )
        done = reference.share_round(settings, chain.tolist(), 0, ids, rows, [1] * 4, set())
        upload = jax.jit(partial(sd.mask, shares=shares, prg=rolled(CHACHA8)))
        made = upload(sd.encode(updates), chain, ids=np.array(ids, np.uint32))
        assert np.array_equal(made, np.array(done.uploads, np.uint32))


def test_weights_and_clip():
    updates = {"a": jnp.array([[4.0], [-0.25]], jnp.float32)}
    messages = sd.encode(updates, clip=2.0, fraction_bits=2, weights=jnp.array([3, 5], jnp.uint32))
    assert np.asarray(messages).view(np.int32).tolist() == [[24, 3], [-5, 5]]
    mean = sd.decode(sd.aggregate(messages), updates, fraction_bits=2)
    assert mean["a"].tolist() == [19 / 4 / 8]


def test_attempts_never_reuse_a_pad():
    messages = jnp.zeros((3, 40), jnp.uint32)
    first, second = (
        jax.jit(partial(sd.mask, attempt=attempt, prg=rolled(CHACHA8)))(messages)
        for attempt in (0, 1)
    )
    assert (np.asarray(first) == np.asarray(second)).mean() < 0.05


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="updates"):
        sd.encode({"a": jnp.zeros((3, 2)), "b": jnp.zeros((4, 2))})
    with pytest.raises(ValueError, match="like"):
        sd.decode(jnp.zeros(5, jnp.uint32), {"a": jnp.zeros((3, 2))})
