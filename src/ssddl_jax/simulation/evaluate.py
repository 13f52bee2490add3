"""Test accuracy of the models of a state."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.core.learning.models import Model
from ssddl_jax.core.learning.population import Data, as_float
from ssddl_jax.core.records import State
from ssddl_jax.simulation.build import Simulation
from ssddl_jax.simulation.compiling import Keep, anew

_EVAL_BATCH = 1000


class Evaluation:
    """The test accuracy of a state, the mean over its evaluated models.

    The first call compiles it, unless `compile` did before; `keep` may give a kept program instead.
    """

    def __init__(self, simulation: Simulation, keep: Keep = anew) -> None:
        self._jitted = jax.jit(partial(correct_by_model, simulation))
        self._keep = keep
        self._program: jax.stages.Compiled | None = None

    def compile(self, state: State, data: Data) -> jax.stages.Compiled:
        """Compiles it for states like this one: placed arrays, or shapes with a sharding."""
        given = state, data.test_images, data.test_labels
        make = self._jitted.lower
        self._program = self._keep("evaluation", given, lambda: make(*given).compile())
        return self._program

    def __call__(self, state: State, data: Data) -> float:
        """The share of the test images that are classified correctly."""
        program = self._program or self.compile(state, data)
        right = np.asarray(program(state, data.test_images, data.test_labels))
        return int(right.sum()) / (len(right) * len(data.test_labels))


def correct_by_model(
    simulation: Simulation, state: State, images: jax.Array, labels: jax.Array
) -> jax.Array:
    """How many images each evaluated model classifies correctly, i32 [m]."""

    def right(params: Any) -> jax.Array:
        return count_correct(simulation.model, params, images, labels)

    with jax.default_matmul_precision(simulation.recipe.precision):
        return jax.lax.map(right, simulation.evaluated_models(state))


def count_correct(model: Model, params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """How many images one model classifies correctly, i32; in padded batches of fixed size."""
    spare = -images.shape[0] % _EVAL_BATCH
    padding = [(0, spare), *((0, 0) for _ in images.shape[1:])]
    images = jnp.pad(images, padding).reshape(-1, _EVAL_BATCH, *images.shape[1:])
    labels = jnp.pad(labels, (0, spare), constant_values=-1).reshape(-1, _EVAL_BATCH)

    def right(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        guesses = jnp.argmax(model.apply(params, as_float(batch[0])), axis=1)
        return jnp.sum(guesses.astype(jnp.int32) == batch[1], dtype=jnp.int32)

    return jnp.sum(jax.lax.map(right, (images, labels)), dtype=jnp.int32)
