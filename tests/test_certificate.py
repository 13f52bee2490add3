"""The certificate against brute force: a tiny ring, every value of every secret.

Brute force uses nothing of the package. It runs the protocol's formulas over Z_q for every choice
of updates and shares, and finds which choices give the same view.
"""

import functools
import itertools

import numpy as np
import pytest

from ssddl_jax.core.arithmetic.field import P
from ssddl_jax.privacy.certificate import certificate, over_rounds
from ssddl_jax.privacy.elimination import combined, reduce_rows
from ssddl_jax.privacy.exposure import by_coalition, by_round, full_header, groups
from ssddl_jax.privacy.messages import Adversary

Q = 3


def harary(n, k):
    """Edges of n members in a ring, partners up to k/2 away; complete if k >= n - 1."""
    reach = range(1, (n - 1 if k >= n - 1 else k // 2) + 1)
    return sorted({tuple(sorted((i, (i + r) % n))) for i in range(n) for r in reach})


@functools.cache
def complete(n):
    return full_header(n, n - 1, 0)


def header_with(n, edges, **changes):
    partners = np.full((n, max(1, n - 1)), -1, np.int32)
    for i in range(n):
        row = sorted({a + b - i for a, b in edges if i in (a, b)})
        partners[i, : len(row)] = row
    return complete(n)._replace(partners=(partners,), **changes)


def view_by_formula(x, s, n, edges, server, coalition, shares="directed"):
    """All that server and coalition see: numbers mod Q, for arrays of choices x[i], s[i, j]."""
    dealt = [(i, j) for i, j in edges] + (
        [(j, i) for i, j in edges] if shares == "directed" else []
    )
    seen = [x[i] for i in coalition]
    seen += [s[i, j] for i, j in dealt if i in coalition or j in coalition]
    if server:
        for i in range(n):
            held = sum(s[a, b] for a, b in dealt if b == i)
            seen.append((x[i] + held - sum(s[a, b] for a, b in dealt if a == i)) % Q)
    if server or coalition:
        seen.append(sum(x[i] for i in range(n)) % Q)
    return seen


def codes(columns, count):
    total = np.zeros(count, np.int64)
    for column in columns:
        total = total * Q + column
    return total


@pytest.mark.parametrize(
    ("n", "edges", "shares"),
    [
        (3, harary(3, 2), "directed"),
        (3, [(0, 1)], "directed"),
        (3, [(0, 1), (1, 2)], "paired"),
        (4, harary(4, 3), "paired"),
        (4, harary(4, 2), "paired"),
        (4, [(0, 1), (2, 3)], "directed"),
    ],
)
def test_every_coalition_by_playing_every_choice(n, edges, shares):
    """The distribution of the view for each choice of updates: equal, or disjoint, as certified."""
    dealt = [*edges, *((j, i) for i, j in edges if shares == "directed")]
    grid = np.indices((Q,) * (n + len(dealt)), np.int8).reshape(n + len(dealt), -1).astype(int)
    x = dict(enumerate(grid[:n]))
    s = dict(zip(dealt, grid[n:], strict=True))
    inputs = codes(grid[:n], grid.shape[1])
    for size, server in itertools.product(range(n + 1), (True, False)):
        for coalition in itertools.combinations(range(n), size):
            seen = view_by_formula(x, s, n, edges, server, coalition, shares)
            views = codes(seen, grid.shape[1]) if seen else np.zeros(grid.shape[1], int)
            pairs, counts = np.unique(views * Q**n + inputs, return_counts=True)
            view_of, input_of = pairs // Q**n, pairs % Q**n
            found = certificate(
                header_with(n, edges, shares=shares), Adversary(server, frozenset(coalition))
            )
            honest = [i for i in range(n) if i not in coalition]
            first = view_of == view_of[0]
            assert len(set(counts.tolist())) == 1  # what can be is equally likely
            values = np.array(np.unravel_index(input_of[first], (Q,) * n))
            for i in honest:
                assert (len(set(values[i].tolist())) == 1) == (i in found.determined)
                assert (len(set(values[i].tolist())) == Q) == (i in found.free)
            assert first.sum() == Q ** (len(honest) - found.rank)


def differences(n, edges, server, coalition):
    """Honest updates, as vectors over Z_Q, that some shares hide completely: the view is zero.

    Sums of the masks' effects on the honest uploads, share by share and value by value; what
    touches the coalition is seen, so it must be zero.
    """
    honest = [i for i in range(n) if i not in coalition]
    place = {i: at for at, i in enumerate(honest)}
    everything = np.indices((Q,) * len(honest)).reshape(len(honest), Q ** len(honest)).T
    if server:
        reached = np.zeros((1, len(honest)), int)
        for a, b in edges:
            if a in place and b in place:
                effect = np.zeros(len(honest), int)
                effect[place[a]], effect[place[b]] = 1, Q - 1
                moved = [(reached + value * effect) % Q for value in range(Q)]
                reached = np.unique(np.concatenate(moved), axis=0)
        everything = reached  # x = minus the masks
    if server or coalition:
        everything = everything[everything.sum(axis=1) % Q == 0]
    return honest, everything


GRAPHS = {
    f"{name}-{n}": (n, edges)
    for n in range(3, 8)
    for name, edges in (
        ("complete", harary(n, n - 1)),
        ("ring", harary(n, 2)),
        ("ring4", harary(n, 4)),
        ("path", [(i, i + 1) for i in range(n - 1)]),
        ("two parts", [(i, j) for i, j in harary(n, n - 1) if (i < n // 2) == (j < n // 2)]),
    )
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if n == 7 else name
        for name, (n, _) in GRAPHS.items()
    ],
)
def test_the_edge_is_exact_for_all_coalitions(name):
    """Every coalition of n <= 7, with and without the server: rank, determined, known sums."""
    n, edges = GRAPHS[name]
    header = header_with(n, edges)
    for size, server in itertools.product(range(n + 1), (True, False)):
        for coalition in itertools.combinations(range(n), size):
            honest, hidden = differences(n, edges, server, coalition)
            found = certificate(header, Adversary(server, frozenset(coalition)))
            assert found.honest == honest
            fixed = [i for at, i in enumerate(honest) if not hidden[:, at].any()]
            assert found.determined == fixed
            assert len(hidden) == Q ** (len(honest) - found.rank)
            signed = np.where(found.known > 1, -1, found.known.astype(np.int64))
            assert not (hidden @ signed.T % Q).any()  # every known sum is really known
            if server and name.startswith("complete") and honest:
                assert bool(fixed) == (size == n - 1)  # free at n - 2, determined at n - 1


def seen_by_formula(n, graphs, alive, rule, adversary):
    """[x | masks] rows of all that is seen of a round with dropouts (docs/protocol.md, section 5):
    every share of every attempt is a column; real matrices, for their entries are -1, 0, 1.
    """
    shares = [(a, *pair) for a, g in enumerate(graphs) for i, j in g for pair in ((i, j), (j, i))]
    column = {share: n + at for at, share in enumerate(shares)}
    unit = np.eye(n + len(shares))
    rows = [unit[i] for i in adversary.coalition]
    for a, i, j in shares:
        opened = rule == "reveal" and adversary.server and alive[i] != alive[j]
        if i in adversary.coalition or j in adversary.coalition or opened:
            rows.append(unit[column[a, i, j]])
    for a in range(len(graphs)):
        for i in range(n):
            if adversary.server and (alive[i] or (adversary.late and a == 0)):
                held = sum(unit[column[s]] for s in shares if s[0] == a and s[2] == i)
                dealt = sum(unit[column[s]] for s in shares if s[0] == a and s[1] == i)
                rows.append(unit[i] + held - dealt)
    if adversary.server or adversary.coalition:
        rows.append(sum(unit[i] for i in range(n) if alive[i]))
    return np.array(rows, float).reshape(-1, n + len(shares))


@pytest.mark.parametrize("rule", ["retry", "reveal"])
@pytest.mark.parametrize("neighbours", [2, 4])
@pytest.mark.parametrize("gone", [(), (1,), (1, 4), (0, 1)])
def test_dropouts_against_a_dense_model(rule, neighbours, gone):
    """Nothing is missing from a view, or too much in it: every coalition, late or not, n = 5, 6."""
    n = 6 if neighbours == 4 else 5
    alive = np.array([i not in gone for i in range(n)])
    graphs = [harary(n, neighbours)]
    header = header_with(n, graphs[0], dropout_rule=rule, alive=alive)
    if gone and rule == "retry":  # another ring, among the survivors
        left = [i for i in (3, 0, 4, 2, 5, 1) if i < n and i not in gone]
        again = {tuple(sorted((left[a], left[b]))) for a, b in harary(len(left), 2)}
        graphs.append(sorted(again))
        header = header._replace(
            partners=(header.partners[0], header_with(n, graphs[1]).partners[0])
        )
    for size, server, late in itertools.product(range(n), (True, False), (True, False)):
        for coalition in itertools.combinations(range(n), size):
            adversary = Adversary(server, frozenset(coalition), late=late and server)
            rows = seen_by_formula(n, graphs, alive, rule, adversary)
            masks = rows[:, n:]
            rank = np.linalg.matrix_rank(rows) - np.linalg.matrix_rank(masks) if len(rows) else 0
            found = certificate(header, adversary)
            assert found.rank == rank - size
            for i in found.honest:
                target = np.eye(rows.shape[1])[i]
                fixed = len(rows) and np.linalg.matrix_rank(
                    np.vstack([rows, target])
                ) == np.linalg.matrix_rank(rows)
                assert bool(fixed) == (i in found.determined)


def test_two_honest_members_must_stay_to_the_end():
    """n - 2 colluders of 5, and one of the two honest vanished: the other is exposed."""
    for rule in ("retry", "reveal"):
        alive = np.arange(5) < 4
        header = header_with(5, harary(5, 4), dropout_rule=rule, alive=alive)
        if rule == "retry":
            again = header_with(5, [pair for pair in harary(5, 4) if 4 not in pair]).partners[0]
            header = header._replace(partners=(header.partners[0], again))
        found = certificate(header, Adversary(True, frozenset({0, 1, 2})))
        assert found.determined == [3]
        assert certificate(header, Adversary(True, frozenset({0, 1}))).determined == []


def test_shamir_threshold_is_sharp():
    """Fewer than t holders, even with the server, learn the total; t of them everything."""
    header = full_header(7, 6, 0)._replace(dropout_rule="shamir", threshold=4)
    for size in range(7):
        for coalition in itertools.combinations(range(7), size):
            found = certificate(header, Adversary(True, frozenset(coalition)))
            exposed = size >= 4
            assert found.determined == (found.honest if exposed else [])
            assert found.rank == (len(found.honest) if exposed else 1)
            if not exposed:
                np.testing.assert_array_equal(found.known, np.ones((1, 7 - size)))


@pytest.mark.parametrize(
    ("n", "threshold", "q"), [(3, 2, 5), (4, 2, 5), pytest.param(3, 3, 5, marks=pytest.mark.slow)]
)
def test_shamir_by_playing_every_choice(n, threshold, q):
    """Polynomials over a field of five: every secret, every coefficient, every coalition."""
    count = n * threshold
    grid = np.indices((q,) * count, np.int8).reshape(count, -1).astype(int)
    polynomials = grid.reshape(n, threshold, -1)
    points = np.array([[pow(j + 1, degree, q) for degree in range(threshold)] for j in range(n)])
    shares = np.einsum("jd,idm->ijm", points, polynomials) % q  # dealer, holder
    header = full_header(n, n - 1, 0)._replace(dropout_rule="shamir", threshold=threshold)
    for size, server in itertools.product(range(n), (True, False)):
        coalition = tuple(range(size))
        seen = [polynomials[i, degree] for i in coalition for degree in range(threshold)]
        seen += [shares[i, j] for i in range(size, n) for j in coalition]
        seen += [shares[:, j].sum(0) % q for j in range(n)] if server else []
        seen += [polynomials[:, 0].sum(0) % q] if server or coalition else []
        views = np.zeros(grid.shape[1], np.int64)
        for column in seen:
            _, views = np.unique(views * q + column, return_inverse=True)
        same = views == views[0]
        found = certificate(header, Adversary(server, frozenset(coalition)))
        for i in found.honest:
            values = np.unique(polynomials[i, 0, same], return_counts=True)
            assert (len(values[0]) == 1) == (i in found.determined)
            assert (len(values[0]) == q and len(set(values[1].tolist())) == 1) == (i in found.free)


@pytest.mark.parametrize("modulus", [1 << 32, 1 << 64, P])
def test_elimination(modulus):
    rng = np.random.default_rng(4)
    matrix = rng.integers(-1, 2, (9, 6))
    matrix[:, 5] = matrix[:, 0] - matrix[:, 1]
    matrix[8] = matrix[0] + matrix[1] - matrix[2]
    matrix = matrix.astype(np.int64)
    if modulus != P:  # edges of a graph: the matrices that the ring's are
        matrix = np.zeros((6, 8), np.int64)
        for column, (i, j) in enumerate(harary(6, 4)[:8]):
            matrix[i, column], matrix[j, column] = 1, -1
    found = reduce_rows(matrix, modulus)
    residues = (matrix.astype(object) % modulus).astype(np.uint64)
    np.testing.assert_array_equal(combined(found.combination, residues, modulus), found.rows)
    assert not combined(found.vanishing, residues, modulus).any()
    assert len(found.rows) == np.linalg.matrix_rank(matrix)
    for row, pivot in enumerate(found.pivots):
        column = np.zeros(len(found.rows))
        column[row] = 1
        np.testing.assert_array_equal(found.rows[:, pivot], column)


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(ArithmeticError, match="no invertible entry"):
        reduce_rows(np.array([[2, 4]]), 1 << 32)


def test_exposure_against_coalitions():
    complete = by_coalition(6, 5, draws=4, seed=1)
    assert complete.at == [0, 1, 2, 3, 4, 5]
    assert complete.most == [0, 0, 0, 0, 0, 1]
    ring = by_coalition(8, 2, draws=20, seed=1)
    assert ring.most[0] == ring.most[1] == 0
    assert 0 < ring.mean[4] < ring.mean[6] < ring.mean[7] == 1


def test_exposure_against_rounds():
    """Differencing: exposed exactly when the unit vector is in the rational row space."""
    for selection in ("random", "rotate"):
        chosen = groups(9, 3, selection, 20, seed=5)
        matrix = np.zeros((20, 9))
        for row, group in zip(matrix, chosen, strict=True):
            row[group] = 1
        shown = by_round(9, 3, selection, 20, seeds=[5])
        for r in range(20):
            rank = np.linalg.matrix_rank(matrix[: r + 1])
            units = [np.vstack([matrix[: r + 1], unit]) for unit in np.eye(9)]
            exposed = sum(np.linalg.matrix_rank(rows) == rank for rows in units)
            assert shown.mean[r] == exposed / 9
        assert shown.mean[-1] == 1


@pytest.mark.parametrize("ring_bits", [32, 64])
def test_over_rounds_with_a_coalition(ring_bits):
    """Rational row space of all rounds' parts: groups of 4 of 7 in rings, the server and one."""
    rng = np.random.default_rng(6)
    rounds, rows = [], []
    for _ in range(9):
        ids = np.sort(rng.choice(7, 4, replace=False)).astype(np.int32)
        path = header_with(4, [(0, 1), (1, 2), (2, 3)], ring_bits=ring_bits)
        named = np.where(path.partners[0] >= 0, ids[path.partners[0]], -1)
        header = path._replace(group=ids, partners=(named,))
        colluder = int(ids[1]) if ids[1] == 3 else None
        adversary = Adversary(True, frozenset(() if colluder is None else (3,)))
        rounds.append(certificate(header, adversary))
        parts = [ids] if colluder is None else [ids[:1], ids[2:]]
        rows += [np.isin(np.arange(7), part).astype(float) for part in parts]
        found = over_rounds(rounds)
        seen = sorted({i for done in rounds for i in done.honest})
        rank = np.linalg.matrix_rank(np.array(rows))
        exposed = [
            i for i in seen if np.linalg.matrix_rank(np.vstack([*rows, np.eye(7)[i]])) == rank
        ]
        assert (found.rank, found.determined) == (rank, exposed)
        assert sorted([*found.determined, *found.free]) == seen
    assert exposed


@pytest.mark.slow
def test_groups_are_those_of_the_round():
    import ssddl_jax as sd
    from harness import tiny_data

    for selection in ("random", "rotate"):
        config = sd.Config(
            participants=9, group_size=3, rounds=4, selection=selection, model="linear", seed=5
        )
        shown = sd.transcripts(config, range(4), data=tiny_data(9))
        for mine, theirs in zip(shown, groups(9, 3, selection, 4, seed=5), strict=True):
            np.testing.assert_array_equal(mine["group"], theirs)
