"""The claimed number of colluders is never more than a valid round tolerates; tries every round.

The condition for a void round is written again here, from docs/protocol.md, section 5.
"""

import itertools
from fractions import Fraction
from math import comb, floor, perm

import numpy as np
import pytest

import independent
import layers
import ssddl_jax as sd
from layers import Layer
from ssddl_jax.planning.graph_search import log2_cut
from ssddl_jax.planning.guarantees import guarantees_of
from ssddl_jax.privacy.certificate import certificate
from ssddl_jax.privacy.exposure import full_header
from ssddl_jax.privacy.messages import Adversary

DROPOUTS = (0.0, 0.1, 0.25, 0.34, 0.5, 0.75, 0.9)


def guarantees(n, rule="retry", **fields):
    """What the package says of everybody's round."""
    if rule == "secagg":
        protocol = {"protocol": "secagg+" if "neighbours" in fields else "secagg"}
    else:
        protocol = {"dropout_rule": rule}
    return guarantees_of(sd.Config(participants=n, group_size="all", **protocol, **fields))


def left_of(n, dropout):
    """n - floor(max_dropout n), in exact decimals."""
    return n - floor(Fraction(str(dropout)) * n)


def stands(rule, n, t, dropout, excluded, vanished):
    """Whether a round on the complete graph is not void: so many do not share, so many share and
    do not upload.
    """
    sharers, alive = n - excluded, n - excluded - vanished
    if rule == "shamir":
        return alive >= t and sharers >= max(3, t)
    return alive >= max(3, t if rule == "secagg" else left_of(n, dropout))


def withstood(rule, n, t, dropout):
    """The most colluders c for which every sum that stands holds two honest updates, whoever is in
    it, and whose shares open no secret: by symmetry only numbers matter.
    """
    sums = [
        n - excluded - (0 if rule == "shamir" else vanished)
        for excluded in range(n + 1)
        for vanished in range(n + 1 - excluded)
        if stands(rule, n, t, dropout, excluded, vanished)
    ]
    opens = rule in ("shamir", "secagg")
    held = [c for c in range(n) if min(sums) - c >= 2 and not (opens and c >= t)]
    return max(held)


@pytest.mark.parametrize("n", range(3, 9))
@pytest.mark.parametrize("rule", ["retry", "reveal", "shamir", "secagg"])
def test_complete_graphs_by_every_round(n, rule):
    """Every threshold, dropout and exclusion."""
    last = {"shamir": n, "secagg": n - 1}.get(rule, 2)
    for t, dropout in itertools.product(range(2, last + 1), DROPOUTS):
        fields = {"threshold": t} if rule in ("shamir", "secagg") else {}
        found = guarantees(n, rule, max_dropout=dropout, **fields)
        assert found.max_colluders == withstood(rule, n, t, dropout), (t, dropout)
        assert found.failure == 0
        assert stands(rule, n, t, dropout, n - found.least_summed, 0)
        assert not stands(rule, n, t, dropout, n - found.least_summed + 1, 0)
        if found.least_alive < n:
            assert stands(rule, n, t, dropout, 0, n - found.least_alive)
        assert not stands(rule, n, t, dropout, 0, n - found.least_alive + 1)


def test_an_automatic_threshold_withstands_as_many_as_are_corrupt():
    """A round of shamir is void if its sum leaves fewer than two honest updates, where max_dropout
    leaves so many; t itself does not change.
    """
    found = guarantees(25, "shamir")  # two corrupt: a sum of three would show the third update
    assert (found.threshold, found.least_summed, found.max_colluders) == (3, 4, 2)
    assert guarantees(25, "shamir", threshold=3).max_colluders == 1
    for n, gamma, dropout in itertools.product((5, 8, 10, 25, 64), (0.0, 0.1, 0.3), DROPOUTS[:4]):
        fields = {"max_corrupt": gamma, "max_dropout": dropout}
        try:
            found = guarantees(n, "shamir", **fields)
        except sd.ConfigError:
            continue  # no threshold for both
        corrupt = floor(Fraction(str(gamma)) * n)
        by_hand = guarantees(n, "shamir", threshold=found.threshold, **fields)
        if left_of(n, dropout) >= corrupt + 2:
            assert found.max_colluders >= corrupt
            assert found.least_summed <= left_of(n, dropout)
        else:
            assert found == by_hand
        assert found.least_alive == by_hand.least_alive


@pytest.mark.parametrize("excluded", [1, 2])
def test_a_round_of_shamir_whose_sum_would_hold_too_few_is_void(excluded):
    """By the compiled layer and the oracle: five of six share, or four; five must."""
    layer = Layer("pairwise", "shamir", threshold=2, least_summed=5)
    one = layers.played(layer, gone=[5], broken=range(excluded))
    assert layers.check(layer, "rolled", one) == (excluded == 2)


def header_of_round(rule, n, t, least, excluded, vanished, void):
    """On the complete graph, slots 0..n-1: the first are excluded, the next vanish."""
    slots = np.arange(n)
    finite, alive = slots >= excluded, slots >= excluded + vanished

    def table(members):
        row = [np.where(members & (slots != i), slots, -1) for i in slots]
        return np.where(members[:, None], row, -1)

    partners = [table(finite)]
    if rule == "retry" and vanished and not void:
        partners.append(table(alive))
    return full_header(n, n - 1, 0)._replace(
        finite=finite,
        alive=alive,
        partners=tuple(partners),
        dropout_rule=rule,
        shares="paired" if rule == "secagg" else "directed",
        threshold=t,
        void=void,
        least_summed=least,
    )


def placements(n, excluded, vanished, count):
    """Coalitions that differ in how many of them are excluded, vanished or neither."""
    parts = range(excluded), range(excluded, excluded + vanished), range(excluded + vanished, n)
    for numbers in itertools.product(*(range(len(part) + 1) for part in parts)):
        if sum(numbers) == count:
            chosen = [part[:m] for part, m in zip(parts, numbers, strict=True)]
            yield frozenset(itertools.chain(*chosen))


@pytest.mark.parametrize("n", [4, 5, 6])
@pytest.mark.parametrize("rule", ["retry", "reveal", "shamir", "secagg"])
def test_complete_graphs_by_the_certificate(n, rule):
    """With so many colluders the server knows one sum, of two honest updates or more, whoever is
    excluded, vanishes and colludes, in rounds that stand and in void ones. With one more it
    somewhere knows a member's update.
    """
    dropout = 0.34
    for t in range(2, n) if rule in ("shamir", "secagg") else [2]:
        fields = {"threshold": t} if rule in ("shamir", "secagg") else {}
        found = guarantees(n, rule, max_dropout=dropout, **fields)
        exposed = []
        for excluded, vanished in itertools.product(range(n + 1), repeat=2):
            if excluded + vanished > n:
                continue
            void = not stands(rule, n, t, dropout, excluded, vanished)
            header = header_of_round(rule, n, t, found.least_summed, excluded, vanished, void)
            for more in (0, 1):
                for coalition in placements(n, excluded, vanished, found.max_colluders + more):
                    known = certificate(header, Adversary(True, coalition))
                    if more:
                        exposed.append(bool(known.determined) and not void)
                        continue
                    assert known.rank <= 1
                    assert all(np.count_nonzero(row) >= 2 for row in known.known)
        assert any(exposed), t


def test_a_threshold_of_its_own_is_the_best():
    """Complete secagg: no other threshold withstands more, of those that as many as max_dropout
    leaves can recover; and the asked-for dropouts stand.
    """
    for n, dropout in itertools.product((5, 8, 10, 25), (0.0, 0.1, 0.25, 0.5)):
        found, left = guarantees(n, "secagg", max_dropout=dropout), left_of(n, dropout)
        others = range(2, min(left, n - 1) + 1)
        best = max(withstood("secagg", n, t, dropout) for t in others)
        assert found.max_colluders == best
        assert found.threshold in others
        assert found.least_alive <= left


# Sparse graphs: one ring, every placement


def reach_of(members, k):
    """Partners of each member of a ring, in this order; everybody's if it is small."""
    far, count = k // 2, len(members)
    near = {d % count for d in range(-far, far + 1)} - {0}
    return {u: {members[(at + d) % count] for d in near} for at, u in enumerate(members)}


def connected(partners, left):
    return independent.in_one_piece([partners.get(u, set()) for u in range(16)], left)


def rounds_of(rule, n, k, t, dropout, most_excluded):
    """(sharers, survivors, graph at the end) of every round that stands: a ring of n, in order."""
    everybody = set(range(n))
    for excluded, vanished in itertools.product(range(most_excluded + 1), range(n)):
        for out in map(set, itertools.combinations(range(n), excluded)):
            members = sorted(everybody - out)
            for gone in map(set, itertools.combinations(members, vanished)):
                alive = set(members) - gone
                if len(alive) < max(3, left_of(n, dropout), t):
                    continue
                graph = reach_of(sorted(alive) if rule == "retry" else members, k)
                few = min(len({u, *graph[u]} & alive) for u in graph) < t
                if connected(graph, alive) and not (rule == "secagg" and few):
                    yield members, alive, graph


@pytest.mark.parametrize(("n", "k"), [(6, 2), (6, 4), (7, 2), (7, 4), (8, 2), (8, 4), (8, 6)])
@pytest.mark.parametrize("rule", ["retry", "reveal", "secagg"])
def test_sparse_graphs_never_claim_more(n, k, rule):
    """The ring fixed, whoever colludes, is excluded and vanishes: two honest survivors or more,
    connected by masks that nobody opens, in both attempts; no member has t holders that collude.
    """
    claimed = 0
    for dropout, t in itertools.product((0.0, 0.2, 0.34), range(2, k + 1)):
        if rule != "secagg" and t > 2:
            continue
        fields = {"threshold": t} if rule == "secagg" else {}
        found = guarantees(n, rule, neighbours=k, max_corrupt=0.5, max_dropout=dropout, **fields)
        assert found.failure == 0  # few members: nothing but certainty is below 2^-40
        claimed = max(claimed, found.max_colluders)
        for members, alive, graph in rounds_of(rule, n, k, t, dropout, 1 if n < 8 else 0):
            for bad in map(set, itertools.combinations(range(n), found.max_colluders)):
                assert len(alive - bad) >= 2
                assert connected(graph, alive - bad)
                if rule == "retry":
                    assert connected(reach_of(members, k), set(members) - bad)
                if rule == "secagg":
                    assert max(len({u, *graph[u]} & bad) for u in graph) < t
    assert claimed == {2: 1, 4: 3, 6: 4}[k] or rule == "secagg"


def test_more_than_max_dropout_vanish_from_a_ring():
    """Eight, four partners, two shares open. Survivors 0, 2, 3, 5 are a path and everybody has two
    holders left, but colluder 2 cuts 0 off: half of the ring's members must not vanish.
    """
    graph, alive = reach_of(list(range(8)), 4), {0, 2, 3, 5}
    assert connected(graph, alive)
    assert min(len({u, *graph[u]} & alive) for u in graph) == 2
    assert not connected(graph, alive - {2})
    ring = {"neighbours": 4, "threshold": 2, "max_corrupt": 0.5}
    found = guarantees(8, "secagg", max_dropout=0.2, **ring)
    assert (found.max_colluders, found.least_alive) == (1, 7)
    found = guarantees(8, "secagg", max_dropout=0.5, **ring)
    assert (found.max_colluders, found.least_alive) == (0, 4)


# The chance that a sparse graph fails


@pytest.mark.parametrize(("n", "k"), [(8, 2), (8, 4), (9, 4), (10, 6)])
def test_the_chance_that_a_ring_is_cut_is_at_most_that(n, k):
    """Of all placements of so many members, equally likely in a fresh ring."""
    ring = reach_of(list(range(n)), k)
    for bad in range(n - 1):
        places = list(map(set, itertools.combinations(range(n), bad)))
        cut = sum(not connected(ring, set(range(n)) - place) for place in places)
        bound = Fraction(n * (n - k - 1) * perm(bad, k), 2 * perm(n, k))
        assert Fraction(cut, comb(n, bad)) <= bound
        assert 2.0 ** log2_cut(n, k, bad) == pytest.approx(float(bound), rel=1e-9)
        assert (cut == 0) == (bad < k)
        for vanished in range(1, min(bad, n - k - 2) + 1):  # retry: a fresh ring of the others
            again = reach_of(list(range(n - vanished)), k)
            places = map(set, itertools.combinations(again, bad - vanished))
            cut = sum(not connected(again, set(again) - place) for place in places)
            assert Fraction(cut, comb(n - vanished, bad - vanished)) <= bound


def test_the_chance_is_of_the_whole_run():
    """Rounds times attempts, whatever one attempt's is; in words, rounded up."""
    fields = {"neighbours": 20, "max_corrupt": 0.1, "max_dropout": 0.1, "rounds": 40}
    for rule, attempts in (("retry", 2), ("reveal", 1)):
        found = guarantees(200, rule, **fields)
        bad = found.max_colluders + 20
        one = Fraction(200 * 179 * perm(bad, 20), 2 * perm(200, 20))
        assert found.failure == pytest.approx(float(40 * attempts * one), rel=1e-9)
        assert one < Fraction(1, 2**41) < 40 * attempts * one  # more than one attempt's bound
        power = Fraction(found.odds(40).split("2^-")[1].split(" ")[0])
        assert 40 * attempts * one <= 2 ** -float(power) < 1.08 * 40 * attempts * one
        assert "for the run of 40 rounds" in found.odds(40)
        assert ("up to 2 attempts each" in found.odds(40)) == (rule == "retry")
    many = fields | {"rounds": 2**31 - 1, "sigma": 1, "max_corrupt": 0.5}
    many = guarantees(200, "reveal", **many)
    assert many.failure == 1.0


def test_the_chance_that_colluders_hold_t_shares_counts_too():
    """SecAgg+ of a thousand: more than t - 1 may collude, if they are fixed before the draw. With
    fewer, no draw gives them t shares of one secret, and only cuts count.
    """
    ring = {"neighbours": 52, "max_corrupt": 0.1, "max_dropout": 0.1, "rounds": 40}
    found = guarantees(1000, "secagg", **ring)
    cut = 2.0 ** log2_cut(1000, 52, found.max_colluders + 100)
    assert (found.threshold, found.max_colluders) == (28, 94)
    assert found.failure == pytest.approx(40 * (cut + 2.0**-41), rel=1e-9)
    by_hand = guarantees(1000, "secagg", threshold=20, **ring)
    assert by_hand.max_colluders == 41  # certain of 19
    assert guarantees(1000, "secagg", threshold=2, **ring).max_colluders == 1
    few = guarantees(1000, "secagg", **ring | {"max_corrupt": 0.02}, threshold=28)
    assert few.max_colluders == 20
    assert few.failure == pytest.approx(40 * 2.0 ** log2_cut(1000, 52, 120), rel=1e-9)


def test_a_sum_of_two_sharers_never_stands():
    """Four of six are excluded before they share; any two shares open one."""
    layer = Layer("pairwise", "shamir", threshold=2)
    one = layers.played(layer, broken=[0, 2, 3, 5])
    assert layers.check(layer, "rolled", one)
    assert not layers.check(layer, "rolled", layers.played(layer, broken=[0, 2, 3]))
