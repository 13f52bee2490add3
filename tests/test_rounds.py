"""Whole rounds equal the oracle bit for bit: a matrix of engines, graphs, rings, dropout rules,
weightings and kinds of shares, and every dropout pattern of a small group in one program.

A few rounds cover every value and show that the modules fit together. The rest of the matrix is
slow; `test_sharing` covers sharing alone, without training.
"""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import harness
import independent
import layers
import ssddl_jax as sd
from harness import Case, built, check_round, distinct, every_case, meaningful, setting_of
from ssddl_jax import reference
from ssddl_jax.core.accumulate import ring_sums
from ssddl_jax.core.round import LocalTrain, SelectGroup
from ssddl_jax.simulation.transcript import partner_tables, transcript_bytes


def chosen(case):
    """Any two choices in every way: a quarter of those with shares between pairs, most of those
    without.
    """
    seconds = (4, 64, "reveal", "examples", "paired")
    graph, ring, rule, weighting, shares = (s == v for s, v in zip(seconds, case[1:], strict=True))
    if case.rule == "shamir":
        return True
    if case.engine == "ideal":
        return graph + ring + weighting != 1
    return weighting == graph ^ ring and shares == graph ^ rule


CASES = [case for case in every_case() if meaningful(case) and distinct(case) and chosen(case)]
SPARSE = Case("pairwise", 4, 32, "retry", "examples", "paired")
WHOLE = {
    SPARSE,
    Case("pairwise", "complete", 32, "shamir", "examples", "directed"),
    Case("ideal", "complete", 32, "retry", "uniform", "directed"),
    Case("ideal", 4, 64, "retry", "examples", "directed"),
}


def params_of(cases):
    """The quick ones always, the others in CI."""
    return [
        pytest.param(case, id=case.name, marks=() if case in WHOLE else pytest.mark.slow)
        for case in cases
    ]


def test_partners_come_first_in_a_transcript_s_table():
    """In the order of their slots; the places of those who do not share follow."""
    scheme = layers.Layer("pairwise", "reveal", n=4).scheme
    scheme = scheme._replace(prg=[])  # one of the user's need not be hashable
    state = SimpleNamespace(chain=jnp.zeros(8, jnp.uint32), public=None, round=jnp.uint32(0))
    ids, members = np.array([10, 20, 30, 40]), np.array([False, True, True, True])
    table = partner_tables(scheme)(state, ids, members, 0)
    assert table.tolist() == [[-1] * 3, [30, 40, -1], [20, 40, -1], [20, 30, -1]]


def test_a_transcript_s_bytes_count_who_shares_with_whom():
    """The complete graph of 20,000 has more partners than a small message has words."""
    config = sd.Config(participants=20_000, group_size="all")
    plan = SimpleNamespace(size=20_000, width=100, neighbours=19_999)
    rows, table = 12 * 20_000 * 100, 4 * 20_000 * 19_999
    assert transcript_bytes(config, plan) == rows + 4 * table  # two attempts, each copied once
    assert transcript_bytes(replace(config, dropout_rule="reveal"), plan) == rows + 2 * table


@pytest.mark.parametrize("case", params_of(CASES))
def test_round_equals_the_oracle(case):
    config, broken = setting_of(case)
    made = built(config, broken=broken)
    state = made.state
    tables = partner_tables(made.simulation.recipe.scheme)
    for expected in harness.oracle_rounds(made, config.rounds):
        next_state, info = check_round(made, state, expected)
        if case.engine == "pairwise" and case.rule != "shamir":
            table = tables(state, info.group, info.members, int(info.attempt))
            shown = [sorted(i for i in row if i >= 0) for row in table.tolist()]
            assert shown == [sorted(row) for row in expected[3].neighbours]
        state = next_state


@pytest.mark.parametrize("case", params_of(CASES))
def test_text_has_no_wide_type_and_no_callback(case):
    config, broken = setting_of(case)
    made = built(config, broken=broken)  # compiled for the test above already
    assert "ENTRY" in made.compiled
    assert "stablehlo" in made.lowered
    assert not harness.faults_of(made.lowered, made.compiled)


def test_quick_cases_hold_every_choice():
    """Every pair of engine, graph, ring and rule in a round or in the sharing layer."""

    def pairs(rows):
        columns = [list(enumerate(row)) for row in rows]
        return {pair for column in columns for pair in itertools.combinations(column, 2)}

    alone = {
        (cell.engine, cell.graph if cell.graph == "complete" else 4, cell.bits, cell.rule)
        for cell in layers.CELLS
    }
    assert set(CASES) >= WHOLE
    assert pairs({case[:4] for case in CASES}) == pairs(alone | {case[:4] for case in WHOLE})
    played = {v for row in (*WHOLE, *alone) for v in row}
    assert {v for case in CASES for v in case} == played
    assert {setting_of(case).config.tile_size for case in WHOLE} == {1, 4, 16}
    assert {setting_of(case).config.rounding for case in WHOLE} == {"nearest", "stochastic"}
    assert {setting_of(case).config.selection for case in WHOLE} == {"random", "rotate"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.name) for c in every_case() if not meaningful(c) and distinct(c)],
)
def test_meaningless_combination_is_refused(case):
    with pytest.raises(sd.ConfigError) as caught:
        sd.Config(
            participants=13,
            group_size=11,
            engine=case.engine,
            neighbours=case.graph,
            ring_bits=case.ring,
            dropout_rule=case.rule,
            weighting=case.weighting,
            shares=case.shares,
        )
    assert caught.value.field in ("engine", "dropout_rule", "neighbours", "ring_bits")
    assert "\n" not in str(caught.value)


# Dropout patterns


def patterns_of(n):
    """Every set of slots that can vanish."""
    slots = range(n)
    return [set(s) for m in range(n + 1) for s in itertools.combinations(slots, m)]


def with_schedule(folder, patterns, **fields):
    """A config in which patterns[r], ids, vanish in round r; written to a schedule file."""
    path = folder / "schedule.csv"
    lines = [f"{r},{i}" for r, gone in enumerate(patterns) for i in sorted(gone)]
    path.write_text("round,participant\n" + "\n".join(lines) + "\n")
    base = {"rounds": len(patterns), "devices": 1, "seed": 5, "tile_size": 4}
    return sd.Config(**{**base, "dropout_schedule": str(path), **fields})


def check_patterns(config, patterns, dimension=17):
    """All patterns, a round each, in one compiled program; returns how many rounds were void."""
    made = built(config, dimension)
    state, void = made.state, 0
    warm = made.kept(state, made.data), made.step(state, made.data)
    jax.block_until_ready(warm)
    expected = harness.oracle_rounds(made, len(patterns), patterns)
    with harness.compilations() as seen:
        for wanted in expected:
            state, info = check_round(made, state, wanted)
            void += bool(info.void)
    assert not seen, "a dropout pattern made something compile"
    return void


def fields_of(n, rule, graph, **more):
    threshold = {"threshold": 3} if rule == "shamir" else {}
    return {
        "participants": n,
        "group_size": "all",
        "dropout_rule": rule,
        "neighbours": graph,
        "max_dropout": 1.0,
        **threshold,
        **more,
    }


def void_by_hand(config, patterns, graph):
    """How many of the patterns are void: fewer than three left, or (reveal) a ring in pieces."""
    n, count = config.participants, 0
    public = independent.public_of(config.seed)
    for number, gone in enumerate(patterns):
        left = sorted(set(range(n)) - gone)
        reached = set(left[:1])
        if config.dropout_rule == "reveal" and graph != "complete":
            ring = independent.ring_partners(public, number, 0, range(n), graph, n)
            for _ in left:
                reached |= {j for i in reached for j in ring[i]} & set(left)
        else:
            reached = set(left)
        count += len(left) < 3 or len(reached) < len(left)
    return count


ALL_PATTERNS = [
    (6, "retry", 2, {"ring_bits": 64}),
    (6, "retry", "complete", {"engine": "ideal", "weighting": "examples"}),
    (6, "shamir", "complete", {"weighting": "examples"}),
    (6, "reveal", 2, {"weighting": "examples"}),
    (6, "reveal", "complete", {"shares": "paired", "ring_bits": 64}),
    (4, "reveal", 2, {}),
    (3, "retry", "complete", {}),
    (3, "shamir", "complete", {}),
]
QUICK_PATTERNS = {(6, "reveal", 2)}  # the others are tried without training, see above


@pytest.mark.parametrize(
    ("n", "rule", "graph", "more"),
    [
        pytest.param(*row, marks=() if row[:3] in QUICK_PATTERNS else pytest.mark.slow)
        for row in ALL_PATTERNS
    ],
)
def test_every_dropout_pattern_of_a_small_group(tmp_path, n, rule, graph, more):
    patterns = patterns_of(n)
    config = with_schedule(tmp_path, patterns, **fields_of(n, rule, graph, **more))
    void = check_patterns(config, patterns)
    assert void == void_by_hand(config, patterns, graph)
    fewer = sum(n - len(gone) < 3 for gone in patterns)
    assert void > fewer if rule == "reveal" and graph == 2 and n > 4 else void == fewer


def test_void_rounds_leave_parameters_and_optimizer_state(tmp_path):
    """Adam's moments and count stand still in a void round, and move in the next; a void round
    shows neither its sum nor the digest of its uploads.
    """
    patterns = [set(), {0, 1, 2}, {0, 1, 2, 3}, {4}]
    fields = fields_of(5, "retry", "complete", server_optimizer="adam")
    config = with_schedule(tmp_path, patterns, **fields)
    with jax.numpy_dtype_promotion("standard"):  # optax's bias correction needs it
        made = built(config, 17, kept=False)
    state, states = made.state, [made.state]
    for gone in patterns:
        state, info = made.step(state, made.data)
        void = 5 - len(gone) < 3
        assert bool(info.void) == void
        for shown in (info.aggregate, info.digest):  # what a void round must not open
            assert np.any(np.asarray(shown)) != void
        states.append(state)
    for before, after in ((1, 2), (2, 3)):
        same = (states[before].params, states[before].server)
        harness.same_trees(same, (states[after].params, states[after].server))
        assert states[before].chain.tolist() != states[after].chain.tolist()
    for before, after in ((0, 1), (3, 4)):
        assert np.any(np.asarray(states[before].params) != np.asarray(states[after].params))
    counts = [int(jax.tree.leaves(s.server)[0]) for s in states]
    assert counts == [0, 1, 1, 1, 2]


def random_patterns(participants, rounds, salt, least=0):
    """From nobody to nearly everybody."""
    rng = np.random.default_rng([13, salt])
    sizes = rng.integers(0, participants - least + 1, rounds)
    return [set(rng.permutation(participants)[:size].tolist()) for size in sizes]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "graph", "more"),
    [
        ("reveal", 4, {"shares": "paired"}),
        ("retry", 6, {"ring_bits": 64}),
        ("retry", "complete", {"engine": "ideal"}),
        ("reveal", "complete", {"weighting": "examples"}),
        ("shamir", "complete", {}),
    ],
)
def test_random_dropout_patterns_of_a_group_of_twenty(tmp_path, rule, graph, more):
    patterns = random_patterns(23, 8, 1, least=2)
    fields = {**fields_of(23, rule, graph, **more), "group_size": 20}
    config = with_schedule(tmp_path, patterns, **fields)
    void = check_patterns(config, patterns)
    assert 0 < void < len(patterns)


@pytest.mark.slow
@pytest.mark.parametrize("shares", ["directed", "paired"])
def test_opened_keys_are_counted(tmp_path, shares):
    """Reveal on the complete graph: each survivor opens its keys with each of the vanished."""
    patterns = [set(), {1}, {1, 4}]
    config = with_schedule(tmp_path, patterns, **fields_of(6, "reveal", "complete", shares=shares))
    made = built(config, 17, kept=False)
    state = made.state
    for gone in patterns:
        state, info = made.step(state, made.data)
        keys = len(gone) * (6 - len(gone))
        assert int(info.opened) == (2 * keys if shares == "directed" else keys)


def test_a_member_that_is_not_finite_and_vanishes_makes_no_retry(tmp_path):
    """It never shared; the others' first attempt stands. One that shared and vanished does."""
    patterns = [{2}, {3}]
    config = with_schedule(tmp_path, patterns, **fields_of(6, "retry", "complete", engine="ideal"))
    made = built(config, 21, broken=(2,))
    state = made.state
    attempts = []
    for expected in harness.oracle_rounds(made, 2, patterns):
        state, info = check_round(made, state, expected)
        attempts.append(int(info.attempt))
    assert attempts == [0, 1]


def test_a_missing_mask_is_seen_in_the_digest_and_not_in_the_sum():
    """Why there is a digest: leave one pair's masks out, and only the digest differs."""
    layer = layers.Layer("pairwise", "retry")
    attempt, _, done = layers.played(layer, gone=(4,))
    first, second = np.flatnonzero(done.alive)[:2].tolist()
    uploads = np.array(done.uploads, np.uint32)
    for dealer, holder in ((first, second), (second, first)):
        ends = int(attempt.ids[dealer]), int(attempt.ids[holder])
        key = reference.derive_key(attempt.chain.tolist(), done.attempt, *ends, b"PAIR")
        share = reference.stream(key, (0, 0, 0), uploads.shape[1], layer.settings.prg_rounds)
        uploads[dealer] += np.array(share, np.uint32)
        uploads[holder] -= np.array(share, np.uint32)
    assert uploads.sum(0, dtype=np.uint32).tolist() == done.aggregate
    assert independent.digest_of(uploads, done.alive).tolist() != done.digest


# SelectGroup and LocalTrain alone


@pytest.mark.parametrize("selection", ["random", "rotate"])
def test_groups_are_the_oracles(tmp_path, selection):
    """Also where a pass of a rotation has several rounds; a schedule names ids, not slots."""
    everybody, size, rounds = 14, 4, 7
    patterns = random_patterns(everybody, rounds, size)
    fields = {"participants": everybody, "group_size": size, "selection": selection}
    config = with_schedule(tmp_path, patterns, **{**fields, "engine": "ideal", "max_dropout": 1.0})
    data, model = harness.table_data(everybody, 17), harness.table_model(17)
    recipe = sd.build_simulation(config, model, data, train=harness.table_train).recipe
    public = reference.public_key(config.seed)
    select = jax.jit(lambda state: SelectGroup(recipe, state))
    start = harness.bare_state(recipe, config.seed)
    for number in range(rounds):
        made = select(start._replace(round=jnp.uint32(number)))
        wanted = reference.select_group(public, number, everybody, size, selection)
        assert made.ids.tolist() == wanted
        assert made.vanished.tolist() == [i in patterns[number] for i in wanted]


TILE_RECIPES = {
    "wide": {"ring_bits": 64, "weighting": "examples"},
    "stochastic": {"rounding": "stochastic", "dropout": 0.2, "max_dropout": 0.5},
}


@pytest.mark.parametrize(
    ("name", "holds_sharers"),
    [pytest.param("wide", False, marks=pytest.mark.slow), ("stochastic", True)],
)
def test_words_do_not_depend_on_the_tile_size(name, holds_sharers):
    """Sums and digest of the encoded updates, and what is told of every slot."""

    def trained(tile_size):
        config = sd.Config(
            participants=13, group_size=11, devices=1, engine="ideal", tile_size=tile_size,
            **TILE_RECIPES[name],
        )  # fmt: skip
        data, model = harness.table_data(13, 21, (3, 8)), harness.table_model(21)
        recipe = sd.build_simulation(config, model, data, train=harness.table_train).recipe
        assert recipe.tile_size == tile_size
        run = LocalTrain(recipe, ring_sums(recipe.scheme, holds_sharers))
        state = harness.bare_state(recipe, 5)
        data = jax.tree.map(jnp.asarray, data)
        return jax.jit(lambda s, d: run(s, d, SelectGroup(recipe, s)))(state, data)

    one, other = (trained(size) for size in (1, 3))  # and 4, 1 and 16 in the rounds above
    assert np.any(np.asarray(one[0].total))
    assert not np.all(np.asarray(one[1].finite))
    harness.same_trees(other, one)


# Forward security


def words_in(tree):
    """Every 32-bit word of every leaf, as a set."""
    found = set()
    for leaf in jax.tree.leaves(tree):
        found |= set(
            np.atleast_1d(np.asarray(leaf)).ravel().view(np.uint8).tobytes().hex(":", 4).split(":")
        )
    return found


def as_word(value):
    return int(value).to_bytes(4, "little").hex()


def test_state_opens_no_earlier_round_and_every_later_one():
    config, broken = setting_of(SPARSE)
    made = built(config, broken=broken)
    first, info = made.step(made.state, made.data)
    second, later = made.step(first, made.data)
    stolen = np.asarray(first.chain).tolist()  # S_1
    # The control: with S_1, round 1 and all that follow are an open book.
    _, group, updates, done = list(harness.oracle_rounds(made, 2))[1]
    settings = harness.settings_of(config, made.simulation)
    dropped = reference.vanished_slots(
        reference.public_key(config.seed), 1, config.group, repr(config.dropout)
    )
    weights = np.asarray(made.data.counts)[group]
    again = reference.share_round(settings, stolen, 1, group, updates, weights, dropped)
    assert again.uploads == done.uploads
    assert again.aggregate == np.asarray(later.aggregate).tolist()
    assert reference.next_chain(stolen) == np.asarray(second.chain).tolist()
    # No word of S_0 is left in what round 0 hands on, of S_1 in what round 1 does.
    for before, after in ((made.state, (first, info)), (first, (second, later))):
        secret = {as_word(word) for word in np.asarray(before.chain)}
        assert len(secret) == 8
        assert not secret & words_in(after)
    assert {as_word(word) for word in stolen} <= words_in(first)  # the search finds what is there
