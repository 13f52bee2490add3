"""One round of SecAgg's sharing without training: cases for tests, and the oracle's result."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import independent
from ssddl_jax import reference
from ssddl_jax.config.rules import RULES
from ssddl_jax.core.arithmetic.chacha import PRGS, rolled
from ssddl_jax.core.arithmetic.encoding import Encoding
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme
from ssddl_jax.core.sharing.pairwise import pairwise
from ssddl_jax.core.sharing.secagg import recover, secagg
from ssddl_jax.reference.encoding import to_values, to_words
from ssddl_jax.reference.secagg import MASK_KEY, SELF_MASK, elements, recoverable
from ssddl_jax.reference.secagg import secagg as in_integers

DIMENSION, SEED, ROUND = 21, 2**40 + 9, 3


class Case(NamedTuple):
    """What a scheme depends on here; `k` None: the complete graph. The PRG is in the
    form of small rounds, which compiles in a third of the time; if its name ends in -unrolled, in
    that of large ones.
    """

    n: int
    t: int
    k: int | None = None
    bits: int = 32
    prg: str = "chacha20"
    rule: str = "secagg"
    devices: int = 1
    schedule: str = "cpu"

    @property
    def least(self):
        """Survivors without which a round is void; a third may vanish from a ring."""
        return max(3, self.t, self.n - int(0.34 * self.n) if self.k else 0)

    @property
    def scheme(self):
        prg = PRGS[self.prg.removesuffix("-unrolled")]
        return Scheme(
            size=self.n,
            dimension=DIMENSION,
            neighbours=self.k or self.n - 1,
            threshold=self.t,
            least_alive=self.least,
            vanishing=self.n,
            shares="paired",
            encoding=Encoding(1.0, 20, self.bits),
            prg=prg if self.prg.endswith("-unrolled") else rolled(prg),
            mesh=make_mesh(self.devices),
            schedule=self.schedule,
            opens=RULES[self.rule].opens,
        )

    @property
    def settings(self):
        return reference.Settings(
            seed=SEED,
            clip=1.0,
            fraction_bits=20,
            prg_rounds=PRGS[self.prg.removesuffix("-unrolled")].rounds,
            ring_bits=self.bits,
            neighbours=self.k or self.n - 1,
            shares="paired",
            threshold=self.t,
            max_dropout="0.34",
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
def compiled(case, keep, nobody=False):
    """(attempt, messages) -> uploads, in one program, and its text; `nobody`: none may vanish."""
    everybody = set(range(case.n))
    arguments = attempt_of(case, everybody, everybody), messages_of(case, everybody, keep)
    builder = secagg if case.rule == "secagg" else pairwise
    scheme = case.scheme._replace(vanishing=0) if nobody else case.scheme
    lowered = jax.jit(builder(scheme).share).lower(*arguments)
    return lowered.compile(), lowered.as_text()


def jitted(function, case):
    """`function(scheme, attempt)`, jitted; of secrets, so neither PRG nor ring matter."""
    return _jitted(function, case._replace(prg="chacha20", bits=32, devices=1))


@functools.cache
def _jitted(function, case):
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


def played_by(case, members, survivors):
    rows = encoded(case.n, case.bits)
    rows = {u: to_values(rows[u].tolist(), case.bits) for u in sorted(members)}
    partners = partners_of(case, members)
    return in_integers(case.settings, chain(), ids_of(case.n), rows, partners, survivors)


def transcript_of(case, alive, void=None):
    """What a transcript shows of a round of all members in integers, or of one declared to stand,
    or void.
    """
    ids, survivors = np.array(ids_of(case.n), np.int32), sorted(alive)
    partners = partners_of(case, range(case.n))
    if void is None:
        void = not recoverable(case.settings, partners, range(case.n), survivors)
    rows = np.zeros_like(encoded(case.n, case.bits))
    aggregate = rows[0]
    if not void:
        sent = played_by(case, set(range(case.n)), survivors).sent
        for u in survivors:
            rows[u] = to_words(sent[u], case.bits)
        aggregate = sum_of(case, survivors)
    table = np.array([[int(ids[v]) for v in row] for row in partners], np.int32)
    return {
        "chain": np.array(chain(), np.uint32),
        "prg": case.prg,
        "group": ids,
        "finite": np.ones(case.n, bool),
        "alive": np.isin(np.arange(case.n), survivors),
        "first_neighbours": table,
        "neighbours": table,
        "attempt": 0,
        "void": void,
        "dropout_rule": case.rule,
        "shares": "paired",
        "threshold": case.t,
        "least_summed": case.least,
        "ring_bits": case.bits,
        "engine": "pairwise",
        "transport": "seeded",
        "fraction_bits": 20,
        "updates": np.zeros((case.n, DIMENSION), np.float32),
        "params_before": np.zeros(DIMENSION, np.float32),
        "encoded": encoded(case.n, case.bits),
        "uploads": rows,
        "aggregate": aggregate,
    }


def oracle(case, members, alive):
    """The round in Python integers."""
    partners, survivors = partners_of(case, members), sorted(alive)
    void = not recoverable(case.settings, partners, sorted(members), survivors)
    nothing = [0] * case.n, [[0] * 8 for _ in range(case.n)], np.zeros_like(encoded(case.n, 32))
    if void or len(alive) < 2:
        return Wanted(True, [0] * case.n, *nothing, nothing[2][0])
    played = played_by(case, members, survivors)
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


def oracles(case):
    """`oracle` for all members and any survivors: what they send does not depend on who vanishes
    then, so it is played once; what is opened are the secrets, and the rest is the messages' sum.
    """
    everybody = set(range(case.n))
    partners, whole = partners_of(case, everybody), played_by(case, everybody, sorted(everybody))
    rows = np.array([to_words(whole.sent[u], case.bits) for u in range(case.n)], np.uint32)
    secrets = {
        kind: [elements(chain(), me, 0, name) for me in ids_of(case.n)]
        for kind, name in ((SELF_MASK, b"SELF"), (MASK_KEY, b"MKEY"))
    }

    def wanted(alive):
        if not recoverable(case.settings, partners, sorted(everybody), sorted(alive)):
            return oracle(case, everybody, alive)
        kinds = [SELF_MASK if u in alive else MASK_KEY for u in range(case.n)]
        return Wanted(
            void=False,
            answers=[len({u, *partners[u]} & alive) for u in range(case.n)],
            kinds=kinds,
            secrets=[secrets[kind][u] for u, kind in enumerate(kinds)],
            uploads=np.where([[u in alive] for u in range(case.n)], rows, np.uint32(0)),
            aggregate=sum_of(case, sorted(alive)),
        )

    return wanted


def dealt(case, u, kind, holder):
    """Slot u's share of one of its secrets, as its holder has it."""
    name = b"SELF" if kind == SELF_MASK else b"MKEY"
    me = ids_of(case.n)[u]
    rows = [elements(chain(), me, 4 * c + kind, b"SECA") for c in range(1, case.t)]
    secret = elements(chain(), me, 0, name)
    return reference.shamir_shares(secret, rows, [holder + 1], reference.PRIME)[0]


def check(case, members, alive, keep, **options):
    """One round and what it recovers against the oracle; returns the oracle's."""
    want = oracle(case, members, alive)
    check_shares(case, members, alive, keep, want, **options)
    found = jitted(recover, case)(attempt_of(case, members, alive))
    assert np.asarray(found.kind).tolist() == want.kinds
    assert np.asarray(found.opened).tolist() == want.answers
    assert np.asarray(found.secret).tolist() == want.secrets
    return want


def check_shares(case, members, alive, keep, want, **options):
    """One round against what is wanted; whether it is void."""
    attempt = attempt_of(case, members, alive)
    got = compiled(case, keep, **options)[0](attempt, messages_of(case, alive, keep))
    assert bool(got.enough) == (not want.void)
    assert int(got.opened) == sum(want.answers)
    if not want.void:
        np.testing.assert_array_equal(np.asarray(got.aggregate), want.aggregate)
        np.testing.assert_array_equal(np.asarray(got.aggregate), sum_of(case, sorted(alive)))
        digest = independent.digest_of(want.uploads, np.array([u in alive for u in range(case.n)]))
        np.testing.assert_array_equal(np.asarray(got.digest), digest)
        if keep:
            np.testing.assert_array_equal(np.asarray(got.each), want.uploads)
    return want.void
