"""SecAgg and SecAgg+ without training: every word equals the oracle's, for every set of survivors.
Each case is one program that runs with many sets of members and survivors.
"""

import itertools

import pytest

import harness
import independent
from secagg_cases import ROUND, SEED, Case, check, check_shares, oracle, oracles
from ssddl_jax.core.sharing.schedules.tiled import geometry_of
from ssddl_jax.core.sharing.secagg import secagg

# The oracle, word for word


@pytest.mark.parametrize(
    ("case", "keep"),
    [
        pytest.param(Case(7, 4, prg="chacha8"), False, marks=pytest.mark.slow),
        pytest.param(Case(9, 3, k=4, prg="chacha12"), True, marks=pytest.mark.slow),
        (Case(30, 3, k=4), False),  # large enough for the rolling band of masks
        pytest.param(Case(30, 3, k=4), True, marks=pytest.mark.slow),
        (Case(9, 3, k=4, bits=64, prg="chacha8-unrolled"), True),  # the wide ring keeps its rows
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
    assert secagg(case.scheme).keeps == (case.bits == 64)


def test_a_scheme_where_nobody_may_vanish():
    """The server has no pair masks to take away, and its program none to make."""
    case, everybody = Case(9, 3, k=4), set(range(9))
    assert not check(case, everybody, everybody, False, nobody=True).void
    assert not check(case, everybody - {1}, everybody - {1}, False, nobody=True).void


# Who may vanish


EVERY = [
    pytest.param(Case(6, 4), marks=pytest.mark.slow),
    pytest.param(Case(4, 3), marks=pytest.mark.slow),
    Case(3, 2),
    Case(6, 2, k=2),
    pytest.param(Case(6, 4, k=4), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_every_set_of_survivors(case):
    """Recovered, and exact, if and only if every member has t holders left, and what is left is one
    sum of at least three; nothing compiles.
    """
    everybody = set(range(case.n))
    sets = [set(s) for m in range(case.n + 1) for s in itertools.combinations(everybody, m)]
    ring = independent.ring_partners(
        independent.public_of(SEED), ROUND, 0, sorted(everybody), case.k or case.n - 1, case.n
    )
    wanted, most = oracles(case), everybody - {case.n - 1}
    check_shares(case, everybody, everybody, False, wanted(everybody))
    harness.same_trees(wanted(most), oracle(case, everybody, most))
    with harness.compilations() as seen:
        void = [check_shares(case, everybody, alive, False, wanted(alive)) for alive in sets]
    assert not seen
    few = [
        len(alive) < 3
        or any(len({u, *ring[u]} & alive) < case.t for u in everybody)
        or not independent.in_one_piece(ring, alive)
        for alive in sets
    ]
    assert void == few
    assert 0 < sum(void) < len(sets)
    if case.k is None:
        assert few == [len(alive) < max(3, case.t) for alive in sets]
