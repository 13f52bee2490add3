"""Engine reference: a round whose sharing runs in `ssddl_jax.reference`, in Python integers.

The oracle recomputes all that follows training: encoding, keys, shares, uploads, digest and
aggregate. Training stays compiled, because compiled float arithmetic differs from any other in the
last bit. The engine is slow and meant for small settings.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax import reference
from ssddl_jax.config.config import Config
from ssddl_jax.core.accumulate import ring_sums
from ssddl_jax.core.arithmetic.encoding import decode_words
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Info, MemberRows, Recipe, State
from ssddl_jax.core.round import LocalTrain, ParaUpdate, SelectGroup


def settings_of(config: Config, recipe: Recipe) -> reference.Settings:
    """The oracle's settings for a config."""
    scheme = recipe.scheme
    return reference.Settings(
        seed=config.seed,
        clip=config.clip,
        fraction_bits=scheme.encoding.fraction_bits,
        prg_rounds=scheme.prg.rounds,
        ring_bits=config.ring_bits,
        rounding="stochastic" if recipe.stochastic else "nearest",
        neighbours=scheme.neighbours,
        shares=config.shares,
        dropout_rule=config.dropout_rule,
        threshold=scheme.threshold,
        max_dropout=repr(config.max_dropout),
        least_summed=scheme.least_summed,
        engine="ideal" if config.engine == "ideal" else "pairwise",
    )


def reference_round(
    config: Config, recipe: Recipe
) -> Callable[[State, Data], tuple[State, Info, MemberRows]]:
    """A round (state, data) -> (state, info, rows), like `shared_round`, but run on the host."""
    settings, rule = settings_of(config, recipe), config.rule_in_force
    train = LocalTrain(recipe, ring_sums(recipe.scheme, False, uses_digest=False), keep=True)

    @jax.jit
    def before(state: State, data: Data) -> Any:
        group = SelectGroup(recipe, state)
        _, outcomes, kept = train(state, data, group)
        return group, outcomes, kept

    @jax.jit
    def after(state: State, aggregate: Any, void: Any) -> State:
        mean, _ = decode_words(aggregate, recipe.scheme.encoding)
        return ParaUpdate(recipe, state, mean, void)

    def step(state: State, data: Data) -> tuple[State, Info, MemberRows]:
        group, outcomes, kept = before(state, data)
        ids = np.asarray(group.ids)
        weights = np.asarray(data.counts)[ids] if recipe.weighted else np.ones_like(ids)
        done = reference.share_round(
            settings,
            [int(word) for word in np.asarray(state.chain)],
            int(state.round),
            [int(i) for i in ids],
            np.asarray(kept.updates),
            [int(w) for w in weights],
            {int(s) for s in np.flatnonzero(np.asarray(group.vanished))},
        )
        finite = np.asarray(outcomes.finite)
        alive = np.array(done.alive)
        members = alive if rule.retries else finite
        aggregate = np.array(done.aggregate, np.uint32)
        opened = 0
        if rule.opens == "keys":
            gone = {int(i) for i in ids[finite & ~alive]}
            opened = sum(
                partner in gone
                for row, here in zip(done.neighbours, done.alive, strict=True)
                if here
                for partner in row
            ) * (2 if config.shares == "directed" else 1)
        held = members if rule.holds_sharers else alive
        expected = recipe.scheme.ring.sum(
            jnp.asarray(np.where(held[:, None], np.array(done.encoded, np.uint32), 0), jnp.uint32)
        )
        right = np.array_equal(aggregate, np.asarray(expected))
        fields = {
            "group": ids,
            "alive": alive,
            "members": members,
            "attempt": np.uint32(done.attempt),
            "void": np.bool_(done.void),
            "exact": np.bool_(right and not done.void),
            "finite": finite,
            "clipped": outcomes.clipped,
            "loss": outcomes.loss,
            "aggregate": aggregate,
            "digest": np.array(done.digest, np.uint32),
            "opened": np.uint32(opened),
            "diagnostics": outcomes.diagnostics,
        }
        info = jax.tree.map(jnp.asarray, Info(**fields))
        rows = MemberRows(
            kept.updates, jnp.array(done.encoded, jnp.uint32), jnp.array(done.uploads, jnp.uint32)
        )
        return after(state, aggregate, np.bool_(done.void or not right)), info, rows

    return step
