"""No row of one participant affects another's update, however batches are padded; nor does any
random noise, since models that draw it are rejected.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ssddl_jax as sd
from ssddl_jax.core.learning.local_training import flattened
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.simulation.build import build_simulation
from ssddl_jax.simulation.padding import check_padding

COUNTS = [2, 1, 5, 3, 7, 4, 6]  # row 0 is the last participant's
SHAPE = (6, 5)


def data_with(row=None, shape=SHAPE):
    """Uneven parts; the first row of all may be given."""
    owners = np.repeat(np.arange(len(COUNTS)), COUNTS)[::-1]
    rng = np.random.default_rng(0)
    images = rng.random((len(owners), *shape), np.float32)
    data = sd.make_data(images, rng.integers(0, 4, len(owners)), owners)
    if row is not None:
        images[0] = row
    return data._replace(images=images)  # also where it is not finite


class Mixed(nn.Module):
    """A user's own net, which keeps examples apart."""

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Dense(9)(x.reshape(len(x), -1)))
        return nn.Dense(4)(nn.gelu(x))


def updates(model, batch, data, ids):
    """Everybody's, and the mean losses."""
    config = sd.Config(
        participants=len(COUNTS), group_size="all", model="linear", batch_size=batch, devices=1
    )
    built = build_simulation(config, model, data)
    state = built.init()
    made, losses = jax.jit(built.recipe.train)(state.params, data, state.public, state.round, ids)
    return np.concatenate(flattened(made), axis=1), np.asarray(losses)


def check_one_row(model, batch, shape, rows):
    """What a row of the last participant's does to everybody's updates."""
    ids = jnp.arange(len(COUNTS), dtype=jnp.int32)
    before, losses = updates(model, batch, data_with(shape=shape), ids)
    assert np.isfinite(before).all()
    for row in rows:
        after, others = updates(model, batch, data_with(row, shape), ids)
        np.testing.assert_array_equal(after[:-1], before[:-1])
        np.testing.assert_array_equal(others[:-1], losses[:-1])
        assert np.any(after[-1] != before[-1])


@pytest.mark.parametrize(
    "model",
    ["linear", pytest.param("mlp-64", marks=pytest.mark.slow), Mixed()],
    ids=["linear", "mlp-64", "own"],
)
@pytest.mark.parametrize(
    "batch", [4, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (2, 32))]
)
def test_one_row_changes_its_owners_update_alone(model, batch):
    check_one_row(model, batch, SHAPE, [0.25, 1e38, np.nan])


@pytest.mark.slow
def test_one_row_in_the_convolutional_net():
    check_one_row("cnn", 4, (28, 28), [0.25, np.nan])


def test_a_batch_that_is_not_full_is_trained_as_it_is():
    """The step on two of four examples is that on these two alone."""
    model = load_model("linear", SHAPE, 4)
    ids = jnp.arange(len(COUNTS), dtype=jnp.int32)
    data = data_with()
    made, _ = updates("linear", 32, data, ids)
    config = sd.Config(participants=len(COUNTS), group_size="all", model="linear", batch_size=32)
    built = build_simulation(config, None, data)
    params = built.init().params
    owner = 1
    mine = np.asarray(data.rows[owner, : COUNTS[owner]])
    x, y = data.images[mine], data.labels[mine]

    def loss(params):
        return optax.softmax_cross_entropy_with_integer_labels(model.apply(params, x), y).mean()

    moved = jax.tree.map(lambda g: -config.learning_rate * g, jax.grad(loss)(params))
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(moved)])
    np.testing.assert_allclose(made[owner], flat, rtol=1e-4, atol=1e-7)


def init(key, example):
    return {"k": jax.random.normal(key, (example[0].size, 4))}


def flat(x):
    return x.reshape(len(x), -1)


def batch_statistics(params, x):
    logits = flat(x) @ params["k"]
    return (logits - logits.mean(0, keepdims=True)) / (logits.std(0, keepdims=True) + 1e-3)


def largest_of_the_batch(params, x):
    return flat(x / jnp.max(x)) @ params["k"]


def the_one_before(params, x):
    return flat(x + 0.01 * jnp.roll(x, 1, axis=0)) @ params["k"]


def norm_of_each(params, x):
    rows = flat(x)
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True) @ params["k"]


REFUSED = {
    batch_statistics: "change with the others",
    largest_of_the_batch: "change with the others",
    the_one_before: "change with the others",
    norm_of_each: "not finite at zeros",
}


@pytest.mark.parametrize("apply", REFUSED)
def test_models_whose_updates_would_depend_on_padding(apply):
    with pytest.raises(sd.ConfigError, match=REFUSED[apply]) as caught:
        updates((init, apply), 4, data_with(), None)
    assert caught.value.field == "model"


def test_full_batches_need_no_padding():
    """Equal parts, a multiple of the batch: any model may be trained."""
    rng = np.random.default_rng(1)
    data = sd.make_data(rng.random((24, *SHAPE), np.float32), np.arange(24) % 4, np.arange(24) % 3)

    def build(batch):
        config = sd.Config(participants=3, group_size="all", batch_size=batch, devices=1)
        return build_simulation(config, (init, batch_statistics), data)

    build(4)
    with pytest.raises(sd.ConfigError, match="a multiple of batch_size"):
        build(5)


def test_one_example_at_a_time_is_never_padded():
    check_padding(sd.Model(init, batch_statistics), SHAPE, 1)


def test_what_draws_is_refused(make_tiny_data):
    """Each participant, in each round, would draw the same noise, or drop the same units."""

    def dropped(params, x):
        kept = jax.random.bernoulli(jax.random.key(3), 0.5, x.shape)
        return flat(jnp.where(kept, x, jnp.zeros_like(x))) @ params["k"]

    data, config = make_tiny_data(6), sd.Config(participants=6, group_size=5, model="linear")
    noisy = optax.chain(optax.add_noise(0.01, 0.0, key=jax.random.key(1)), optax.sgd(0.1))
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(sd.ConfigError, match=" draws at random") as caught,
    ):
        build_simulation(config, None, data, local=noisy)
    assert caught.value.field == "local"
    with pytest.raises(sd.ConfigError, match="its apply draws at random"):
        build_simulation(config, (init, dropped), data)
    build_simulation(config, None, data, local=optax.chain(optax.clip(0.1), optax.sgd(0.1)))
