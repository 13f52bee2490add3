"""SecAgg's two secrets: never both opened; one share too few, a wrong share, a late upload."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from secagg_cases import (
    DIMENSION,
    Case,
    attempt_of,
    chain,
    compiled,
    dealt,
    encoded,
    ids_of,
    jitted,
    messages_of,
    oracle,
    sum_of,
)
from ssddl_jax import reference
from ssddl_jax.core.sharing.partners import attempt_graph
from ssddl_jax.core.sharing.secagg import interpolate, open_shares, recover, secrets_of, unmasked
from ssddl_jax.reference.secagg import MASK_KEY, SELF_MASK, elements


def opened_shares(case, alive):
    """Every share that is opened, by the fast code, as [(slot, kind, holder, words)]."""
    got = jitted(open_shares, case)(attempt_of(case, set(range(case.n)), alive))
    rows = []
    for slot, kind in enumerate(np.asarray(got.kind).tolist()):
        pairs = zip(np.asarray(got.points)[slot], np.asarray(got.shares)[slot], strict=True)
        rows += [(slot, kind, int(x) - 1, share.tolist()) for x, share in pairs if kind]
    return rows


@pytest.mark.parametrize("case", [Case(6, 4), Case(6, 2, k=2)], ids=str)
def test_never_both_secrets_of_one_participant(case):
    """Over all survivor sets: shares of one kind only, and no share of it lies on the other's."""
    shown = 0
    for size in range(case.n + 1):
        for alive in map(set, itertools.combinations(range(case.n), size)):
            for u, kind, holder, share in opened_shares(case, alive):
                other = SELF_MASK + MASK_KEY - kind
                assert kind == (SELF_MASK if u in alive else MASK_KEY)
                assert holder in alive
                assert share == dealt(case, u, kind, holder)
                assert share != dealt(case, u, other, holder)
                shown += 1
    assert shown > 60


def test_recovered_secrets_are_the_dealt_ones():
    case, alive = Case(9, 3, k=4), {0, 1, 2, 4, 6, 7, 8}
    attempt = attempt_of(case, set(range(9)), alive)
    found = jitted(recover, case)(attempt)
    both = {kind: np.asarray(secrets_of(attempt, kind)) for kind in (SELF_MASK, MASK_KEY)}
    for slot in range(9):
        kind = SELF_MASK if slot in alive else MASK_KEY
        assert np.asarray(found.secret)[slot].tolist() == both[kind][slot].tolist()
    assert len({tuple(row) for rows in both.values() for row in rows.tolist()}) == 18


def test_a_share_too_few_determines_nothing():
    """Any t shares give the secret. With t - 1, every other secret is as possible: a polynomial of
    the same degree runs through it and through them, so some t-th share would lead there.
    """
    case = Case(6, 4)
    secret = elements(chain(), ids_of(6)[2], 0, b"MKEY")
    solve = jax.jit(interpolate)
    for holders in itertools.combinations(range(6), 4):
        points = jnp.array([[v + 1 for v in holders]], jnp.uint32)
        shares = [dealt(case, 2, MASK_KEY, v) for v in holders]
        assert np.asarray(solve(points, jnp.array([shares], jnp.uint32)))[0].tolist() == secret
        few = reference.interpolate_at_zero(
            [v + 1 for v in holders[:3]], shares[:3], reference.PRIME
        )
        assert all(a != b for a, b in zip(few, secret, strict=True))
        for claimed in ([0] * 8, [s ^ 1 for s in secret], list(range(8))):
            last = through_zero(claimed, holders, shares[:3])
            told = jnp.array([[*shares[:3], last]], jnp.uint32)
            assert np.asarray(solve(points, told))[0].tolist() == claimed


def through_zero(secret, holders, shares):
    """The share at the last holder's point of the polynomial through `secret` and the shares."""
    p, *known = reference.PRIME, *(v + 1 for v in holders[:-1])
    at, points = holders[-1] + 1, [0, *known]
    total = [0] * 8
    for x, row in zip(points, [secret, *shares], strict=True):
        factor = 1
        for other in points:
            if other != x:
                factor = factor * (at - other) * pow(x - other, -1, p) % p
        total = [(s + factor * value) % p for s, value in zip(total, row, strict=True)]
    return total


@functools.cache
def unmasking(case):
    """(attempt, opened shares, sum of uploads) -> what the server makes of them, jitted."""

    def unmask(attempt, shares, summed):
        given = open_shares(case.scheme, attempt)
        found = recover(case.scheme, attempt)._replace(secret=interpolate(given.points, shares))
        graph, keys = attempt_graph(case.scheme, attempt), secrets_of(attempt, MASK_KEY)
        return unmasked(case.scheme, attempt, graph, found, keys, summed)

    return jax.jit(unmask)


@pytest.mark.parametrize("slot", [0, 5], ids=["self-mask", "mask-key"])
def test_one_wrong_share_spoils_the_aggregate(slot):
    """The server uses what it interpolates: control of every exact sum above."""
    case, alive = Case(6, 4), {0, 1, 2, 3, 4}
    attempt = attempt_of(case, set(range(6)), alive)
    uploads = oracle(case, set(range(6)), alive).uploads
    summed = jnp.asarray(uploads.sum(axis=0, dtype=np.uint32))

    def unmask(shares):
        return unmasking(case)(attempt, shares, summed)

    shares = jitted(open_shares, case)(attempt).shares
    right = sum_of(case, sorted(alive))
    np.testing.assert_array_equal(np.asarray(unmask(shares)), right)
    wrong = unmask(shares.at[slot, 1, 3].set((shares[slot, 1, 3] + 1) % jnp.uint32(2**31 - 1)))
    assert np.mean(np.asarray(wrong) != right) > 0.9


# A late upload


def late(case, gone):
    """What `gone` uploads, whether in time or late: the same words."""
    everybody = set(range(case.n))
    attempt, messages = attempt_of(case, everybody, everybody), messages_of(case, everybody, True)
    return np.asarray(compiled(case, True)[0](attempt, messages).each)[gone].tolist()


def mask_of(key):
    return reference.stream(key, (0, 0, 0), DIMENSION + 1)


def without_pads(upload, keys, me, ids):
    """An upload less the pair masks of these keys, by partner's slot."""
    for other, key in keys.items():
        sign = 1 if ids[other] < ids[me] else -1
        upload = [(a - sign * m) % 2**32 for a, m in zip(upload, mask_of(key), strict=True)]
    return upload


def test_late_upload_stays_under_the_self_mask():
    """The server opened s_u and takes every pair mask away: x_u + PRG(b_u) is left, not x_u."""
    case, gone = Case(6, 4), 2
    attempt = attempt_of(case, set(range(6)), set(range(6)) - {gone})
    found, ids = jitted(recover, case)(attempt), ids_of(6)
    assert np.asarray(found.kind).tolist() == [1, 1, 2, 1, 1, 1]
    public = np.asarray(secrets_of(attempt, MASK_KEY)).tolist()  # stand for public keys
    opened = np.asarray(found.secret)[gone].tolist()
    keys = {
        v: reference.derive_key(
            [a ^ b for a, b in zip(opened, public[v], strict=True)],
            0,
            *sorted((ids[gone], ids[v])),
            b"PAIR",
        )
        for v in range(6)
        if v != gone
    }
    left = without_pads(late(case, gone), keys, gone, ids)
    update = encoded(6, 32)[gone].tolist()
    own = mask_of(np.asarray(secrets_of(attempt, SELF_MASK))[gone].tolist())
    assert left == [(x + b) % 2**32 for x, b in zip(update, own, strict=True)]
    assert sum(a == x for a, x in zip(left, update, strict=True)) <= 1


def test_late_upload_under_reveal_is_the_update():
    """The same attack on rule reveal, whose survivors open their pair keys with the vanished."""
    case, gone, ids = Case(6, 4, rule="reveal"), 2, ids_of(6)
    keys = {
        v: reference.derive_key(chain(), 0, *sorted((ids[gone], ids[v])), b"PAIR")
        for v in range(6)
        if v != gone
    }
    assert without_pads(late(case, gone), keys, gone, ids) == encoded(6, 32)[gone].tolist()
