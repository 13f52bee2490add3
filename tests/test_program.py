"""The compiled round has no 64-bit types and no callbacks, compiles once, uses no PRG block twice,
erases the old chain, and gives the same bits on any number of devices.
"""

import threading
import time
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import harness
import independent
import ssddl_jax as sd
from harness import faults_of
from ssddl_jax import reference
from ssddl_jax.running import loop
from ssddl_jax.simulation import compiling
from ssddl_jax.simulation.build import build_simulation, place
from ssddl_jax.simulation.compiling import compile_once, named


@pytest.fixture
def started(make_tiny_data, monkeypatch):
    """What happened while a run began, with the name of its thread."""
    events, lower, first_state = [], compiling.lower, loop.first_state

    def note(what):
        events.append((what, threading.current_thread() is threading.main_thread()))

    def lowered(*arguments, **more):
        found = lower(*arguments, **more)
        time.sleep(0.05)  # the other thread could begin meanwhile
        note("the round is traced")
        return found

    def first(*arguments):
        note("the first state")
        return first_state(*arguments)

    monkeypatch.setattr(compiling, "lower", lowered)
    monkeypatch.setattr(loop, "first_state", first)

    def start(**parts):
        config = sd.Config(participants=8, group_size=5, model="linear", protocol="plain")
        prepared = loop.prepare(config, {"data": make_tiny_data(8), **parts})
        state, made = loop.begin(prepared)
        assert made.step.compilations == 1
        return events, state

    return start


def test_the_round_is_traced_first_and_the_rest_beside_its_compilation(started, monkeypatch):
    """Two threads that trace slow each other. Own parts are called in the main thread alone."""
    assert started()[0] == [("the round is traced", True), ("the first state", False)]
    before, _ = started(local=optax.sgd(0.1))
    assert before[2:] == [("the first state", True), ("the round is traced", True)]

    def broken(*_, **__):
        raise RuntimeError("cannot be traced")

    monkeypatch.setattr(compiling, "lower", broken)
    with pytest.raises(RuntimeError, match="cannot be traced"):  # and nobody waits for it
        started()


@pytest.fixture
def as_for_users(monkeypatch):
    """XLA's optimisations on, and the unrolled PRG that rounds of real sizes have."""
    jax.config.update("jax_disable_most_optimizations", False)
    monkeypatch.setattr("ssddl_jax.simulation.build.suited", lambda engine, rule, scheme: scheme)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.usefixtures("as_for_users")
@pytest.mark.parametrize(
    ("model", "devices", "more"),
    [
        ("linear", 2, {"dropout": 0.2, "max_dropout": 0.5, "prg": "chacha8"}),
        pytest.param(
            "mlp-64",
            3,
            {"local_optimizer": "adam", "server_optimizer": "yogi"},
            marks=pytest.mark.slow,
        ),
        pytest.param("linear", 1, {"protocol": "plain"}, marks=pytest.mark.slow),
    ],
)
def test_text_of_real_training(make_tiny_data, model, devices, more):
    data = make_tiny_data(8)
    config = sd.Config(
        participants=8, group_size=6, model=model, devices=devices, tile_size=2, **more
    )
    with jax.numpy_dtype_promotion("standard"):  # optax's adam needs it
        simulation = build_simulation(config, None, data)
        data, state = (place(tree, simulation.recipe) for tree in (data, simulation.init()))
        lowered = jax.jit(simulation.step).lower(state, data)
    assert not faults_of(lowered.as_text(), lowered.compile().as_text())


def test_the_search_finds_what_it_looks_for():
    """The control: a callback, jax.random's 64-bit iota and a float64 literal are all seen."""

    def noisy(x):
        jax.debug.callback(lambda _: None, x)
        return x + jax.random.uniform(jax.random.key(0), x.shape)

    lowered = jax.jit(noisy).lower(np.ones(4, np.float32))
    assert any("callback" in fault for fault in faults_of(lowered.as_text(), ""))
    assert any("callback" in fault for fault in faults_of("", lowered.compile().as_text()))
    assert faults_of("func(%arg0: tensor<4xui64>)", "")
    assert faults_of("%c = stablehlo.constant dense<1> : tensor<i64>", "")
    assert faults_of("", "%x = ((f32[]), token[]) infeed(%token)")
    assert faults_of('%0 = "stablehlo.outfeed"(%1, %2)', "")
    assert faults_of("", "ROOT %x = f64[] constant(1)")
    assert not faults_of("array<i64: 0, 1> tensor<4xui32>", "f32[64] u32[64]{0}")


# Compiled once


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        pytest.param("pairwise", 1, marks=pytest.mark.slow),
        ("pairwise", 2),
        *(
            pytest.param(name, 2, marks=pytest.mark.slow)
            for name in ("all there", "void", "rotating", "plain")
        ),
    ],
)
def test_one_compilation_in_a_whole_run(run_on, name, devices):
    """Seen in JAX's own log, and told in the summary."""
    result, compiled = run_on(name, devices)
    assert len(compiled) == 1, compiled
    assert result.summary["compilations"] == 1
    assert len(result.metrics) == 3
    assert result.summary["rounds_void"] == (3 if name == "void" else 0)


def test_the_log_would_show_a_second_compilation():
    """The control: the same function on two shapes is two lines."""

    def step(state, data):
        return state + data

    with harness.compiled_rounds() as compiled:
        for size in (3, 4):
            jax.jit(named(step))(np.ones(size, np.float32), np.ones(size, np.float32))
    assert len(compiled) == 2


# Distinct blocks


def test_every_block_of_a_run_has_its_own_key_nonce_and_counter(monkeypatch):
    """All blocks that the oracle evaluates over rounds, attempts, rules and engines of one seed.

    A block may be evaluated again for the same purpose (a share, at its other end), never for
    another: pad reuse shows as one block with two purposes.
    """
    purposes = {}
    purpose = [""]
    blocks, derive, stream = reference.blocks_of, reference.derive_key, reference.stream

    def recorded(key, counters, nonce, rounds):
        for counter in counters:
            known = purposes.setdefault((tuple(key), counter, nonce, rounds), purpose[0])
            assert known == purpose[0], (known, purpose[0])
        return blocks(key, counters, nonce, rounds)

    def deriving(key, counter, a, b, tag):
        before, purpose[0] = purpose[0], f"{names[tuple(key)]} {counter} {a} {b} {tag!r}"
        made = derive(key, counter, a, b, tag)
        assert names.setdefault(tuple(made), purpose[0]) == purpose[0], "two purposes, one key"
        purpose[0] = before
        return made

    def streaming(key, nonce, count, rounds=20):
        before, purpose[0] = purpose[0], f"words of {names[tuple(key)]} {nonce}"
        made = stream(key, nonce, count, rounds)
        purpose[0] = before
        return made

    seed = 77
    names = {tuple(reference.seed_key(seed)): "seed"}
    instead = {"blocks_of": recorded, "derive_key": deriving, "stream": streaming}
    for name, function in instead.items():
        for module in (reference, reference.randomness, reference.round, reference.rules):
            monkeypatch.setattr(module, name, function, raising=False)
    updates = np.linspace(-1, 1, 5 * 20, dtype=np.float32).reshape(5, 20)
    public = reference.public_key(seed)
    for rule, engine in (("retry", "pairwise"), ("retry", "ideal"), ("shamir", "pairwise")):
        settings = reference.Settings(
            seed=seed,
            clip=1.0,
            fraction_bits=16,
            max_dropout="0.5",
            dropout_rule=rule,
            threshold=3,
            engine=engine,
            rounding="stochastic",
            neighbours=2 if rule == "retry" else 4,
        )
        chain = reference.initial_chain(seed)
        for number in range(3):
            group = reference.select_group(public, number, 9, 5, "random")
            drop = reference.vanished_slots(public, number, 5, "0.2")
            reference.batch_order(public, number, group[0], 20, 2)
            for gone in (set(), drop):
                done = reference.share_round(settings, chain, number, group, updates, [1] * 5, gone)
                assert not done.void
            chain = reference.next_chain(chain)
    # 3 rounds x (2 attempts x 5 or 4 ring edges x 2 ways x 2 blocks) of pair shares at least.
    drawn = [name for name in purposes.values() if name.startswith("words of")]
    kinds = Counter(name.rsplit("b'", 1)[1][:4] for name in drawn)
    assert kinds["PAIR"] == 3 * (5 + 4) * 2 * 2
    assert kinds["IDEA"] == 3 * (4 + 3) * 2
    assert kinds["SHAM"] == 3 * 5 * 2 * 2
    assert len(purposes) == len(set(purposes))
    assert len({key for key, *_ in purposes}) > 100


def test_pair_keys_of_two_attempts_and_rounds_all_differ():
    """From the formulas on `cryptography`: a run's share keys and the chain hold no word twice."""
    keys = []
    for round_ in range(4):
        chain = independent.chain_of(3, round_)
        keys.append(tuple(chain.tolist()))
        for attempt in (0, 1):
            for dealer in range(7):
                keys.append(tuple(independent.derive(chain, attempt, dealer, 0, "IDEA").tolist()))
                for holder in range(7):
                    key = independent.derive(chain, attempt, dealer, holder, "PAIR")
                    keys.append(tuple(key.tolist()))
                    if holder:
                        key = independent.derive(chain, attempt, dealer, holder, "SHAM")
                        keys.append(tuple(key.tolist()))
    assert len(set(keys)) == len(keys)
    words = [word for key in keys for word in key]
    assert len(words) - len(set(words)) < 5  # random words: a chance meeting at most


# Forward security


def test_old_chain_is_donated_and_erased(make_tiny_data):
    data = make_tiny_data(6)
    fields = {"engine": "ideal", "model": "linear", "devices": 1, "tile_size": 2}
    config = sd.Config(participants=6, group_size=5, **fields)
    simulation = build_simulation(config, None, data)
    data = place(data, simulation.recipe)
    state = place(simulation.init(), simulation.recipe)
    step = compile_once(named(simulation.step), state, data)
    after, _ = jax.block_until_ready(step.call(state, data))
    assert state.chain.is_deleted()
    assert not after.chain.is_deleted()


# Devices

RECIPES = {
    "pairwise": {"dropout": 0.2, "max_dropout": 0.5},
    "ring-wide": {"neighbours": 4, "ring_bits": 64, "weighting": "examples"},
    "ideal": {"engine": "ideal", "weighting": "examples"},
    "shamir": {"dropout_rule": "shamir", "threshold": 4, "dropout": 0.2},
    "reveal": {"dropout_rule": "reveal", "dropout": 0.2, "max_dropout": 0.5, "shares": "paired"},
}
MORE = {
    "all there": {},
    "void": {"dropout": 0.2, "max_dropout": 0.1},
    "rotating": {"engine": "ideal", "selection": "rotate"},
    "plain": {"protocol": "plain"},
}
# Fewer than tiles, as many as do not divide them, more than there are tiles.
DEVICES = {"pairwise": (2, 8), "ring-wide": (3,), "ideal": (8,), "shamir": (3,), "reveal": (8,)}
QUICK_DEVICES = {("pairwise", 2)}


@pytest.fixture(scope="module")
def run_on(make_tiny_data, tmp_path_factory):
    """A run of a recipe on so many devices, and the lines of JAX's log that tell of its round's
    compilation.
    """
    known = {}

    def run(name, devices):
        if len(jax.devices()) < devices:
            pytest.skip(f"needs {devices} devices; here are {len(jax.devices())}")
        if (name, devices) not in known:
            config = sd.Config(
                participants=13,
                group_size=11,
                rounds=3,
                model="linear",
                tile_size=2,
                devices=devices,
                out=str(tmp_path_factory.mktemp("run") / "out"),
                **{**RECIPES, **MORE}[name],
            )
            with harness.compiled_rounds() as compiled:
                result = sd.run(config, data=make_tiny_data(13))
            known[name, devices] = result, compiled
        return known[name, devices]

    return run


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        pytest.param(n, d, marks=() if (n, d) in QUICK_DEVICES else pytest.mark.slow)
        for n, numbers in DEVICES.items()
        for d in numbers
    ],
)
def test_results_do_not_depend_on_devices(run_on, name, devices):
    (one, _), (many, _) = run_on(name, 1), run_on(name, devices)
    assert one.summary["rounds_exact"] == many.summary["rounds_exact"] == 3
    for key in ("aggregate_sha256", "uploads_sha256", "group", "alive", "clipped"):
        assert [row[key] for row in one.metrics] == [row[key] for row in many.metrics], key
    assert one.summary["run_sha256"] == many.summary["run_sha256"]
    assert one.summary["tile_size"] == many.summary["tile_size"] == 2
    harness.same_trees(one.params, many.params)


# JAX's own generators


def test_masks_do_not_depend_on_jaxs_generators():
    """Nor do any: one text whatever generator JAX has. The control is a text that does."""
    messages = np.arange(5 * 40, dtype=np.uint32).reshape(5, 40)

    def texts(function):
        """By default, with the other order of threefry's counters, with another generator."""
        others = not jax.config.jax_threefry_partitionable
        jitted = [jax.jit(lambda m: function(m)) for _ in range(3)]  # nothing traced before
        yield jitted[0].lower(messages).as_text()
        with jax.threefry_partitionable(others):
            yield jitted[1].lower(messages).as_text()
        with jax.default_prng_impl("rbg"):
            yield jitted[2].lower(messages).as_text()

    assert len(set(texts(sd.mask))) == 1
    assert len(set(texts(lambda m: m + jax.random.bits(jax.random.key(0), m.shape)))) == 3


def test_a_message_beyond_a_keys_counter_is_refused():
    model = sd.Model(lambda key, x: jnp.zeros(16 << 32, jnp.float32), lambda params, x: x, "vast")
    config = sd.Config(participants=3, group_size=3)
    data = sd.make_data(np.zeros((3, 2), np.uint8), np.arange(3), np.arange(3))
    with pytest.raises(sd.ConfigError, match="words of one key"):
        sd.build_simulation(config, model, data)
