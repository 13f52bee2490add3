"""A custom model for the recorded hashes of `run_hashes.py`: one hidden layer of 32."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Weights(NamedTuple):
    """The weights of the two layers."""

    first: Array
    second: Array


def init(key: Array, example: Array) -> Weights:
    """Normal weights, scaled by the inputs of each layer."""
    one, two = jax.random.split(key)
    inputs = example[0].size
    return Weights(
        jax.random.normal(one, (inputs, 32)) / jnp.sqrt(jnp.float32(inputs)),
        jax.random.normal(two, (32, 10)) / jnp.sqrt(jnp.float32(32)),
    )


def apply(weights: Weights, x: Array) -> Array:
    """Logits [batch, 10]."""
    return jnp.tanh(x.reshape(x.shape[0], -1) @ weights.first) @ weights.second


model = (init, apply)
