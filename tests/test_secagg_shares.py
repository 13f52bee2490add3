"""SecAgg and SecAgg+ scheme by scheme, without training: every word against the oracle, every set
of survivors, every opened share; a share too few, a wrong one, a late upload.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import harness
import independent
import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.chacha import PRGS
from ssddl_jax.encoding import Encoding
from ssddl_jax.parallel import make_mesh
from ssddl_jax.reference.encoding import to_values, to_words
from ssddl_jax.reference.secagg import MASK_KEY, SELF_MASK, elements, recoverable
from ssddl_jax.reference.secagg import secagg as in_integers
from ssddl_jax.sharing import Attempt, Messages, Scheme, pairwise, secagg
from ssddl_jax.sharing.pairwise import geometry_of
from ssddl_jax.sharing.partners import attempt_ring
from ssddl_jax.sharing.secagg import interpolate, open_shares, recover, secrets_of, unmasked
from test_program import faults_of

DIMENSION, SEED, ROUND = 21, 2**40 + 9, 3
QUICK = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}


class Case(NamedTuple):
    """What a scheme depends on here; `k` None: the complete graph."""

    n: int
    t: int
    k: int | None = None
    bits: int = 32
    prg: str = "chacha20"
    rule: str = "secagg"
    devices: int = 1

    @property
    def scheme(self):
        return Scheme(
            size=self.n,
            dimension=DIMENSION,
            neighbours=self.k or self.n - 1,
            threshold=self.t,
            least_alive=2,
            vanishing=self.n,
            shares="paired",
            dropout_rule=self.rule,
            encoding=Encoding(1.0, 20, self.bits),
            prg=PRGS[self.prg],
            mesh=make_mesh(self.devices),
        )

    @property
    def settings(self):
        return reference.Settings(
            seed=SEED,
            clip=1.0,
            fraction_bits=20,
            prg_rounds=PRGS[self.prg].rounds,
            ring_bits=self.bits,
            neighbours=self.k or self.n - 1,
            shares="paired",
            threshold=self.t,
        )


def chain():
    return reference.initial_chain(SEED)


def ids_of(n):
    """Not in order: who adds a pair's mask goes by id, not by slot."""
    return [int(i) for i in np.random.default_rng([5, n]).permutation(1000)[:n]]


@functools.cache
def encoded(n, bits):
    """Messages of every slot, any words."""
    width = (DIMENSION + 1) * bits // 32
    return np.random.default_rng([6, n, bits]).integers(0, 2**32, (n, width), dtype=np.uint32)


def attempt_of(case, members, alive):
    slots = range(case.n)
    return Attempt(
        chain=jnp.array(chain(), jnp.uint32),
        public=jnp.array(reference.public_key(SEED), jnp.uint32),
        round=jnp.uint32(ROUND),
        number=jnp.uint32(0),
        ids=jnp.array(ids_of(case.n), jnp.uint32),
        members=jnp.array([s in members for s in slots]),
        alive=jnp.array([s in alive for s in slots]),
    )


def sum_of(case, slots):
    """The messages' sum, in Python integers."""
    rows = [independent.values_of(encoded(case.n, case.bits)[s], case.bits) for s in slots]
    return independent.words_of(sum(rows) if rows else [0] * (DIMENSION + 1), case.bits)


def messages_of(case, alive, keep):
    rows = encoded(case.n, case.bits)
    there = [s in alive for s in range(case.n)]
    digest = independent.digest_of(rows, there)
    each = jnp.asarray(rows) if keep else None
    return Messages(jnp.asarray(sum_of(case, alive)), jnp.asarray(digest), each)


@functools.cache
def compiled(case, keep, options=True):
    """(attempt, messages) -> uploads, in one program."""
    everybody = set(range(case.n))
    arguments = attempt_of(case, everybody, everybody), messages_of(case, everybody, keep)
    builder = secagg if case.rule == "secagg" else pairwise
    lowered = jax.jit(builder(case.scheme).share).lower(*arguments)
    return lowered.compile(QUICK if options else {}), lowered.as_text()


@functools.cache
def jitted(function, case):
    """`function(scheme, attempt)`, jitted."""
    return jax.jit(functools.partial(function, case.scheme))


class Wanted(NamedTuple):
    """What a round must be; `void`: nothing is opened."""

    void: bool
    answers: list[int]  # per slot: shares that are opened of it
    kinds: list[int]
    secrets: list[list[int]]
    uploads: np.ndarray
    aggregate: np.ndarray


def partners_of(case, members):
    return reference.neighbours_of(
        case.settings, reference.public_key(SEED), ROUND, 0, sorted(members), case.n
    )


def oracle(case, members, alive):
    """The round in Python integers."""
    partners, survivors = partners_of(case, members), sorted(alive)
    void = not recoverable(case.settings, partners, sorted(members), survivors)
    nothing = [0] * case.n, [[0] * 8 for _ in range(case.n)], np.zeros_like(encoded(case.n, 32))
    if void or len(alive) < 2:
        return Wanted(True, [0] * case.n, *nothing, nothing[2][0])
    rows = {u: to_values(encoded(case.n, case.bits)[u].tolist(), case.bits) for u in members}
    rows = dict(sorted(rows.items()))
    played = in_integers(case.settings, chain(), ids_of(case.n), rows, partners, survivors)
    blank = [0] * (DIMENSION + 1)
    sent = [played.sent[u] if u in alive else blank for u in range(case.n)]
    slots = range(case.n)
    return Wanted(
        void=False,
        answers=[len({u, *partners[u]} & alive) if u in members else 0 for u in slots],
        kinds=[played.kinds.get(u, 0) for u in slots],
        secrets=[played.secrets.get(u, [0] * 8) for u in slots],
        uploads=np.array([to_words(row, case.bits) for row in sent], np.uint32),
        aggregate=np.array(to_words(played.summed, case.bits), np.uint32),
    )


def dealt(case, u, kind, holder):
    """Slot u's share of one of its secrets, as its holder has it."""
    name = b"SELF" if kind == SELF_MASK else b"MKEY"
    me = ids_of(case.n)[u]
    rows = [elements(chain(), me, 4 * c + kind, b"SECA") for c in range(1, case.t)]
    secret = elements(chain(), me, 0, name)
    return reference.shamir_shares(secret, rows, [holder + 1], reference.PRIME)[0]


def check(case, members, alive, keep):
    """One round against the oracle; returns the oracle's."""
    want = oracle(case, members, alive)
    attempt = attempt_of(case, members, alive)
    got = compiled(case, keep)[0](attempt, messages_of(case, alive, keep))
    assert bool(got.enough) == (not want.void)
    assert int(got.opened) == sum(want.answers)
    if not want.void:
        np.testing.assert_array_equal(np.asarray(got.aggregate), want.aggregate)
        np.testing.assert_array_equal(np.asarray(got.aggregate), sum_of(case, sorted(alive)))
        digest = independent.digest_of(want.uploads, np.array([u in alive for u in range(case.n)]))
        np.testing.assert_array_equal(np.asarray(got.digest), digest)
        if keep:
            np.testing.assert_array_equal(np.asarray(got.each), want.uploads)
    found = jitted(recover, case)(attempt)
    assert np.asarray(found.kind).tolist() == want.kinds
    assert np.asarray(found.opened).tolist() == want.answers
    assert np.asarray(found.secret).tolist() == want.secrets
    return want


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


# Secrets and shares


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
    assert shown > 100


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


@pytest.mark.parametrize("slot", [0, 5], ids=["self-mask", "mask-key"])
def test_one_wrong_share_spoils_the_aggregate(slot):
    """The server uses what it interpolates: control of every exact sum above."""
    case, alive = Case(6, 4), {0, 1, 2, 3, 4}
    attempt = attempt_of(case, set(range(6)), alive)
    uploads = oracle(case, set(range(6)), alive).uploads
    summed = jnp.asarray(uploads.sum(axis=0, dtype=np.uint32))

    @jax.jit
    def unmask(shares):
        given = open_shares(case.scheme, attempt)
        found = recover(case.scheme, attempt)._replace(secret=interpolate(given.points, shares))
        graph, keys = attempt_ring(case.scheme, attempt), secrets_of(attempt, MASK_KEY)
        return unmasked(case.scheme, attempt, graph, found, keys, summed)

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
