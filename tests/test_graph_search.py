"""The graph search agrees with published rows, and with the formulas in exact integers."""

import json
from fractions import Fraction
from functools import cache
from math import comb, factorial, floor, perm
from pathlib import Path

import numpy as np
import pytest

from ssddl_jax.planning import graph_search
from ssddl_jax.planning.graph_search import (
    max_colluders,
    most_below_threshold,
    smallest_graph,
    threshold_for,
)

TABLE = json.loads((Path(__file__).parent / "vectors" / "secagg_plus.json").read_text())


@pytest.mark.parametrize("row", TABLE["rows"], ids=str)
def test_equals_the_published_rows(row):
    plan = smallest_graph(row["n"], row["gamma"], row["delta"], TABLE["sigma"], TABLE["eta"])
    assert plan.neighbours == row["k"]
    assert plan.threshold <= row["t_max"] <= plan.threshold_max
    assert plan.complete is False


# The formulae as they stand, in exact integers


def brute_connected(n, k, bad, sigma):
    if k > bad:
        return True
    if bad > n:
        return False
    ratio = Fraction(factorial(bad) * factorial(n - k), factorial(n) * factorial(bad - k))
    return Fraction(n * (n - k - 1), 2) * ratio < Fraction(1, 2 ** (sigma + 1))


@cache
def brute_below(n, good, k, t):
    """Pr[Hyp(n, good, k) < t]."""
    ways = sum(comb(good, h) * comb(n - good, k - h) for h in range(min(t, k + 1)))
    return Fraction(ways, comb(n, k))


def brute_thresholds(n, k, corrupt, dropped, sigma, eta):
    safe = Fraction(1, n * 2 ** (sigma + 1))
    t1 = next(t for t in range(k + 1) if 1 - brute_below(n, corrupt, k, t + 1) <= safe)
    live = Fraction(1, n * 2**eta)
    t2 = max(t for t in range(k + 1) if brute_below(n, n - dropped, k, t) <= live)
    return max(t1 + 1, 2), t2


def brute_graph(n, corrupt, dropped, sigma, eta):
    """(k, t, t2) by trying every k, or None."""
    for k in [*range(2, n - 1, 2), n - 1]:
        if k == n - 1 or brute_connected(n, k, corrupt + dropped, sigma):
            t, t_max = brute_thresholds(n, k, corrupt, dropped, sigma, eta)
            if t <= t_max:
                return k, t, t_max
    return None


@pytest.mark.parametrize(("sigma", "eta"), [(0, 0), (1, 2), (5, 3), (12, 20)])
def test_equals_brute_force_for_small_groups(sigma, eta):
    feasible = infeasible = 0
    for n in [3, 4, 5, 6, 9, 16, 23]:
        for corrupt in range(0, n, max(1, n // 6)):
            for dropped in range(0, n, max(1, n // 6)):
                expected = brute_graph(n, corrupt, dropped, sigma, eta)
                fractions = decimal(corrupt, n), decimal(dropped, n)
                if expected is None:
                    infeasible += 1
                    with pytest.raises(ValueError, match="nearest that works"):
                        smallest_graph(n, *fractions, sigma, eta)
                    continue
                feasible += 1
                plan = smallest_graph(n, *fractions, sigma, eta)
                assert (plan.neighbours, plan.threshold, plan.threshold_max) == expected
                assert plan.complete is (plan.neighbours == n - 1)
    assert feasible > 50
    assert infeasible > 20


@pytest.mark.parametrize(
    ("n", "corrupt", "dropped", "sigma", "eta"),
    [(60, 9, 9, 8, 8), (120, 30, 30, 10, 10), (120, 0, 50, 20, 10), (150, 60, 50, 12, 6)],
)
def test_equals_brute_force_for_middling_groups(n, corrupt, dropped, sigma, eta):
    """Here the sparse graph wins, and least-ness over every smaller k is tried by brute force."""
    plan = smallest_graph(n, decimal(corrupt, n), decimal(dropped, n), sigma, eta)
    expected = brute_graph(n, corrupt, dropped, sigma, eta)
    assert (plan.neighbours, plan.threshold, plan.threshold_max) == expected
    assert not plan.complete


def decimal(count, n):
    return graph_search._decimal(count, n)


def test_every_tail_and_connection_equals_brute_force():
    for n in (7, 12):
        for bits in (0, 1, 3, 9):
            for good in range(n + 1):
                for k in range(1, n):
                    live = Fraction(1, n * 2**bits)
                    t = max(t for t in range(k + 1) if brute_below(n, good, k, t) <= live)
                    assert graph_search._greatest_below(n, good, k, bits) == t
            for bad in range(n + 1):
                for k in range(1, n - 1):
                    expected = brute_connected(n, k, bad, bits)
                    assert graph_search._connected(n, k, bad, bits) == expected


def test_ties_are_decided_in_integers(monkeypatch):
    """Pr[H < 1] = 1 / 4 = 2^-0 / 4 exactly: the bound holds, which floats cannot tell."""
    asked = []
    real = graph_search._exactly_below
    monkeypatch.setattr(graph_search, "_exactly_below", lambda *a: asked.append(a) or real(*a))
    assert brute_below(4, 3, 1, 1) == Fraction(1, 4)
    assert graph_search._greatest_below(4, 3, 1, 0) == 1
    assert asked == [(4, 3, 1, 1, 0)]
    for n, bad, k in [(5, 2, 2), (11, 5, 4), (10, 7, 6)]:
        assert n * (n - k - 1) * perm(bad, k) == perm(n, k)  # the bound is 2^-(0 + 1) exactly
        assert not graph_search._connected(n, k, bad, 0)  # equal is not less


def test_large_groups_are_least():
    """At the answer all conditions hold in exact integers; two neighbours fewer, one fails."""
    for n, gamma, delta, eta in [(10**6, "0.05", "0.05", 20), (10**5, "0.05", "0.33", 20)]:
        corrupt, dropped = floor(Fraction(gamma) * n), floor(Fraction(delta) * n)
        k = smallest_graph(n, gamma, delta, 40, eta).neighbours

        def works(k, n=n, corrupt=corrupt, dropped=dropped, eta=eta):
            def perms(total):
                return np.prod([total - i for i in range(k)], dtype=object)

            joined = n * (n - k - 1) * perms(corrupt + dropped) * 2**40 < perms(n)
            t, t_max = brute_thresholds(n, k, corrupt, dropped, 40, eta)
            return joined and t <= t_max

        assert works(k)
        assert not any(works(smaller) for smaller in range(k - 8, k, 2))


def test_fractions_are_exact_decimals():
    assert floor(0.29 * 100) == 28  # what binary fractions would give
    assert graph_search._counts(100, 0.29, "0.57") == (29, 57)
    for n in range(3, 60):
        for count in range(n):
            assert graph_search._counts(n, decimal(count, n), 0) == (count, 0)
    for name, fractions in [("max_corrupt", (1, 0)), ("max_dropout", (0, -0.1))]:
        with pytest.raises(ValueError, match=name):
            smallest_graph(10, *fractions)
    with pytest.raises(ValueError, match="'n'"):
        smallest_graph(2, 0, 0)


def test_small_groups_get_the_complete_graph():
    plan = smallest_graph(10, "0.5", "0.3")
    assert (plan.neighbours, plan.complete) == (9, True)
    assert (plan.threshold, plan.threshold_max) == brute_thresholds(10, 9, 5, 3, 40, 30)


def test_the_error_names_fractions_that_work():
    with pytest.raises(ValueError, match=r"max_dropout 0\.38, or max_corrupt 0\.46\.") as error:
        smallest_graph(50, "0.58", "0.5")
    assert "\n" not in str(error.value)
    for fractions in [("0.58", "0.38"), ("0.46", "0.5")]:
        assert smallest_graph(50, *fractions)
    for fractions in [("0.58", "0.4"), ("0.48", "0.5")]:
        with pytest.raises(ValueError, match="nearest"):
            smallest_graph(50, *fractions)
    with pytest.raises(ValueError, match=r"max_corrupt 0\.8 and max_dropout 0\."):
        smallest_graph(10, "0.99", "0.99")
    assert smallest_graph(10, "0.8", "0").complete


def test_threshold_for_a_given_graph():
    for n, k in [(20, 6), (20, 19), (40, 20), (3, 2)]:
        expected = brute_thresholds(n, k, n // 10, n // 10, 5, 5)
        assert threshold_for(n, k, "0.1", "0.1", 5, 5) == expected
    with pytest.raises(ValueError, match="1000 with 10 neighbours"):
        threshold_for(1000, 10, "0.3", "0.3")
    for k in (0, 20):
        with pytest.raises(ValueError, match="'k'"):
            threshold_for(20, k, "0.1", "0.1")


def test_max_colluders():
    assert max_colluders(25, 24, "0.1", "0.1") == 23
    k = smallest_graph(1000, "0.05", "0.05").neighbours
    assert max_colluders(1000, k, "0.05", "0.05") == 50
    for n, k, dropped in [(100, 6, 3), (100, 12, 10), (40, 4, 8)]:
        most = max_colluders(n, k, "0.5", decimal(dropped, n), 10)
        held = [c for c in range(n // 2 + 1) if brute_connected(n, k, c + dropped, 10)]
        assert most == max(held, default=0) < n // 2


def brute_caught(m, k, t, c):
    """The union bound over the m - c honest members that t or more of their k partners collude."""
    k = min(k, m - 1)
    ways = sum(comb(c, h) * comb(m - 1 - c, k - h) for h in range(t, min(k, c) + 1))
    return (m - c) * Fraction(ways, comb(m - 1, k))


@pytest.mark.parametrize("sigma", [1, 5, 10, 20])
@pytest.mark.parametrize(("n", "k"), [(8, 4), (12, 6), (25, 6), (60, 12), (200, 20)])
def test_colluders_that_are_few_among_everybody_s_partners(n, k, sigma):
    """As many as the formula allows in the smallest ring; it holds in every ring that stands."""
    safe = Fraction(1, 2 ** (sigma + 1))
    for t in range(2, k + 1):
        for least in {n, n - n // 10, n - n // 4, max(3, n // 3)}:
            near, limit = min(k, least - 1), min(n // 2, least - 1)
            works = [
                c < t or least * (1 - brute_below(least, c, near, t)) <= safe
                for c in range(limit + 1)
            ]
            most = most_below_threshold(n, least, k, t, "0.5", sigma)
            assert most == [*works, False].index(False) - 1
            for ring in range(least, n + 1, max(1, (n - least) // 7)):
                assert brute_caught(ring, k, t, most) <= safe


def test_secagg_plus_withstands_nearly_as_many_as_it_was_made_for():
    """k = 52, t = 28: of a thousand, 100 corrupt; a tenth may be excluded before the draw."""
    plan = smallest_graph(1000, "0.1", "0.1")
    args = plan.neighbours, plan.threshold, "0.1"
    assert most_below_threshold(1000, 1000, *args) == 100
    assert most_below_threshold(1000, 900, *args) == 94
    assert most_below_threshold(1000, 900, 52, 2, "0.1") == 1
