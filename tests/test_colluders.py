"""How many may collude: never more than any round that stands withstands, by trying every round."""

import itertools

import pytest

import independent
import layers
import ssddl_jax as sd
from layers import Layer
from ssddl_jax.checks import least_alive, sharing_graph


def figure(**fields):
    """`max_colluders` of everybody's round."""
    return sharing_graph(sd.Config(group_size="all", **fields))[2]


def withstands(n, standing, opening):
    """The most colluders c for which, whoever they are, every sum that stands holds two honest
    updates, and whose shares do not open a secret: c < `opening`, if shares do.
    """
    for colluders in range(n + 1):
        honest = min(len(sharers) - min(colluders, len(sharers)) for sharers in standing)
        if honest < 2 or (opening is not None and colluders >= opening):
            return colluders - 1
    return n


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8])
@pytest.mark.parametrize("dropout", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("rule", ["retry", "reveal"])
def test_complete_graphs_by_every_round(n, dropout, rule):
    """Who is excluded, or vanishes, is not in the sum."""
    fields = {"participants": n, "max_dropout": dropout, "dropout_rule": rule}
    least = least_alive(sd.Config(group_size="all", **fields))
    sums = [s for m in range(n + 1) for s in itertools.combinations(range(n), m)]
    standing = [s for s in sums if len(s) >= least]
    assert figure(**fields) == withstands(n, standing, None)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8])
@pytest.mark.parametrize("protocol", ["ssddl", "secagg"])
def test_where_shares_open_secrets_by_every_round(n, protocol):
    """Every threshold; the sum holds the sharers (shamir), or the survivors (secagg)."""
    for t in range(2, n if protocol == "secagg" else n + 1):
        rule = {} if protocol == "secagg" else {"dropout_rule": "shamir"}
        found = figure(participants=n, threshold=t, protocol=protocol, **rule)
        sums = [s for m in range(n + 1) for s in itertools.combinations(range(n), m)]
        standing = [s for s in sums if len(s) >= max(3, t)]
        assert found == withstands(n, standing, t), t


@pytest.mark.parametrize(("k", "t"), [(2, 2), (4, 2), (4, 3), (4, 4)])
def test_secagg_plus_never_claims_more(k, t):
    """One ring of eight, whoever colludes and whoever vanishes: each sum that the server can tell
    apart holds two honest updates, and no member has t holders that collude.
    """
    n = 8
    most = figure(participants=n, protocol="secagg+", neighbours=k, threshold=t)
    ring = [[(u + d) % n for d in range(-(k // 2), k // 2 + 1) if d] for u in range(n)]
    for size in range(n + 1):
        for left in map(set, itertools.combinations(range(n), size)):
            holders = [len({u, *ring[u]} & left) for u in range(n)]
            stands = len(left) >= max(3, t) and min(holders) >= t
            if not (stands and independent.in_one_piece(ring, left)):
                continue
            for bad in map(set, itertools.combinations(range(n), most)):
                assert max(len({u, *ring[u]} & bad) for u in range(n)) < t
                assert len(left - bad) >= 2


def test_a_sum_of_two_sharers_never_stands():
    """Four of six are excluded before they share; any two shares open one."""
    layer = Layer("pairwise", "shamir", threshold=2)
    one = layers.played(layer, broken=[0, 2, 3, 5])
    assert layers.check(layer, "rolled", one)
    assert not layers.check(layer, "rolled", layers.played(layer, broken=[0, 2, 3]))
