"""Rounds of rival protocols with real training: each by hand, and theorems that relate them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ssddl_jax as sd
from harness import CLASSES, SHAPE, tiny_arrays, tiny_data
from rival_cases import config_of, group_of
from ssddl_jax import reference
from ssddl_jax.baselines.base import Parts
from ssddl_jax.baselines.central import central
from ssddl_jax.core.learning.local_training import LocalSteps, train_tile
from ssddl_jax.core.round import Init
from ssddl_jax.reference import rivals as oracle
from ssddl_jax.simulation.build import place
from test_program import faults_of


def softmax_model():
    """Weights [12, 4] and bias [4], small and not zero."""

    def init(key, example):
        size = SHAPE[0] * SHAPE[1]
        return {
            "bias": jnp.zeros(CLASSES, jnp.float32),
            "kernel": jnp.linspace(-0.1, 0.1, size * CLASSES).reshape(size, CLASSES),
        }

    def apply(params, x):
        return x.reshape(x.shape[0], -1) @ params["kernel"] + params["bias"][None]

    return sd.Model(init, apply, "softmax")


TRAINING = {"learning_rate": 0.5, "batch_size": 2, "local_epochs": 2}
PASSING = config_of("snt", dropout=0.2, **TRAINING)
SHARING = config_of("dssgd", dropout=0.2, dssgd_theta_u=1.0, dssgd_gamma=1e30, **TRAINING)
ENCRYPTED = config_of("phong-paillier", dropout=0.2, **TRAINING)
CENTRAL = config_of("central", dropout=0.5, **TRAINING)
ALONE = config_of("standalone", dropout=0.5, group_size=5, **TRAINING)
LATE = config_of("dssgd", dssgd_theta_d=0.5, dssgd_schedule="asynchronous", **TRAINING)


class Trained(NamedTuple):
    """A rival's round on tiny images, compiled."""

    simulation: sd.Simulation
    state: Any
    data: Any
    step: Any  # compiled: (state, data) -> (state, info)
    lowered: str  # its text before XLA


def training(config, data):
    simulation = sd.build_simulation(config, softmax_model(), data)
    placed, state = (place(tree, simulation.recipe) for tree in (data, simulation.init()))
    lowered = jax.jit(simulation.step).lower(state, placed)
    return Trained(simulation, state, placed, lowered.compile(), lowered.as_text())


@pytest.fixture(scope="module")
def trained():
    """A round by its config, compiled once for all tests that ask for it."""
    return functools.cache(lambda config: training(config, tiny_data(config.participants)))


def flat(params):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


def by_hand(params, data, batches, rate):
    """SGD on softmax regression over batches of rows, its gradient written out, in float64."""
    bias, kernel = (np.asarray(params[k], np.float64) for k in ("bias", "kernel"))
    images = np.asarray(data.images, np.float64).reshape(len(data.images), -1) / 255
    labels = np.asarray(data.labels)
    for rows in batches:
        x, logits = images[rows], images[rows] @ kernel + bias
        chance = np.exp(logits - logits.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        chance[np.arange(len(rows)), labels[rows]] -= 1
        kernel = kernel - rate * x.T @ chance / len(rows)
        bias = bias - rate * chance.mean(axis=0)
    return np.concatenate([bias, kernel.ravel()])


def in_batches(order, size):
    return [order[start : start + size] for start in range(0, len(order), size)]


def own_batches(config, data, number, participant):
    """A member's minibatches of a round, rows of the training data."""
    rows = np.asarray(data.rows)[participant][: int(data.counts[participant])]
    public = reference.public_key(config.seed)
    orders = reference.batch_order(public, number, participant, len(rows), config.local_epochs)
    return [rows[b] for order in orders for b in in_batches(order, config.batch_size)]


def test_passing_weights_on_is_sgd_over_everybodys_batches(trained):
    config = PASSING
    simulation, state, data, step, _ = trained(config)
    recipe = simulation.recipe
    train = jax.jit(recipe.train)
    weights = state.params
    for number in range(2):
        ids, vanished = group_of(config, number)
        visits = [i for slot, i in enumerate(ids) if slot not in vanished]
        batches = [b for i in visits for b in own_batches(config, data, number, i)]
        expected = by_hand(state.params, data, batches, config.learning_rate)
        _, unravel = jax.flatten_util.ravel_pytree(weights)
        for i in visits:  # bit for bit, by LocalTrain itself
            who = jnp.array([i], jnp.int32)
            pieces, _ = train(weights, data, state.public, jnp.uint32(number), who)
            change = np.concatenate([np.asarray(piece[0]) for piece in pieces])
            weights = unravel(flat(weights) + change)
        state, info = step(state, data)
        np.testing.assert_array_equal(flat(state.params), flat(weights))
        np.testing.assert_allclose(flat(state.params), expected, rtol=0, atol=2e-6)
        assert bool(jnp.all(info.loss > 0))


def test_central_training_is_sgd_over_the_pooled_rows(trained):
    config = CENTRAL
    _, state, data, step, _ = trained(config)
    public, longest = reference.public_key(config.seed), np.asarray(data.rows).shape[1]
    for number in range(2):
        ids, _ = group_of(config, number)
        pooled = np.asarray(data.rows)[ids].ravel()
        valid = (np.arange(longest)[None] < np.asarray(data.counts)[ids][:, None]).ravel().tolist()
        orders = oracle.pool_order(public, number, valid, config.local_epochs)
        assert orders[0] != orders[1]
        batches = [pooled[b] for order in orders for b in in_batches(order, config.batch_size)]
        expected = by_hand(state.params, data, batches, config.learning_rate)
        state, info = step(state, data)
        np.testing.assert_allclose(flat(state.params), expected, rtol=0, atol=2e-6)
        assert np.asarray(info.alive).all()  # the data are at the server: nobody vanishes


def test_central_training_on_one_participants_data_is_its_local_training():
    """With all of its rows in a batch; otherwise the two take them in different orders."""
    config = config_of("central", participants=3, group_size=3, learning_rate=0.5, local_epochs=3)
    images, labels, _ = tiny_arrays(3)
    data = sd.make_data(images[:4], labels[:4], np.zeros(4, int))
    recipe = sd.build_simulation(config, softmax_model(), tiny_data(3)).recipe
    recipe = recipe._replace(scheme=recipe.scheme._replace(size=1), participants=1)
    steps = LocalSteps(epochs=3, batch_size=4, ragged=False)
    local = optax.sgd(0.5)
    state = Init(recipe, data.shape, config.seed)
    pooled, _ = jax.jit(central(Parts(config, recipe, local, steps)).step)(state, data)
    train = jax.jit(train_tile(recipe.model, local, steps))
    pieces, _ = train(state.params, data, state.public, state.round, jnp.zeros(1, jnp.int32))
    change = np.concatenate([np.asarray(piece[0]) for piece in pieces])
    np.testing.assert_allclose(flat(pooled.params), flat(state.params) + change, atol=1e-6)
    assert np.abs(change).max() > 1e-2


def test_alone_everybody_trains_as_in_a_run_of_its_own(trained):
    config = ALONE
    simulation, state, data, step, _ = trained(config)
    first, start = np.asarray(simulation.evaluated_models(state)["bias"]), state.params
    assert first.shape == (5, CLASSES)
    train = jax.jit(simulation.recipe.train)
    ids, _ = group_of(config, 0)
    own, unravel = [flat(start)] * 5, jax.flatten_util.ravel_pytree(start)[1]
    batches = [[] for _ in ids]
    for number in range(3):
        assert number == 0 or group_of(config, number)[0] != ids  # and yet the group stays
        for slot, i in enumerate(ids):
            batches[slot] += own_batches(config, data, number, i)
            who = jnp.array([i], jnp.int32)
            pieces, _ = train(unravel(own[slot]), data, state.public, jnp.uint32(number), who)
            own[slot] = own[slot] + np.concatenate([np.asarray(piece[0]) for piece in pieces])
        state, info = step(state, data)
        assert np.asarray(info.group).tolist() == ids
        assert np.asarray(info.alive).all()
        assert not np.asarray(info.aggregate).any()
        np.testing.assert_array_equal(flat(state.params), flat(start))
    models = simulation.evaluated_models(state)
    for slot in range(5):
        model = flat(jax.tree.map(lambda leaf: leaf[slot], models))  # noqa: B023
        np.testing.assert_array_equal(model, own[slot])
        expected = by_hand(start, data, batches[slot], config.learning_rate)
        np.testing.assert_allclose(model, expected, rtol=0, atol=3e-6)


def after_two(made):
    state = made.state
    for _ in range(2):
        state, _ = made.step(state, made.data)
    return flat(state.params)


@pytest.mark.slow
def test_sharing_everything_unclipped_is_passing_weights_on(trained):
    np.testing.assert_array_equal(after_two(trained(SHARING)), after_two(trained(PASSING)))


@pytest.mark.slow
def test_encryption_changes_accuracy_by_rounding_alone(trained):
    exact, encrypted = after_two(trained(PASSING)), after_two(trained(ENCRYPTED))
    # 18 updates rounded by 2^-25 each, and what that does to later gradients.
    assert 0 < np.abs(exact - encrypted).max() < 20 * 18 * 2**-25


@pytest.mark.parametrize("protocol", ["central", "standalone", "snt"])
def test_who_is_not_finite_changes_nothing(protocol):
    """One member's images are no numbers: the others' round goes on; of pooled data none is.

    The other rivals train as snt does, and know who is not finite: `test_rival_rounds.py`.
    """
    images, labels, owners = tiny_arrays(5)
    broken = images.astype(np.float32) / 255
    broken[owners == 2] = np.nan
    config = config_of(protocol, participants=5, group_size=5, **TRAINING)
    given = sd.make_data(broken, labels, owners, allow_nonfinite=True)
    simulation, state, data, step, _ = training(config, given)
    after, info = step(state, data)
    finite = np.asarray(info.finite).tolist()
    assert finite == ([False] * 5 if protocol == "central" else [i != 2 for i in range(5)])
    assert np.isfinite(flat(after.params)).all()
    assert bool(info.void) == (protocol == "central")
    if protocol == "central":
        np.testing.assert_array_equal(flat(after.params), flat(state.params))
    elif protocol == "standalone":
        models = simulation.evaluated_models(after)
        moved = np.any(np.asarray(models["kernel"]) != np.asarray(state.params["kernel"]), (1, 2))
        assert moved.tolist() == finite
    else:
        assert np.any(flat(after.params) != flat(state.params))


TEXTS = {"snt": PASSING, "phong": ENCRYPTED, "central": CENTRAL, "standalone": ALONE, "dssgd": LATE}


@pytest.mark.parametrize("name", TEXTS)
def test_text_has_no_wide_type_and_no_callback(name, trained):
    made = trained(TEXTS[name])
    compiled = made.step.as_text()
    assert "ENTRY" in compiled
    assert not faults_of(made.lowered, compiled)
