"""SNT, weight transmission through a server (Phong & Phuong 2019).

The weights pass through the round's group in slot order. Each member trains on its own data from
the weights that it received and forwards the result: this is SGD over the members' data, one member
after another. In the source, weights are encrypted under a key that the members share, so the
server learns nothing from relaying them. Encryption and decryption cancel, so the round skips them;
`work` times them. A member that vanishes, or whose update is not finite, leaves the weights
unchanged.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ssddl_jax.baselines.base import Parts, Rival, after_round, info_of, is_finite
from ssddl_jax.baselines.sequential import Visit, moved, trained, visit_all
from ssddl_jax.baselines.work import Cost, Work, some_keys, timed
from ssddl_jax.core.arithmetic.chacha import CHACHA20
from ssddl_jax.core.learning.models import Params
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Info, State
from ssddl_jax.core.round import SelectGroup
from ssddl_jax.core.sharing.schedules.kernels import LANES, written


def snt(parts: Parts) -> Rival:
    """The round of SNT."""
    recipe = parts.recipe

    def step(state: State, data: Data) -> tuple[State, Info]:
        group = SelectGroup(recipe, state)

        def visit(weights: Params, each: Visit) -> tuple[Params, tuple[Array, Array, Array]]:
            change, loss = trained(recipe, state, data, weights, each.participant)
            finite = is_finite(change)
            passed_on = moved(weights, change, finite & each.arrives)
            return passed_on, (finite, jnp.uint32(0), loss)

        after, visits = visit_all(visit, state.params, group)
        info = info_of(state, after, group, *visits)
        return after_round(state, after, ()), info

    return Rival(step)


def work(config: Any, dimension: int, train_seconds: float) -> Work:
    """A member decrypts the weights, and encrypts its result."""

    def streams(keys: jax.Array) -> Any:
        ones = jnp.ones(len(keys), jnp.uint32)
        return written(CHACHA20, list(keys.T), ones, jnp.uint32(0), -(-dimension // 16))

    one = timed(streams, some_keys(LANES)) / LANES  # LANES at once: a single stream compiles badly
    return Work(Cost(train_seconds, 2 * one, 2 * dimension), Cost())
