"""Small rounds that compile fast, and what the fast code must equal: used by the round's tests.

Most tests here are about what follows training, so a participant's update is a row of a table
(`table_*`): participant i's in round r is row i turned by r places. Real training is in
`tiny_data` with the linear model.
"""

import functools
import itertools
import logging
import os
import re
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import independent
import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.core.records import State
from ssddl_jax.simulation.build import place

SHAPE, CLASSES = (3, 4), 4

os.environ["SSDDL_PROGRAM_CACHE"] = "off"  # the user's cache is not for tests


def tiny_arrays(participants, salt=0):
    """images u8 [M, 3, 4], labels [M], owners [M]; participant i has 1 + i mod 4 rows."""
    rng = np.random.default_rng([7, salt])
    counts = 1 + np.arange(participants) % 4
    owners = np.repeat(np.arange(participants), counts)
    images = rng.integers(0, 256, (len(owners), *SHAPE), dtype=np.uint8)
    labels = np.arange(len(owners)) % CLASSES
    return images, labels, owners


def tiny_data(participants, salt=0):
    """`Data` of N participants with unequal counts."""
    return sd.make_data(*tiny_arrays(participants, salt))


def tiny_npz(path, rows=96):
    """A dataset file of random tiny images."""
    rng = np.random.default_rng(11)
    images = rng.integers(0, 256, (rows, *SHAPE), dtype=np.uint8)
    labels = (np.arange(rows) % CLASSES).astype(np.uint8)
    half = rows // 3
    np.savez(
        path,
        x_train=images[half:],
        y_train=labels[half:],
        x_test=images[:half],
        y_test=labels[:half],
        writers=np.arange(rows - half) // 4,
    )
    return path


# Updates from a table

EDGES = (-0.0, 1e-40, -1e-40, 1.5 * 2**-24, -2.5 * 2**-24, 3.0, -3.0, 1.0, -1.0, 2**-126)


def table_data(participants, dimension, broken=()):
    """`Data` whose images are updates f32 [M, d]; the updates of `broken` are not finite."""
    rng = np.random.default_rng([3, participants, dimension])
    _, labels, owners = tiny_arrays(participants)
    table = rng.normal(0, 0.5, (len(owners), dimension)).astype(np.float32)
    spots = np.arange(participants)[:, None] + np.arange(len(EDGES))[None, :]
    for participant in range(participants):
        row = int(np.flatnonzero(owners == participant)[0])
        table[row, spots[participant] % dimension] = np.float32(EDGES)
    data = sd.make_data(table, labels, owners)
    for participant in broken:
        row = int(np.flatnonzero(owners == participant)[0])
        table[row, participant % dimension] = (np.nan, np.inf, -np.inf)[participant % 3]
    return data._replace(images=table)


def table_model(dimension):
    """d parameters that start at 0.25."""
    return sd.Model(
        lambda key, example: jnp.full(dimension, 0.25, jnp.float32),
        lambda params, x: x[:, :CLASSES] + params[None, :CLASSES],
        "table",
    )


def table_train(params, data, public, round_, ids):
    """Updates from the table: LocalTrain's place in tests of what follows it."""
    updates = data.images[data.rows[ids, 0]]
    # In two pieces, as a model of two leaves gives them.
    updates = jnp.roll(updates, round_.astype(jnp.int32), axis=1)
    return (updates[:, :4], updates[:, 4:]), jnp.zeros(len(ids), jnp.float32)


class Built(NamedTuple):
    """A simulation on table updates, compiled for both forms of its round."""

    config: sd.Config
    simulation: sd.Simulation
    state: Any
    data: Any
    step: Any  # compiled: (state, data) -> (state, info)
    kept: Any  # compiled: (state, data) -> (state, info, rows)
    lowered: str  # text of the streamed step before XLA
    compiled: str  # and after


@functools.cache
def built(config, dimension=21, broken=(), kept=True):
    """Builds and compiles, once for all tests that ask for the same."""
    data = table_data(config.participants, dimension, broken)
    simulation = sd.build_simulation(config, table_model(dimension), data, train=table_train)
    data = place(data, simulation.recipe)
    state = place(simulation.init(), simulation.recipe)
    lowered = jax.jit(simulation.step).lower(state, data)
    step = lowered.compile()
    keep = None
    if kept:  # the kept form only has to be right, not fast
        quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
        keep = jax.jit(simulation.step_kept).lower(state, data).compile(quick)
    return Built(
        config, simulation, state, data, step, keep, lowered.as_text(), step.as_text() or ""
    )


# What a round must be


def settings_of(config, simulation):
    """The oracle's settings of a config."""
    plan = simulation.plan
    return reference.Settings(
        seed=config.seed,
        clip=config.clip,
        fraction_bits=plan.encoding.fraction_bits,
        prg_rounds=int(config.prg.removeprefix("chacha")),
        ring_bits=config.ring_bits,
        rounding=plan.headroom.rounding,
        neighbours=plan.neighbours,
        shares=config.shares,
        dropout_rule=config.rule_in_force.name,
        threshold=plan.threshold,
        max_dropout=repr(config.max_dropout),
        least_summed=plan.guarantees.least_summed,
        engine=config.engine,
    )


def oracle_rounds(made, rounds, vanishing=None):
    """The oracle's rounds in order, from the seed on; `vanishing[r]` ids, or the config's rate.

    Yields (chain, group, updates, reference.Round).
    """
    config, simulation = made.config, made.simulation
    settings = settings_of(config, simulation)
    data = jax.tree.map(np.asarray, made.data)
    chain, public = reference.initial_chain(config.seed), reference.public_key(config.seed)
    for number in range(rounds):
        group = reference.select_group(
            public, number, config.participants, config.group, config.selection
        )
        if vanishing is None:
            rate = repr(config.dropout)
            gone = reference.vanished_slots(public, number, config.group, rate)
        else:
            gone = {slot for slot, i in enumerate(group) if i in vanishing[number]}
        updates = np.roll(data.images[data.rows[group, 0]], number, axis=1)
        weights = data.counts[group] if config.weighting == "examples" else [1] * len(group)
        done = reference.share_round(settings, chain, number, group, updates, weights, gone)
        yield chain, group, updates, done
        chain = reference.next_chain(chain)


def check_round(made, state, expected):
    """Runs one round from `state` both ways and compares everything with the oracle's.

    Returns the streamed state and info.
    """
    chain, group, updates, want = expected
    config, bits = made.config, made.config.ring_bits
    kept_after, info, rows = made.kept(state, made.data)
    after, fast = made.step(state, made.data)
    same_trees(fast, info)
    for name in ("chain", "public", "round"):
        same_trees(getattr(kept_after, name), getattr(after, name))
    assert np.asarray(state.chain).tolist() == chain
    assert np.asarray(info.group).tolist() == group
    np.testing.assert_array_equal(np.asarray(rows.updates), updates)
    np.testing.assert_array_equal(np.asarray(rows.encoded), np.array(want.encoded, np.uint32))
    assert np.asarray(info.alive).tolist() == want.alive
    assert int(info.attempt) == want.attempt
    assert bool(info.void) == want.void
    finite = np.asarray(info.finite)
    assert int((~finite).sum()) == want.nonfinite
    assert int(np.asarray(info.clipped)[finite].sum()) == want.clipped
    if want.void:
        same_trees((after.params, after.server), (state.params, state.server))
        assert not bool(info.exact)
        for shown in (info.aggregate, info.digest, rows.uploads):
            assert not np.any(np.asarray(shown))
    else:
        each = np.asarray(rows.uploads)
        np.testing.assert_array_equal(each, np.array(want.uploads, np.uint32))
        aggregate = np.asarray(info.aggregate)
        np.testing.assert_array_equal(aggregate, np.array(want.aggregate, np.uint32))
        # The aggregate is the sum, in Python integers, of the messages that it must hold.
        held = finite if config.dropout_rule == "shamir" else np.array(want.alive)
        messages = [independent.values_of(want.encoded[s], bits) for s in np.flatnonzero(held)]
        np.testing.assert_array_equal(aggregate, independent.words_of(sum(messages), bits))
        assert bool(info.exact)
        # Streamed, kept, the oracle's, and the one that the uploads give: one digest.
        again = independent.digest_of(each, want.alive)
        np.testing.assert_array_equal(np.asarray(info.digest), again)
        np.testing.assert_array_equal(np.asarray(info.digest), np.array(want.digest, np.uint32))
        assert independent.sha256(info.digest) == want.uploads_sha256
        # Floats of two programs may differ in the last place: XLA fuses products into sums.
        before, mean = np.asarray(state.params), np.array(want.total)
        # Two roundings of the mean, one of the sum: at most 2 places of the largest of the three.
        magnitude = np.max(np.abs([before, mean, before + mean]), axis=0)
        apart = independent.ulps(after.params, before + mean, magnitude)
        worst = int(apart.argmax())
        told = (apart[worst], before[worst], mean[worst], np.asarray(after.params)[worst])
        assert apart[worst] <= 2, told
    assert np.asarray(after.chain).tolist() == reference.next_chain(chain)
    assert int(after.round) == int(state.round) + 1
    return after, info


def same_trees(first, second):
    """Equal leaf by leaf and bit by bit: a NaN equals itself, -0.0 is not 0.0."""
    left, right = jax.tree.leaves(first), jax.tree.leaves(second)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


# The matrix of what can be combined


class Case(NamedTuple):
    """One cell."""

    engine: str
    graph: Any  # complete, or k
    ring: int
    rule: str
    weighting: str
    shares: str

    @property
    def name(self):
        """For test ids."""
        return "-".join(str(part) for part in self)


def every_case():
    """Every combination of the six, meaningless ones included."""
    return [
        Case(*cell)
        for cell in itertools.product(
            ("pairwise", "ideal"),
            ("complete", 4),
            (32, 64),
            ("retry", "reveal", "shamir"),
            ("uniform", "examples"),
            ("directed", "paired"),
        )
    ]


def meaningful(case):
    """What the protocol allows: no pair shares to open in `ideal`; Shamir on the complete graph, in
    its own field.
    """
    if case.engine == "ideal" and case.rule != "retry":
        return False
    return case.rule != "shamir" or (case.graph == "complete" and case.ring == 32)


def distinct(case):
    """False for cells that name the same round as another: shares matter between pairs only."""
    pairs = case.engine == "pairwise" and case.rule != "shamir"
    return pairs or case.shares == "directed"


class Setting(NamedTuple):
    """How a case is run: options that the matrix leaves open take turns."""

    config: sd.Config
    broken: tuple[int, ...]


def setting_of(case):
    """Group 11 of 13, one vanishing in a round; a member or two not finite in half the cases."""
    turn = every_case().index(case)
    size = 11
    config = sd.Config(
        participants=13,
        group_size=size,
        engine=case.engine,
        neighbours=case.graph,
        ring_bits=case.ring,
        dropout_rule=case.rule,
        weighting=case.weighting,
        shares=case.shares,
        dropout=0.1 if turn % 5 else 0.0,
        max_dropout=0.5,
        threshold=4 if case.rule == "shamir" else "auto",
        prg=("chacha20", "chacha12", "chacha8")[turn % 3],
        rounding=("nearest", "nearest", "stochastic")[turn // 2 % 3],
        selection=("random", "rotate")[turn // 3 % 2],
        fraction_bits="auto" if turn % 7 else 11,
        tile_size=(4, 4, 1, 16)[turn % 4],
        devices=1,
        rounds=2,
        seed=2**40 + turn,
    )
    return Setting(config, (3, 8) if turn % 2 else ())


def bare_state(recipe, seed):
    """A state for modules that need no parameters."""
    return State(
        params=recipe.model.init(None, None),
        server=(),
        chain=jnp.array(reference.initial_chain(seed), jnp.uint32),
        public=jnp.array(reference.public_key(seed), jnp.uint32),
        round=jnp.uint32(0),
    )


# What JAX compiles


@contextmanager
def compilations():
    """A list that grows by one entry with every program that XLA compiles inside the block."""
    seen = []

    def listen(event, duration_secs, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@contextmanager
def compiled_rounds():
    """A list that grows by one line with every compilation of the round that JAX's log tells of."""
    seen, logger = [], logging.getLogger("jax")

    class Lines(logging.Handler):
        def emit(self, record):
            text = record.getMessage()
            if text.startswith("Compiling") and "ssddl_round" in text:
                seen.append(text)

    lines = Lines(logging.WARNING)
    logger.addHandler(lines)
    try:
        with jax.log_compiles():
            yield seen
    finally:
        logger.removeHandler(lines)


# What a program's text must not hold

# As MLIR writes types (tensor<4xui64>) and as HLO does (u64[4]). Numbers of an operation's own
# attributes (`array<i64: 0>`, `padding = dense<0> : tensor<1x2xi64>`) are no data of the program.
WIDE_MLIR = re.compile(r"tensor<[^>]*(?:i64|f64|complex<f64>)>")
ATTRIBUTE = re.compile(r"= dense<[^>]*> : tensor<[^>]*>")
WIDE_HLO = re.compile(r"\b(?:u64|s64|f64|c128)\[")
# Where the host could be called: by name of the target, or by an operation of that kind.
TARGET = re.compile(r'custom_call_target="([^"]*)"|stablehlo\.custom_call @([\w.]+)')
HOST = re.compile(r"callback|(?:stablehlo\.|\b)(?:infeed|outfeed|send|recv)\b[^=]*\(")
# What XLA writes that calls no code of the host.
HARMLESS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "TopK"}


def operations_of(text):
    """Without what tells where an operation comes from: names of Python files and functions."""
    lines = [line for line in text.splitlines() if " = " in line or "custom_call" in line]
    return re.sub(r", metadata=\{.*?\}|loc\(.*?\)", "", "\n".join(lines))


def faults_of(lowered, compiled):
    """64-bit types and calls of the host in a program's text."""
    found = WIDE_MLIR.findall(ATTRIBUTE.sub("", lowered)) + WIDE_HLO.findall(compiled)
    for text in map(operations_of, (lowered, compiled)):
        found += HOST.findall(text)
        names = {first or second for first, second in TARGET.findall(text)}
        found += sorted(names - HARMLESS)
    return found
