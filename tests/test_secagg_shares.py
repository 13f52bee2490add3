"""SecAgg and SecAgg+ scheme by scheme, without training: every word against the oracle, and every
set of survivors.
"""

import itertools

import jax
import numpy as np
import pytest

import harness
import independent
import ssddl_jax as sd
from secagg_cases import ROUND, SEED, Case, attempt_of, check, compiled, messages_of
from ssddl_jax.sharing import secagg
from ssddl_jax.sharing.pairwise import geometry_of
from test_program import faults_of

# The oracle, word for word


@pytest.mark.parametrize("keep", [False, True], ids=["streamed", "kept"])
@pytest.mark.parametrize(
    "case",
    [
        Case(7, 4),
        Case(7, 4, prg="chacha8"),
        Case(9, 3, k=4),
        Case(9, 3, k=4, prg="chacha8"),
        Case(30, 3, k=4),  # large enough for the rolling band of masks
    ],
    ids=str,
)
def test_round_equals_the_oracle(case, keep):
    everybody = set(range(case.n))
    for members, alive in [
        (everybody, everybody),
        (everybody, everybody - {2}),
        (everybody - {1}, everybody - {1, 4, 6}),  # slot 1's update was not finite
    ]:
        assert not check(case, members, alive, keep).void
    assert geometry_of(case.scheme).rolls == (case.n == 30)


@pytest.mark.parametrize(
    "case", [Case(7, 4, bits=64), Case(9, 3, k=4, bits=64, prg="chacha8")], ids=str
)
def test_wide_ring_equals_the_oracle(case):
    everybody = set(range(case.n))
    assert secagg(case.scheme).keeps
    for members, alive in [
        (everybody, everybody),
        (everybody - {1}, everybody - {1, 4, 6}),
    ]:
        assert not check(case, members, alive, keep=True).void


def test_optimised_program_and_more_devices_give_the_same_bits():
    case = Case(9, 3, k=4)
    everybody, alive = set(range(9)), {0, 1, 2, 4, 6, 7, 8}
    attempt, messages = attempt_of(case, everybody, alive), messages_of(case, alive, False)
    want = compiled(case, False)[0](attempt, messages)
    program, lowered = compiled(case, False, options=False)
    harness.same_trees(program(attempt, messages), want)
    assert not faults_of(lowered, program.as_text())
    more = case._replace(devices=3)
    share = jax.jit(secagg(more.scheme).share)
    harness.same_trees(share(attempt, messages), want)


# Who may vanish


EVERY = [Case(6, 4), Case(5, 3), Case(4, 3), Case(3, 2), Case(6, 2, k=2), Case(6, 4, k=4)]


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_every_set_of_survivors(case):
    """Recovered, and exact, if and only if every member has t holders left; nothing compiles."""
    everybody = set(range(case.n))
    sets = [set(s) for m in range(case.n + 1) for s in itertools.combinations(everybody, m)]
    ring = independent.ring_partners(
        independent.public_of(SEED), ROUND, 0, sorted(everybody), case.k or case.n - 1, case.n
    )
    check(case, everybody, everybody, False)
    with harness.compilations() as seen:
        void = [check(case, everybody, alive, False).void for alive in sets]
    assert not seen
    few = [
        len(alive) < 2 or any(len({u, *ring[u]} & alive) < case.t for u in everybody)
        for alive in sets
    ]
    assert void == few
    assert 0 < sum(void) < len(sets)
    if case.k is None:
        assert few == [len(alive) < case.t for alive in sets]


def test_whole_rounds_void_below_the_threshold(tmp_path):
    """Five of seven are needed: two vanish, then three, then nobody."""
    path, patterns = tmp_path / "schedule.csv", [{1, 4}, {0, 2, 6}, set()]
    lines = [f"{r},{i}" for r, gone in enumerate(patterns) for i in sorted(gone)]
    path.write_text("\n".join(["round,participant", *lines]) + "\n")
    config = sd.Config(
        participants=7,
        group_size="all",
        protocol="secagg",
        threshold=5,
        dropout_schedule=str(path),
        rounds=3,
        tile_size=4,
        devices=1,
    )
    made = harness.built(config)
    state = made.state
    for gone in patterns:
        after, info, rows = made.kept(state, made.data)
        streamed, told = made.step(state, made.data)
        harness.same_trees(told, info)
        alive = np.array([i not in gone for i in range(7)])
        assert np.asarray(info.alive).tolist() == alive.tolist()
        assert bool(info.void) == (len(gone) == 3)
        assert bool(info.exact) == (not info.void)
        if info.void:
            assert not np.any(np.asarray(rows.uploads))
            assert int(info.opened) == 0
            harness.same_trees((after.params, after.server), (state.params, state.server))
        else:
            messages = [independent.values_of(row, 32) for row in np.asarray(rows.encoded)[alive]]
            total = independent.words_of(sum(messages), 32)
            np.testing.assert_array_equal(np.asarray(info.aggregate), total)
            assert int(info.opened) == 7 * (7 - len(gone))
        state = streamed
