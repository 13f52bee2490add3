"""One matrix: every engine, graph, ring, dropout rule, weighting and kind of shares, against the
oracle bit for bit; and every dropout pattern of small groups, in one compiled program.
"""

import itertools

import jax
import numpy as np
import pytest

import harness
import independent
import ssddl_jax as sd
from harness import Case, built, check_round, distinct, every_case, meaningful, setting_of
from ssddl_jax import reference
from ssddl_jax.transcript import partner_table

CASES = [case for case in every_case() if meaningful(case) and distinct(case)]


def params_of(cases):
    """The quick ones always, the others where there is time: all of them in CI."""
    return [
        pytest.param(case, id=case.name, marks=() if case in harness.QUICK else pytest.mark.slow)
        for case in cases
    ]


@pytest.mark.parametrize("case", params_of(CASES))
def test_round_equals_the_oracle(case):
    config, broken = setting_of(case)
    made = built(config, broken=broken)
    state = made.state
    for expected in harness.oracle_rounds(made, config.rounds):
        next_state, info = check_round(made, state, expected)
        if case.engine == "pairwise" and case.rule != "shamir":
            scheme = made.simulation.recipe.scheme
            table = partner_table(scheme, state, info.group, info.members, int(info.attempt))
            shown = [sorted(i for i in row if i >= 0) for row in table.tolist()]
            assert shown == [sorted(row) for row in expected[3].neighbours]
        state = next_state


def test_quick_cases_hold_every_choice():
    def pairs(cases):
        columns = [list(enumerate(case))[:4] for case in cases]
        return {pair for column in columns for pair in itertools.combinations(column, 2)}

    assert set(CASES) >= harness.QUICK
    assert pairs(CASES) == pairs(harness.QUICK)
    assert {v for case in CASES for v in case} == {v for case in harness.QUICK for v in case}


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
    (6, "retry", "complete", {}),
    (6, "retry", 2, {"ring_bits": 64}),
    (6, "retry", "complete", {"engine": "ideal", "weighting": "examples"}),
    (6, "reveal", 2, {"weighting": "examples"}),
    (6, "reveal", 4, {"shares": "paired"}),
    (6, "reveal", "complete", {"shares": "paired", "ring_bits": 64}),
    (6, "shamir", "complete", {"weighting": "examples"}),
    (5, "retry", 2, {"shares": "paired"}),
    (5, "reveal", 2, {"ring_bits": 64, "shares": "paired"}),
    (4, "reveal", 2, {}),
    (3, "retry", "complete", {}),
    (3, "shamir", "complete", {}),
]
QUICK_PATTERNS = {(6, "retry", 2), (6, "reveal", 2), (6, "shamir", "complete")}


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
    """Adam's moments and count stand still in a void round, and move in the next."""
    patterns = [set(), {0, 1, 2}, {0, 1, 2, 3}, {4}]
    fields = fields_of(5, "retry", "complete", server_optimizer="adam")
    config = with_schedule(tmp_path, patterns, **fields)
    with jax.numpy_dtype_promotion("standard"):  # optax's bias correction needs it
        made = built(config, 17, kept=False)
    state, states = made.state, [made.state]
    for gone in patterns:
        state, info = made.step(state, made.data)
        assert bool(info.void) == (5 - len(gone) < 3)
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


@pytest.mark.parametrize(
    ("rule", "graph", "more"),
    [
        ("retry", 4, {"shares": "paired"}),
        ("reveal", 4, {}),
        pytest.param("retry", 6, {"ring_bits": 64}, marks=pytest.mark.slow),
        pytest.param("retry", "complete", {"engine": "ideal"}, marks=pytest.mark.slow),
        pytest.param("reveal", "complete", {"weighting": "examples"}, marks=pytest.mark.slow),
        pytest.param("reveal", 8, {"shares": "paired"}, marks=pytest.mark.slow),
        pytest.param("shamir", "complete", {}, marks=pytest.mark.slow),
    ],
)
def test_random_dropout_patterns_of_a_group_of_twenty(tmp_path, rule, graph, more):
    patterns = random_patterns(23, 16, len(more), least=2)
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
    config = with_schedule(tmp_path, [{2}, {3}], **fields_of(6, "retry", "complete"))
    made = built(config, 21, broken=(2,))
    state = made.state
    attempts = []
    for expected in harness.oracle_rounds(made, 2, [{2}, {3}]):
        state, info = check_round(made, state, expected)
        attempts.append(int(info.attempt))
    assert attempts == [0, 1]


def test_a_missing_mask_is_seen_in_the_digest_and_not_in_the_sum():
    """Why there is a digest: leave one pair's masks out, and only the digest differs."""
    config, broken = setting_of(Case("pairwise", "complete", 32, "retry", "uniform", "directed"))
    made = built(config, broken=broken)
    chain, group, _, done = next(harness.oracle_rounds(made, 1))
    first, second = np.flatnonzero(done.alive)[:2].tolist()
    uploads = np.array(done.uploads, np.uint32)
    rounds = int(config.prg.removeprefix("chacha"))
    for dealer, holder in ((first, second), (second, first)):
        key = reference.derive_key(chain, done.attempt, group[dealer], group[holder], b"PAIR")
        share = reference.stream(key, (0, 0, 0), uploads.shape[1], rounds)
        uploads[dealer] += np.array(share, np.uint32)
        uploads[holder] -= np.array(share, np.uint32)
    assert uploads.sum(0, dtype=np.uint32).tolist() == done.aggregate
    assert independent.digest_of(uploads, done.alive).tolist() != done.digest
