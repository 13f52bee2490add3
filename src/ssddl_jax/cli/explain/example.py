"""The round that `explain` shows: a real round of a group of three, and its shares.

A round keeps no shares, so the reference recomputes them from the chain state.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax import reference
from ssddl_jax.config.config import Config
from ssddl_jax.core.arithmetic.chacha import PRG, PRGS
from ssddl_jax.core.learning.local_training import flattened
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.loading import load_data
from ssddl_jax.planning.plan import Plan
from ssddl_jax.reference.encoding import to_values
from ssddl_jax.simulation.build import build_simulation, place
from ssddl_jax.simulation.compiling import compile_once, named
from ssddl_jax.simulation.digests import flat_params
from ssddl_jax.simulation.transcript import Arrays, transcript

MEMBERS = 3  # of the group that is shown
_LABEL = 24


class Shown(NamedTuple):
    """A round of three members, and the columns to print."""

    config: Config  # the user's
    own: Plan  # of the user's round
    round: Arrays  # as from `transcript`; protocol plain has only some of the keys
    columns: list[int]  # coordinates, then the position of the weight word
    prg: PRG

    @property
    def alive(self) -> list[int]:
        """Slots whose updates are in the sum."""
        return [int(slot) for slot in np.flatnonzero(self.round["alive"])]

    def id(self, slot: int) -> int:
        """The participant in a slot."""
        return int(self.round["group"][slot])

    def values(self, message: Any) -> list[int]:
        """A message's D values, from its words."""
        return to_values([int(word) for word in message], self.config.ring_bits)

    def row(self, label: str, values: Any) -> str:
        """A line of numbers, at most one for each column."""
        width = 16 if self.config.ring_bits == 32 else 21
        return f"    {label:<{_LABEL}}" + "".join(f"{value:>{width}}" for value in values)

    def floats(self, label: str, values: Any) -> str:
        """A line of float32 coordinates, with all their digits."""
        return self.row(label, [f"{float(values[c]):.9g}" for c in self.columns[:-1]])

    def message(self, label: str, message: Any) -> str:
        """A line of a message's values, the weight word last."""
        values = self.values(message)
        return self.row(label, [values[c] for c in self.columns])


def play(config: Config) -> Shown:
    """Runs round 0 of a config with a group of three. Raises `ConfigError` as `run` would."""
    data = load_data(config)
    own = build_simulation(config, None, data).plan
    small = of_three(config, own)
    played = transcript(small, 0, data=data) if config.sums_securely else _plain(small, data)
    coordinates = min(3 if config.ring_bits == 32 else 2, own.dimension)
    return Shown(config, own, played, [*range(coordinates), own.dimension], own.prg)


def of_three(config: Config, own: Plan) -> Config:
    """The config of the round that is shown: three members of the same population, no dropouts,
    every share computed, and the user's encoding.
    """
    return replace(
        config,
        group_size=MEMBERS,
        neighbours="complete",
        engine="pairwise",
        fraction_bits=own.encoding.fraction_bits,
        dropout=0.0,
        dropout_schedule=None,
        threshold=2,
        rounds=1,
        devices=1,
        out=None,
    )


def _plain(config: Config, data: Data) -> Arrays:
    """A round without sharing, under the keys of a transcript."""
    simulation = build_simulation(config, None, data)
    recipe = simulation.recipe
    here = place(data, recipe)
    state = place(simulation.init(), recipe)
    step = compile_once(named(simulation.step), state, here, donate=False)
    after, info = step.call(state, here)
    train, pieces = jax.jit(recipe.train), []
    for start in range(0, MEMBERS, recipe.tile_size):  # a tile's width is part of the recipe
        slots = np.minimum(np.arange(start, start + recipe.tile_size), MEMBERS - 1)
        ids = info.group[slots]
        updates, _ = train(state.params, here, state.public, state.round, ids)
        pieces.append(np.concatenate(flattened(updates), axis=1))
    weights = np.asarray(data.counts)[np.asarray(info.group)] if recipe.weighted else [1] * MEMBERS
    return {
        "chain": np.asarray(state.chain),
        "group": np.asarray(info.group),
        "alive": np.asarray(info.alive),
        "weights": np.asarray(weights),
        "updates": np.concatenate(pieces)[:MEMBERS],
        "mean": np.asarray(info.aggregate),
        "params_before": flat_params(state.params),
        "params_after": flat_params(after.params),
        "void": bool(info.void),
    }


# Shares, recomputed


def words_at(
    prg: PRG, key: list[int], nonce: tuple[int, int, int], count: int, places: list[int]
) -> list[int]:
    """Words at some places of a lane-major message of `count` words; computes no others."""
    blocks = -(-count // 16)
    counters = [place % blocks for place in places]
    if prg.name in PRGS:
        rows: Any = reference.blocks_of(key, counters, nonce, prg.rounds)
    else:  # a plug-in
        rows = prg.block(
            [jnp.uint32(word) for word in key],
            jnp.array(counters, jnp.uint32),
            [jnp.uint32(word) for word in nonce],
        )
    return [int(rows[place // blocks][at]) for at, place in enumerate(places)]


def pair_share(shown: Shown, dealer: int, holder: int) -> list[int]:
    """The shown columns of s_{dealer -> holder}, attempt 0."""
    chain = [int(word) for word in shown.round["chain"]]
    key = reference.derive_key(chain, 0, shown.id(dealer), shown.id(holder), b"PAIR")
    limbs = shown.config.ring_bits // 32
    length = shown.own.dimension + 1
    places = [limb * length + c for limb in range(limbs) for c in shown.columns]
    return to_values(
        words_at(shown.prg, key, (0, 0, 0), limbs * length, places), shown.config.ring_bits
    )


def coefficient(shown: Shown, dealer: int) -> int:
    """c_1 of word 0 of the dealer's polynomial: 31 bits, redrawn if they are p."""
    chain = [int(word) for word in shown.round["chain"]]
    key = reference.derive_key(chain, 0, shown.id(dealer), 1, b"SHAM")
    drawn, again = reference.PRIME, 0
    while drawn == reference.PRIME:
        word = words_at(shown.prg, key, (again, 0, 0), shown.own.dimension + 1, [0])[0]
        drawn, again = word & reference.PRIME, again + 1
    return drawn
