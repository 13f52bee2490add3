"""Numbers that no other test compares with an independent value."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

import harness
import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.core.arithmetic import randomness
from ssddl_jax.core.arithmetic.encoding import Encoding, encode_rows
from ssddl_jax.core.arithmetic.headroom import headroom
from ssddl_jax.core.arithmetic.randomness import model_key
from ssddl_jax.core.learning.local_training import LocalSteps, train_tile
from ssddl_jax.core.records import Info
from ssddl_jax.data.datasets import dataset_from_arrays
from ssddl_jax.data.loading import from_partition
from ssddl_jax.data.partition import make_partition
from ssddl_jax.planning.plan import traffic
from ssddl_jax.running.metrics import metrics_row
from ssddl_jax.simulation.digests import run_sha256, words_sha256
from ssddl_jax.simulation.evaluate import count_correct


def planned(**fields):
    """(config, simulation) of everybody's round on updates from a table; nothing compiles."""
    config = sd.Config(group_size="all", devices=1, **fields)
    data = harness.table_data(config.participants, 21)
    model = harness.table_model(21)
    return config, sd.build_simulation(config, model, data, train=harness.table_train)


def test_hashes_are_of_little_endian_words_and_of_rounds_in_order():
    assert words_sha256(np.array([1, 2], np.uint32)) == hashlib.sha256(bytes(
        [1, 0, 0, 0, 2, 0, 0, 0]
    )).hexdigest()  # fmt: skip
    digests = [letter * 64 for letter in "b0a"]
    params = {"a": np.array([1.5, -2], np.float32), "b": np.array([[3.25]], np.float32)}
    assert run_sha256(digests, params) == reference.run_digest(digests, [1.5, -2, 3.25])


def test_accuracy_counts_no_padding():
    model = sd.Model(lambda key, x: (), lambda params, x: jnp.zeros((len(x), 4)), "always 0")
    images, labels = jnp.zeros((3, 2), jnp.float32), jnp.array([0, 1, 0], jnp.int32)
    assert int(count_correct(model, (), images, labels)) == 2


def test_both_halves_of_the_seed_start_a_model():
    first, second = (jax.random.key_data(model_key(seed)) for seed in (7, 7 + 2**32))
    assert not np.array_equal(first, second)


def test_short_rows_are_sorted_by_counting_as_by_a_stable_sort(monkeypatch):
    """Ties, as among the padding, keep their order; longer rows take XLA's sort."""
    keys = np.random.default_rng(0).integers(0, 5, (6, 33)).astype(np.uint32)
    keys[0], keys[1, 7:] = 3, 0xFFFFFFFF
    expected = np.argsort(keys, axis=1, kind="stable")
    np.testing.assert_array_equal(jax.jit(randomness.sorted_rows)(jnp.asarray(keys)), expected)

    def orders(most):
        given = randomness.public_key(4), jnp.uint32(2), jnp.int32(9), jnp.int32(most - 2)
        return np.asarray(randomness.batch_order(*given, epochs=2, most=most))

    few = orders(randomness.FEW_ROWS), orders(randomness.FEW_ROWS + 1)
    monkeypatch.setattr(randomness, "FEW_ROWS", 0)
    np.testing.assert_array_equal(few[0], orders(len(few[0][0])))
    for made, most in zip(few, (len(few[0][0]), len(few[1][0])), strict=True):
        public = np.asarray(randomness.public_key(4)).tolist()
        assert made[:, : most - 2].tolist() == reference.batch_order(public, 2, 9, most - 2, 2)


def test_headroom_rounds_the_clip_up():
    room = headroom(clip=0.75, fraction_bits=1, group_size=5, weight_max=3, kind="ring")
    assert room.largest_sum == 5 * 3 * 2


def test_fractions_of_a_group_are_the_decimals_that_are_written():
    fields = {"engine": "ideal", "dropout": 0.29, "max_dropout": 0.29}
    plan = planned(participants=100, **fields)[1].plan
    assert (plan.vanishing, plan.least_alive) == (29, 71)  # by floats 28 and 72


def test_a_pair_sends_one_paired_share():
    sent = {}
    for shares in ("directed", "paired"):
        config, simulation = planned(participants=9, shares=shares, transport="explicit")
        sent[shares] = traffic(config, simulation.plan, members=9, alive=9, attempt=0).peers
    assert sent == {"directed": 9 * 8 * 4 * 22, "paired": 9 * 4 * 4 * 22}


def test_stochastic_rounding_leaves_whole_numbers():
    """Also where the noise is 0."""
    values = jnp.array([[0.5, -0.25, 0.3]], jnp.float32)
    made = encode_rows(values, jnp.ones(1, jnp.uint32), Encoding(1.0, 2), jnp.zeros_like(values))
    assert np.asarray(made.words).view(np.int32).tolist() == [[2, -1, 2, 1]]


def test_images_of_both_splits_are_brought_to_one_scale():
    x = np.linspace(0, 255, 24, dtype=np.float32).reshape(8, 3)
    y = np.arange(8)
    dataset = dataset_from_arrays(x, y, x, y)
    data = from_partition(dataset, make_partition("iid", dataset, 3, 0), 255.0)
    np.testing.assert_array_equal(data.images, x / np.float32(255))
    np.testing.assert_array_equal(data.test_images, x / np.float32(255))


def test_the_loss_is_the_finite_members():
    config, simulation = planned(participants=4)
    yes, none = np.ones(4, bool), np.zeros(4, np.uint32)
    info = Info(
        group=np.arange(4),
        alive=np.array([True, False, True, True]),
        members=yes,
        attempt=np.uint32(0),
        void=np.bool_(False),
        exact=np.bool_(True),
        finite=np.array([True, False, True, True]),
        clipped=none,
        loss=np.array([1, np.nan, 2, 6], np.float32),
        aggregate=none,
        digest=none,
        opened=np.uint32(0),
    )
    assert metrics_row(config, simulation, 0, info, 0.5)["loss"] == 3


def test_a_batch_without_examples_is_no_step():
    """Momentum would go on: whoever has one row takes one step, whatever the others have."""
    model = sd.Model(
        lambda key, x: jnp.full((2, 3), 0.5, jnp.float32), lambda params, x: x @ params, "tiny"
    )
    train = train_tile(model, optax.sgd(0.5, momentum=0.9), LocalSteps(1, 1, ragged=True))
    images = np.arange(10, dtype=np.float32).reshape(5, 2) / 10
    params, key, one = jnp.full((2, 3), 0.5, jnp.float32), jnp.zeros(8, jnp.uint32), jnp.uint32(0)
    found = []
    for rows in (2, 5):  # the other participant has one row, or four
        data = sd.make_data(images[:rows], np.arange(rows) % 3, np.minimum(np.arange(rows), 1))
        (update,), _ = jax.jit(train)(params, data, key, one, jnp.zeros(1, jnp.int32))
        found.append(np.asarray(update))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0]).max() > 0.01
