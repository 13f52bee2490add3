"""The sharing layer without training: schemes, and the oracle's result for one attempt of each."""

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
from ssddl_jax.simulation.schemes import sharing_of

DIMENSION, SEED, ROUND = 21, 2**40 + 3, 5


class Layer(NamedTuple):
    """What a scheme depends on; `graph`: complete, or k."""

    engine: str
    rule: str
    graph: str | int = "complete"
    shares: str = "directed"
    bits: int = 32
    n: int = 6
    prg: str = "chacha8"
    threshold: int = 3
    devices: int = 1
    schedule: str = "cpu"
    least_summed: int = 3

    @property
    def name(self):
        """For test ids."""
        return "-".join(str(part) for part in self[:7])

    @property
    def scheme(self):
        """With the unrolled PRG, as rounds of real sizes have it."""
        return Scheme(
            size=self.n,
            dimension=DIMENSION,
            neighbours=self.n - 1 if self.graph == "complete" else self.graph,
            threshold=self.threshold,
            least_alive=3,
            vanishing=self.n if RULES[self.rule].opens else 0,
            shares=self.shares,
            encoding=Encoding(1.0, 20, self.bits),
            prg=PRGS[self.prg],
            mesh=make_mesh(self.devices),
            schedule=self.schedule,
            opens=RULES[self.rule].opens,
            least_summed=self.least_summed,
        )

    @property
    def settings(self):
        """The oracle's settings."""
        return reference.Settings(
            seed=SEED,
            clip=1.0,
            fraction_bits=20,
            prg_rounds=PRGS[self.prg].rounds,
            ring_bits=self.bits,
            neighbours=self.scheme.neighbours,
            shares=self.shares,
            dropout_rule=self.rule,
            threshold=self.threshold,
            max_dropout="1.0",
            least_summed=self.least_summed,
            engine=self.engine,
        )


# Every kernel: squares of tiles and the rolling band, both rings, both kinds of shares, shares made
# again for the vanished; every PRG of the interface.
CELLS = (
    Layer("pairwise", "reveal", graph=2),
    Layer("pairwise", "reveal", shares="paired", bits=64),
    Layer("pairwise", "retry", graph=4, n=20),
    Layer("pairwise", "retry", graph=4, shares="paired", bits=64, n=20),
    Layer("pairwise", "shamir"),
    Layer("ideal", "retry", prg="chacha20"),
    Layer("ideal", "retry", bits=64, prg="chacha12"),
)
SECAGG = Layer("pairwise", "secagg", shares="paired")  # played in `test_secagg_shares`


def ids_of(n):
    """Not in order: which end of a pair deals goes by id, not by slot."""
    return np.random.default_rng([5, n]).permutation(1000)[:n].tolist()


class Played(NamedTuple):
    """One attempt: what the layer is given, and the oracle's round."""

    attempt: Attempt
    messages: Messages
    want: reference.Round


@functools.cache
def updates_of(n):
    """Rows of plain updates."""
    return np.random.default_rng([6, n]).normal(0, 0.5, (n, DIMENSION)).astype(np.float32)


def played(layer, gone=(), broken=()):
    """A round in which slots `gone` vanish and the updates of `broken` are not finite."""
    chain, group = reference.initial_chain(SEED), ids_of(layer.n)
    updates = updates_of(layer.n).copy()
    updates[list(broken), 2] = np.inf
    weights = [1 + slot % 4 for slot in range(layer.n)]
    want = reference.share_round(layer.settings, chain, ROUND, group, updates, weights, set(gone))
    slots = np.arange(layer.n)
    finite, left = ~np.isin(slots, list(broken)), ~np.isin(slots, list(gone))
    alive, again = finite & left, RULES[layer.rule].attempts > 1
    retried = again and np.any(finite & ~left)
    members = alive if again else finite
    encoded = np.array(want.encoded, np.uint32)
    held = np.flatnonzero(members if RULES[layer.rule].holds_sharers else alive)
    rows = [independent.values_of(encoded[slot], layer.bits) for slot in held]
    total = independent.words_of(sum(rows) if rows else [0] * (DIMENSION + 1), layer.bits)
    attempt = Attempt(
        chain=np.array(chain, np.uint32),
        public=np.array(reference.public_key(SEED), np.uint32),
        round=np.uint32(ROUND),
        number=np.uint32(retried),
        ids=np.array(group, np.uint32),
        members=members,
        alive=alive,
    )
    messages = Messages(total, independent.digest_of(encoded, alive), encoded)
    return Played(attempt, messages, want)


class Program(NamedTuple):
    """(attempt, messages) -> (uploads from rows that are kept, from sums or None), compiled."""

    call: object
    lowered: str
    compiled: str


@functools.cache
def program(layer, form):
    """One program for both ways; built once for all tests of a module that ask for it."""
    scheme = layer.scheme
    if form == "rolled":
        scheme = scheme._replace(prg=rolled(scheme.prg))
    sharing = sharing_of(layer.engine, RULES[layer.rule])(scheme)

    def both(attempt, messages):
        kept = sharing.share(attempt, messages)
        if sharing.keeps:
            return kept, None
        return kept, sharing.share(attempt, messages._replace(each=None))

    given = jax.tree.map(jnp.asarray, played(layer)[:2])
    lowered = jax.jit(both).lower(*given)
    compiled = lowered.compile()
    return Program(compiled, lowered.as_text(), compiled.as_text() or "")


def check(layer, form, one):
    """Plays one attempt and compares every word with the oracle's; returns whether it is void."""
    kept, streamed = program(layer, form).call(*one[:2])
    want = one.want
    for made in (kept, streamed):
        if made is None:
            continue
        assert bool(made.enough) == (not want.void)
        if want.void:
            continue
        np.testing.assert_array_equal(made.aggregate, np.array(want.aggregate, np.uint32))
        np.testing.assert_array_equal(made.aggregate, one.messages.total)
        np.testing.assert_array_equal(made.digest, np.array(want.digest, np.uint32))
    if not want.void:
        uploads = np.asarray(kept.each)
        np.testing.assert_array_equal(uploads, np.array(want.uploads, np.uint32))
        again = independent.digest_of(uploads, want.alive)
        np.testing.assert_array_equal(kept.digest, again)
    if streamed is not None:
        assert streamed.each is None
        assert int(kept.opened) == int(streamed.opened)
    return want.void


def transcript_of(layer, one, void=None):
    """What a transcript shows of a round as the oracle played it, or of one declared to stand."""
    attempt, want = one.attempt, one.want
    finite = np.array(want.encoded).any(axis=1)
    public, width = reference.public_key(SEED), max(1, layer.n - 1)

    def table(number, members):
        slots = np.flatnonzero(members).tolist()
        rows = reference.neighbours_of(layer.settings, public, ROUND, number, slots, layer.n)
        ids = [[ids_of(layer.n)[slot] for slot in row] for row in rows]
        return np.array([row + [-1] * (width - len(row)) for row in ids], np.int32)

    return {
        "chain": attempt.chain,
        "prg": layer.prg,
        "group": np.array(ids_of(layer.n), np.int32),
        "finite": finite,
        "alive": attempt.alive,
        "first_neighbours": table(0, finite),
        "neighbours": table(int(attempt.number), attempt.members),
        "attempt": attempt.number,
        "void": want.void if void is None else void,
        "dropout_rule": layer.rule,
        "shares": layer.shares,
        "threshold": layer.threshold,
        "least_summed": max(
            layer.least_summed, layer.threshold if RULES[layer.rule].needs_threshold else 0
        ),
        "ring_bits": layer.bits,
        "engine": "pairwise",
        "transport": "seeded",
        "fraction_bits": 20,
        "updates": updates_of(layer.n),
        "params_before": np.zeros(DIMENSION, np.float32),
        "encoded": np.array(want.encoded, np.uint32),
        "uploads": np.array(want.uploads, np.uint32),
        "aggregate": np.array(want.aggregate, np.uint32),
    }
