"""Exposure by coalition size and by number of rounds: who is determined, by linear algebra alone.

Nothing is trained. By coalition: certificates of one round for random coalitions that include the
server. By round: groups change from round to round and updates do not, which is when differencing
works; if updates change, their sums cannot be subtracted. A participant is exposed once its unit
vector is in the row space of the sums.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.config.config import Config
from ssddl_jax.core.arithmetic import randomness
from ssddl_jax.core.arithmetic.field import P
from ssddl_jax.core.sharing import graphs
from ssddl_jax.privacy.certificate import certificate
from ssddl_jax.privacy.elimination import reduce_rows
from ssddl_jax.privacy.messages import Adversary, Header


class Exposure(NamedTuple):
    """Fractions of honest participants that are determined, by coalition size or by round."""

    at: list[int]  # coalition sizes, or rounds played
    mean: list[float]
    least: list[float]
    most: list[float]


def full_header(size: int, neighbours: int, seed: int, round_: int = 0) -> Header:
    """A round of n members without dropouts: complete if neighbours >= n - 1, else a ring graph."""
    partners = _partners(randomness.public_key(seed), jnp.uint32(round_), size, neighbours)
    return Header(
        group=np.arange(size, dtype=np.int32),
        finite=np.ones(size, bool),
        alive=np.ones(size, bool),
        partners=(np.asarray(partners),),
        dropout_rule="retry",
        shares="directed",
        threshold=0,
        ring_bits=32,
        void=False,
        engine="pairwise",
        transport="seeded",
    )


@functools.partial(jax.jit, static_argnums=(2, 3))
def _partners(public: jax.Array, round_: jax.Array, size: int, neighbours: int) -> jax.Array:
    """The partners of every slot, i32 [n, k]; -1 where there is none."""
    everybody = jnp.ones(size, bool)
    slots = jnp.arange(size, dtype=jnp.int32)
    if neighbours >= size - 1:
        partners, valid = graphs.complete_partners(everybody, slots)
    else:
        words = randomness.ring_words(public, round_, jnp.uint32(0), size)
        ring = graphs.make_ring(words, everybody)
        partners, valid = graphs.ring_partners(ring, neighbours, slots)
    return jnp.where(valid, partners, -1)


def by_coalition(size: int, neighbours: int, draws: int, seed: int) -> Exposure:
    """The server with c random members, c = 0..n-1, in `draws` draws for each c."""
    rng = np.random.default_rng([seed, size, neighbours])
    found = []
    for colluders in range(size):
        header = full_header(size, neighbours, seed, colluders)
        shares = []
        for _ in range(draws):
            chosen = rng.choice(size, colluders, replace=False)
            coalition = frozenset(int(i) for i in chosen)
            shares.append(certificate(header, Adversary(server=True, coalition=coalition)).exposed)
        found.append(shares)
    return _exposure(list(range(size)), found)


def by_round(
    participants: int, size: int, selection: str, rounds: int, seeds: list[int]
) -> Exposure:
    """The server alone, after rounds 1..R in which groups change and updates do not."""
    runs = [
        list(determined_by_round(groups(participants, size, selection, rounds, seed), participants))
        for seed in seeds
    ]
    found = [[len(run[r]) / participants for run in runs] for r in range(rounds)]
    return _exposure(list(range(1, rounds + 1)), found)


def groups(
    participants: int, size: int, selection: str, rounds: int, seed: int
) -> list[np.ndarray]:
    """The groups i32 [n] that SelectGroup draws in rounds 0..R-1."""
    public = randomness.public_key(seed)
    drawn = (_group(public, jnp.uint32(i), size, participants, selection) for i in range(rounds))
    return [np.asarray(group) for group in drawn]


_group = jax.jit(randomness.selected, static_argnums=(2, 3, 4))


def determined_by_round(chosen: list[np.ndarray], participants: int) -> Iterator[list[int]]:
    """Yields, after each round, the participants whose updates the sums so far determine.

    Sums below the headroom are known as integers, so the elimination is over the rationals. It runs
    modulo 2^31 - 1, which differs only if that prime divides a minor.
    """
    known = np.zeros((0, participants), np.uint64)
    for group in chosen:
        row = np.zeros((1, participants), np.uint64)
        row[0, group] = 1
        known = reduce_rows(np.concatenate([known, row]), P).rows
        single = np.count_nonzero(known, axis=1) == 1
        yield sorted(int(np.flatnonzero(row)[0]) for row in known[single])


def rounds_that_determine(config: Config, targets: list[int], least: int) -> int:
    """How many of a run's rounds to play until their sums determine the targets' updates: at least
    `least`, at most all. Looks at a tenth of N rounds at a time.
    """
    people, last = config.participants, config.rounds
    chosen = groups(people, config.group, config.selection, last, config.seed)
    known = np.zeros((0, people), np.uint64)
    played, step = 0, min(least, last)
    while step:
        rows = np.zeros((step, people), np.uint64)
        for row, group in zip(rows, chosen[played : played + step], strict=True):
            row[group] = 1
        known = reduce_rows(np.concatenate([known, rows]), P).rows
        single = known[np.count_nonzero(known, axis=1) == 1]
        played += step
        done = set(targets) <= set(np.nonzero(single)[1].tolist())
        step = 0 if done else min(max(1, people // 10), last - played)
    return played


def _exposure(at: list[int], found: list[list[float]]) -> Exposure:
    return Exposure(
        at,
        [float(np.mean(shares)) for shares in found],
        [min(shares) for shares in found],
        [max(shares) for shares in found],
    )
