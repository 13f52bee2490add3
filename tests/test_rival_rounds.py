"""The rivals' rounds: each against its oracle, and the theorems that tie them together."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ssddl_jax as sd
from harness import CLASSES, SHAPE, table_data, table_model, table_train, tiny_arrays, tiny_data
from ssddl_jax import reference
from ssddl_jax.encoding import Encoding
from ssddl_jax.local_training import LocalSteps, train_tile
from ssddl_jax.reference import rivals as oracle
from ssddl_jax.rivals import dssgd as selective
from ssddl_jax.rivals.base import Parts
from ssddl_jax.rivals.central import central
from ssddl_jax.rivals.phong import first_words
from ssddl_jax.round import Init
from ssddl_jax.simulation import place
from test_program import faults_of

N, n, D = 13, 11, 21
BROKEN = (3, 8)
PROTOCOLS = ("central", "standalone", "snt", "dssgd", "phong-lwe")


def config_of(protocol, **fields):
    size = {"participants": N, "group_size": n, "seed": 2**35 + 7, "max_corrupt": 0.0}
    return sd.Config(protocol=protocol, **{**size, **fields})


# Updates from a table that lean on the parameters: who is handed what shows in what comes back.


def leaning_train(params, data, public, round_, ids):
    """A row of the table less half of the parameters: one rounding, whatever it is fused with."""
    rows, losses = table_train(params, data, public, round_, ids)
    half = params[None] / 2
    return (rows[0] - half[:, :4], rows[1] - half[:, 4:]), losses


def leaning_change(data, number):
    """The same for the oracle."""

    def change_of(participant, before):
        row = data.images[data.rows[participant, 0]]
        return np.roll(row, number) - before / np.float32(2)

    return change_of


class Playing(NamedTuple):
    """A compiled round, and what the oracle needs of its config."""

    simulation: sd.Simulation
    step: object
    data: object
    state: object
    public: list


@functools.cache
def playing(config, broken=BROKEN):
    data = table_data(config.participants, D, broken)
    simulation = sd.build_simulation(config, table_model(D), data, train=leaning_train)
    placed, state = (place(tree, simulation.recipe) for tree in (data, simulation.init()))
    step = jax.jit(simulation.step).lower(state, placed).compile()
    public = reference.public_key(config.seed)
    return Playing(simulation, lambda state: step(state, placed), data, state, public)


def group_of(config, number):
    """Ids by slot, and the slots that vanish."""
    public = reference.public_key(config.seed)
    ids = reference.select_group(public, number, config.participants, config.group, "random")
    return ids, reference.vanished_slots(public, number, config.group, repr(config.dropout))


def check_told(info, ids, vanished, clipped=None):
    finite = [i not in BROKEN for i in ids]
    assert np.asarray(info.group).tolist() == ids
    assert np.asarray(info.finite).tolist() == finite
    assert np.asarray(info.alive).tolist() == [
        whole and slot not in vanished for slot, whole in enumerate(finite)
    ]
    assert not bool(info.void)
    if clipped is not None:
        assert dict(enumerate(np.asarray(info.clipped).tolist())) == clipped


def test_weights_pass_from_slot_to_slot():
    config = config_of("snt", dropout=0.2)
    made = playing(config)
    state, weights = made.state, np.full(D, 0.25, np.float32)
    for number in range(3):
        ids, vanished = group_of(config, number)
        before = weights
        weights = oracle.passed_on(weights, ids, vanished, leaning_change(made.data, number))
        state, info = made.step(state)
        np.testing.assert_array_equal(state.params, weights)
        np.testing.assert_array_equal(info.aggregate, weights - before)
        check_told(info, ids, vanished)


SELECTIVE = {
    "largest": {},
    "round-robin, part of the download": {
        "dssgd_theta_u": 0.3,
        "dssgd_theta_d": 0.4,
        "dssgd_schedule": "round-robin",
        "dropout": 0.2,
    },
    "largest of everybody, clipped": {
        "dssgd_theta_u": 0.5,
        "dssgd_gamma": 0.25,
        "group_size": N,
        "dropout": 0.2,
    },
    "random above a threshold, late": {
        "dssgd_rule": "random",
        "dssgd_theta_u": 0.3,
        "dssgd_tau": 0.5,
        "dssgd_schedule": "asynchronous",
        "dropout": 0.2,
    },
    "late, of everybody, part of the download": {
        "dssgd_theta_d": 0.5,
        "dssgd_schedule": "asynchronous",
        "group_size": N,
    },
    "threshold above the clip": {
        "dssgd_rule": "random",
        "dssgd_gamma": 0.25,
        "dssgd_tau": 0.5,
    },
}


@pytest.mark.parametrize("case", SELECTIVE)
def test_selective_sharing_equals_its_oracle(case):
    config = config_of("dssgd", **SELECTIVE[case])
    made = playing(config)
    weights = np.full(D, 0.25, np.float32)
    want = oracle.Selective(
        theta_u=repr(config.dssgd_theta_u),
        theta_d=repr(config.dssgd_theta_d),
        rule=config.dssgd_rule,
        gamma=config.dssgd_gamma,
        tau=config.dssgd_tau,
        schedule=config.dssgd_schedule,
        everybody=N,
        counts=[0] * D,
        local=dict.fromkeys(range(N), weights),
    )
    state, lags = made.state, []
    for number in range(4):
        ids, vanished = group_of(config, number)
        change_of = leaning_change(made.data, number)
        weights = want.play(made.public, number, ids, vanished, weights, change_of)
        state, info = made.step(state)
        np.testing.assert_array_equal(state.params, weights)
        assert np.asarray(state.server.counts).tolist() == want.counts
        local = np.asarray(state.server.local)
        assert len(local) == (N if config.dssgd_theta_d < 1 else 0)
        for participant, row in enumerate(local):
            np.testing.assert_array_equal(row, want.local[participant])
        check_told(info, ids, vanished, want.clipped)
        lags += want.lags
    if config.dssgd_schedule == "asynchronous":
        assert set(lags) == set(range(8))
    assert any(want.counts) == (case != "threshold above the clip")


def test_integers_under_encryption_equal_the_oracle():
    config = config_of("phong-lwe", dropout=0.2, clip=0.4)
    made = playing(config)
    encoding = made.simulation.plan.encoding
    assert encoding.fraction_bits == 24
    settings = reference.Settings(0, config.clip, encoding.fraction_bits, ring_bits=64)
    want = oracle.Encrypted.of(np.full(D, 0.25, np.float32), settings)
    state = made.state
    for number in range(4):
        words = reference.encoding.to_words(want.held, 64)
        assert np.asarray(state.server).tolist() == words
        ids, vanished = group_of(config, number)
        clipped = want.play(ids, vanished, leaning_change(made.data, number))
        state, info = made.step(state)
        np.testing.assert_array_equal(state.params, want.weights())
        check_told(info, ids, vanished, clipped)
    assert sum(clipped.values()) > 0
    assert min(want.held) < 0 < max(want.held)


@pytest.mark.parametrize("bits", [0, 1, 13, 20, 24])
def test_first_weights_are_the_nearest_integers(bits):
    rng = np.random.default_rng(bits)
    ties = (np.arange(-9, 10) / 2 * 2.0**-bits).astype(np.float32)
    whole = np.array([2**22, -(2**22), 2**22 - 0.5, 0.5 - 2**22, 255, -256], np.float32)
    spread = (rng.normal(size=300) * 2.0 ** rng.integers(-30, 20, 300)).astype(np.float32)
    weights = np.concatenate([ties, np.nextafter(ties, 1), whole, spread])
    made = Encoding(clip=1.0, fraction_bits=bits)
    settings = reference.Settings(0, 1.0, bits, ring_bits=64)
    held = oracle.Encrypted.of(weights, settings).held
    got = np.asarray(first_words(weights, made)).tolist()
    assert reference.encoding.to_values(got, 64) == [value % 2**64 for value in held]


# Real training


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


def training(config, data=None):
    """(simulation, state, data, compiled step) on tiny images."""
    data = tiny_data(config.participants) if data is None else data
    simulation = sd.build_simulation(config, softmax_model(), data)
    placed, state = (place(tree, simulation.recipe) for tree in (data, simulation.init()))
    return simulation, state, placed, jax.jit(simulation.step)


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


def test_passing_weights_on_is_sgd_over_everybodys_batches():
    config = config_of("snt", dropout=0.2, **TRAINING)
    simulation, state, data, step = training(config)
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


def test_central_training_is_sgd_over_the_pooled_rows():
    config = config_of("central", dropout=0.5, **TRAINING)
    _, state, data, step = training(config)
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


def test_alone_everybody_trains_as_in_a_run_of_its_own():
    config = config_of("standalone", dropout=0.5, group_size=5, **TRAINING)
    simulation, state, data, step = training(config)
    first, start = np.asarray(simulation.judged(state)["bias"]), state.params
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
    models = simulation.judged(state)
    for slot in range(5):
        model = flat(jax.tree.map(lambda leaf: leaf[slot], models))  # noqa: B023
        np.testing.assert_array_equal(model, own[slot])
        expected = by_hand(start, data, batches[slot], config.learning_rate)
        np.testing.assert_allclose(model, expected, rtol=0, atol=3e-6)


@functools.cache
def after_two(config):
    _, state, data, step = training(config)
    for _ in range(2):
        state, _ = step(state, data)
    return flat(state.params)


def test_sharing_everything_unclipped_is_passing_weights_on():
    everything = {"dssgd_theta_u": 1.0, "dssgd_gamma": 1e30}
    full = after_two(config_of("dssgd", dropout=0.2, **everything, **TRAINING))
    np.testing.assert_array_equal(full, after_two(config_of("snt", dropout=0.2, **TRAINING)))


def test_encryption_changes_accuracy_by_rounding_alone():
    exact = after_two(config_of("snt", dropout=0.2, **TRAINING))
    encrypted = after_two(config_of("phong-paillier", dropout=0.2, **TRAINING))
    # 18 updates rounded by 2^-25 each, and what that does to later gradients.
    assert 0 < np.abs(exact - encrypted).max() < 20 * 18 * 2**-25


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_is_not_finite_changes_nothing(protocol):
    """One member's images are no numbers: the others' round goes on; of pooled data none is."""
    images, labels, owners = tiny_arrays(5)
    broken = images.astype(np.float32) / 255
    broken[owners == 2] = np.nan
    config = config_of(protocol, participants=5, group_size=5, **TRAINING)
    simulation, state, data, step = training(config, sd.make_data(broken, labels, owners))
    after, info = step(state, data)
    finite = np.asarray(info.finite).tolist()
    assert finite == ([False] * 5 if protocol == "central" else [i != 2 for i in range(5)])
    assert np.isfinite(flat(after.params)).all()
    assert bool(info.void) == (protocol == "central")
    if protocol == "central":
        np.testing.assert_array_equal(flat(after.params), flat(state.params))
    elif protocol == "standalone":
        models = simulation.judged(after)
        moved = [
            np.any(np.asarray(models["kernel"][s] != state.params["kernel"])) for s in range(5)
        ]
        assert moved == finite
    else:
        assert np.any(flat(after.params) != flat(state.params))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_text_has_no_wide_type_and_no_callback(protocol):
    more = {"dssgd_theta_d": 0.5, "dssgd_schedule": "asynchronous"} if protocol == "dssgd" else {}
    _, state, data, step = training(config_of(protocol, **more, **TRAINING))
    lowered = step.lower(state, data)
    compiled = lowered.compile().as_text()
    assert "ENTRY" in compiled
    assert not faults_of(lowered.as_text(), compiled)


# Laplace noise


def laplace_config(**fields):
    fields = {"dssgd_rule": "random", "dssgd_tau": 0.5, "dssgd_epsilon": 1.0, **fields}
    return config_of("dssgd", **fields)


def test_noise_is_the_oracles():
    config = laplace_config(dssgd_gamma=0.25, dssgd_epsilon=3.0)
    state = playing(config_of("snt")).state
    chain = np.asarray(state.chain).tolist()
    for participant in (0, 7):
        got = selective.noises(config, state, jnp.uint32(participant), D, 4)
        unit = np.array(oracle.laplace_noises(chain, participant, D))
        # A coordinate moves by 2 gamma = 1/2; epsilon 3 is 4/3, 4/3 and 1/3; 4 are released.
        for noise, drawn, scale in zip(
            got, (unit[0], unit[1 : 1 + D], unit[1 + D :]), (3 / 8, 3.0, 6.0), strict=True
        ):
            np.testing.assert_allclose(noise, scale * drawn, rtol=2e-5, atol=1e-6)


def test_laplace_distribution():
    words = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint32)
    ends = np.array([0, 2**32 - 1, 2**31 - 1, 2**31], np.uint32)
    assert np.isfinite(np.asarray(selective.laplace(ends))).all()
    drawn = np.sort(np.asarray(selective.laplace(words)))
    levels = (np.arange(len(drawn)) + 0.5) / len(drawn)
    exact = np.where(drawn < 0, np.exp(drawn) / 2, 1 - np.exp(-drawn) / 2)
    assert np.abs(exact - levels).max() < 2.5 / np.sqrt(len(drawn))  # Kolmogorov, below 1e-5


def test_without_bound_on_epsilon_there_is_no_noise():
    noisy = playing(laplace_config(dssgd_epsilon=1e30, dssgd_theta_u=0.3))
    clear = playing(laplace_config(dssgd_epsilon=0.0, dssgd_theta_u=0.3))
    states = [noisy.state, clear.state]
    for _ in range(2):
        states = [made.step(state)[0] for made, state in zip((noisy, clear), states, strict=True)]
    np.testing.assert_array_equal(states[0].params, states[1].params)
    np.testing.assert_array_equal(states[0].server.counts, states[1].server.counts)


def worst_ratio(config):
    """The largest log ratio of chances, less four standard errors, of anything that an upload can
    look like, over two changes as far apart as a participant's data can put them; d = 1.
    """
    state = playing(config_of("snt")).state
    draws = jnp.arange(2**16, dtype=jnp.uint32)  # noise of so many participants

    @jax.jit
    def seen(change):
        upload = jax.vmap(lambda i: selective.select(config, state, change[None], i))(draws)
        return upload.values[:, 0], upload.chosen[:, 0]

    counts = []
    for change in (1.0, 0.0, -1.0):
        values, picked = map(np.asarray, seen(jnp.float32(change)))
        looks = np.where(picked, 1 + np.digitize(values, [-0.99, -0.3, 0.3, 0.99]), 0)
        counts.append(np.bincount(looks, minlength=6).astype(float))
    worst = -np.inf
    for a, b in itertools.permutations(counts, 2):
        often = (a > 50) & (b > 50)
        slack = 4 * np.sqrt(1 / a[often] + 1 / b[often])
        worst = max(worst, float(np.max(np.log(a[often] / b[often]) - slack)))
    return worst


def test_a_visits_epsilon_is_kept():
    assert worst_ratio(laplace_config(dssgd_epsilon=1.0)) <= 1.0
    assert worst_ratio(laplace_config(dssgd_epsilon=30.0)) > 1.0  # the control: it can be seen
