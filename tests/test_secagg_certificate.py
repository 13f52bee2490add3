"""The certificate of a SecAgg round: it opens the shares first, then looks for sums."""

import itertools

import numpy as np
import pytest

import independent
from secagg_cases import Case, encoded, ids_of, transcript_of
from ssddl_jax.privacy.certificate import certificate, known_sums, recover
from ssddl_jax.privacy.exposure import full_header
from ssddl_jax.privacy.messages import SERVER, Adversary, Message, header_of, sealed, visible
from ssddl_jax.privacy.views import view_of


def ring(n, k):
    """Partners at distance up to k/2 of each member; everybody if k = n - 1."""
    reach = n if k >= n - 1 else k // 2
    return [sorted({(u + d) % n for d in range(-reach, reach + 1)} - {u}) for u in range(n)]


def header_with(n, k, threshold, gone=(), void=False):
    """A round of members 0..n-1 in a ring in which `gone` vanished."""
    return full_header(n, n - 1, 0)._replace(
        partners=(np.array(ring(n, k), np.int32),),
        alive=~np.isin(np.arange(n), list(gone)),
        dropout_rule="secagg",
        shares="paired",
        threshold=threshold,
        void=void,
    )


def of(header, *colluders, server=True, late=False):
    return certificate(header, Adversary(server, frozenset(colluders), late))


# By hand


def test_fewer_than_t_colluders_learn_the_sum_and_t_of_them_everything():
    whole = header_with(6, 5, 3)
    for colluders in ((), (0,), (0, 4)):
        found = of(whole, *colluders)
        assert found.determined == []
        np.testing.assert_array_equal(found.known, np.ones((1, 6 - len(colluders))))
    assert of(whole, 0, 2, 4).determined == [1, 3, 5]
    assert of(whole, 0, 2, 4, server=False).determined == []  # they never see an upload
    assert of(header_with(6, 5, 3, void=True), 0, 2, 4).rank == 0  # nobody vanished: nothing sent


def test_of_one_member_both_secrets_are_needed():
    """The server opens the mask key of the vanished and the seeds of the others: t - 1 colluders
    have neither of the other secrets, t have both.
    """
    lost = header_with(6, 5, 3, gone=[5])
    assert of(lost, 0, 4).determined == []
    assert of(lost, 0, 4, late=True).determined == []  # a late upload lies under its self-mask
    assert of(lost, 0, 2, 4).determined == [1, 3]  # 5 uploaded nothing
    assert of(lost, 0, 2, 4, late=True).determined == [1, 3, 5]
    assert of(lost, 5, 4).determined == []  # who vanished still has its shares
    assert of(lost, 5, 4, 0).determined == [1, 2, 3]
    void = header_with(6, 5, 3, gone=[3, 4, 5], void=True)  # uploads came, nobody answered
    assert of(void, 4, 5).rank == 0
    assert of(void, 3, 4, 5).determined == [0, 1, 2]


def test_on_a_ring_colluders_open_their_common_neighbours():
    """Eight, four partners each, two shares open: 0 and 1 are both holders of 7, 2 and no others
    but 6 and 3 with one of them each; 4 and 5 with none.
    """
    found = of(header_with(8, 4, 2), 0, 1)
    assert found.determined == [2, 7]
    assert found.rank == 3  # and the sum of 3, 4, 5, 6
    assert of(header_with(8, 4, 2), 0, 4).determined == [2, 6]
    assert of(header_with(8, 4, 3), 0, 1).determined == []
    assert of(header_with(8, 4, 3), 0).determined == []


def test_islands_are_sums_of_their_own():
    """Pairs of survivors that share with each other and with nobody else who is left."""
    gone = [1, 2, 5, 6]
    found = of(header_with(8, 4, 2, gone))
    assert found.determined == []
    np.testing.assert_array_equal(found.known, [[1, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 0, 0, 0]])
    assert of(header_with(8, 4, 2, gone, void=True)).rank == 0


def test_what_is_seen_of_a_round():
    """Six in a ring of two, the last vanished; by hand, for the server and member 0."""
    lost = header_with(6, 2, 2, gone=[5])
    seen = visible(lost, Adversary(server=True, coalition=frozenset({0})))
    kinds = [m.kind for m in seen]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    # 0 holds shares of itself, 1 and 5; 1, 5 and itself hold its. Each of five survivors answers
    # for the three whose shares it holds.
    both = {"seed": 1, "key": 1, "seed share": 5, "key share": 5}
    assert counts == {"update": 1, **both, "upload": 5, "opened": 15, "aggregate": 1}
    links = sealed(lost, [], 9, 8)
    assert links[Message("share", 0, 1, 2)] == 16
    assert links[Message("opened", 0, 1, SERVER)] == 3 * 8


# By a dense model


def seen_by_formula(n, k, threshold, gone, void, adversary):
    """[updates | own masks | pair masks] rows of what is seen, once the secrets are opened."""
    partners, bad = ring(n, k), adversary.coalition
    alive = set(range(n)) - set(gone)
    links = [(i, j) for i in range(n) for j in partners[i] if i < j]
    column = {(u, u): n + u for u in range(n)} | {pair: 2 * n + c for c, pair in enumerate(links)}
    unit = np.eye(2 * n + len(links))
    rows = [unit[i] for i in bad]

    def has(u, kind):
        holders = {u, *partners[u]}
        told = adversary.server and not void and kind == ("seed" if u in alive else "key")
        return u in bad or len(holders & (bad | (alive if told else set()))) >= threshold

    rows += [unit[column[u, u]] for u in range(n) if has(u, "seed")]
    rows += [unit[column[i, j]] for i, j in links if has(i, "key") or has(j, "key")]
    sent = alive | (set(gone) if adversary.late else set())
    for u in sorted(sent) if adversary.server and (gone or not void) else []:
        row = unit[u] + unit[column[u, u]]
        for v in partners[u]:
            row = row + (1 if v < u else -1) * unit[column[min(u, v), max(u, v)]]
        rows.append(row)
    if (adversary.server or bad) and not void:
        rows.append(sum(unit[i] for i in alive))
    return np.array(rows).reshape(-1, 2 * n + len(links))


@pytest.mark.parametrize(("n", "k", "t"), [(5, 4, 2), (5, 4, 3), (6, 2, 2), (6, 4, 3)])
@pytest.mark.parametrize("gone", [(), (1,), (1, 4)])
@pytest.mark.parametrize("void", [False, True])
def test_every_coalition_against_a_dense_model(n, k, t, gone, void):
    header, rank_of = header_with(n, k, t, gone, void), np.linalg.matrix_rank
    for size, server, late in itertools.product(range(n), (True, False), (True, False)):
        for coalition in itertools.combinations(range(n), size):
            adversary = Adversary(server, frozenset(coalition), late=late and server)
            rows = seen_by_formula(n, k, t, gone, void, adversary)
            rank = rank_of(rows) - rank_of(rows[:, n:]) if len(rows) else 0
            found = certificate(header, adversary)
            assert found.rank == rank - size
            for i in found.honest:
                target = np.eye(rows.shape[1])[i]
                fixed = len(rows) and rank_of(np.vstack([rows, target])) == rank_of(rows)
                assert bool(fixed) == (i in found.determined)


# By the words


@pytest.mark.parametrize("case", [Case(6, 3), Case(8, 2, k=4, bits=64)], ids=str)
def test_known_sums_are_sums_of_updates(case):
    """Shares are interpolated, masks made and taken off: what is left are the updates' words."""
    shown, ids, checked = transcript_of(case, set(range(case.n)) - {2}), ids_of(case.n), 0
    rows = {
        i: independent.values_of(encoded(case.n, case.bits)[u], case.bits)
        for u, i in enumerate(ids)
    }
    for size, server in itertools.product(range(case.t + 1), (True, False)):
        coalition = frozenset(ids[3 : 3 + size])
        adversary = Adversary(server, coalition, late=server)
        view = view_of(shown, adversary)
        assert len(known_sums(view)) == certificate(header_of(shown), adversary).rank
        for found in known_sums(view):
            total = sum(factor * rows[i] for i, factor in found.coefficients.items())
            np.testing.assert_array_equal(found.words, independent.words_of(total, case.bits))
            checked += 1
        assert bool(recover(view)) == (server and size >= case.t)
    assert checked
