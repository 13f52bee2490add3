"""DrJAX: one compiled map and mean over chunks of placed participants, on one CPU device."""

import argparse
from typing import Any

import drjax
import jax
import jax.numpy as jnp
import numpy as np
import workload


def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean cross entropy of a batch."""
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    logs = jax.nn.log_softmax(hidden @ params["w2"] + params["b2"])
    return -jnp.mean(jnp.take_along_axis(logs, y[:, None], axis=1))


def main() -> None:
    """Times the round; `workload.py` says what it is."""
    asked, _ = workload.work(__doc__), argparse
    images, labels = (jnp.asarray(part) for part in workload.pool())
    distinct = workload.POOL // asked.examples
    batches = (asked.local_steps, asked.batch_size)

    def train(params: Any, first: jax.Array) -> Any:
        def step(before: Any, rows: jax.Array) -> tuple[Any, None]:
            x = images[rows].astype(jnp.float32) / 255
            gradient = jax.grad(loss)(before, x, labels[rows])
            return jax.tree.map(lambda p, g: p - workload.RATE * g, before, gradient), None

        rows = (first + jnp.arange(asked.examples)).reshape(batches)
        return jax.lax.scan(step, params, rows)[0]

    @drjax.program(placements={"participants": asked.participants})
    def averaged(params: Any, firsts: jax.Array) -> Any:
        return drjax.reduce_mean(drjax.map_fn(train, (drjax.broadcast(params), firsts)))

    round_ = jax.jit(averaged)
    firsts = jnp.arange(asked.participants) % distinct * asked.examples
    params = jax.tree.map(jnp.asarray, workload.initial())

    def step() -> None:
        nonlocal params
        params = jax.block_until_ready(round_(params, firsts))

    def read() -> workload.Params:
        return {name: np.asarray(value) for name, value in params.items()}

    workload.run(asked, "DrJAX", ["drjax", "jax", "jaxlib", "numpy"], step, read)


if __name__ == "__main__":
    main()
