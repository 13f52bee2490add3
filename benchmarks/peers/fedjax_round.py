"""FedJAX: its `for_each_client` on the jit backend, with a compiled running sum of the updates.

Its stock `fed_avg` gives the same parameters; it also takes each update's norm and adds leaf by
leaf, which is slower, so the sum here is one compiled call a participant.
"""

from typing import Any

import fedjax
import jax
import jax.numpy as jnp
import numpy as np
import workload
from fedjax.algorithms import fed_avg


def loss(params: Any, batch: Any) -> jax.Array:
    """Mean cross entropy of a batch."""
    hidden = jax.nn.relu(batch["x"] @ params["w1"] + params["b1"])
    logs = jax.nn.log_softmax(hidden @ params["w2"] + params["b2"])
    return -jnp.mean(jnp.take_along_axis(logs, batch["y"][:, None], axis=1))


def main() -> None:
    """Times the round; `workload.py` says what it is."""
    asked, _ = workload.work(__doc__)
    images, labels = workload.pool()
    pixels = workload.as_float(images)
    train = fed_avg.create_train_for_each_client(
        lambda params, batch, rng: jax.grad(loss)(params, batch),
        fedjax.optimizers.sgd(workload.RATE),
    )
    data = [
        fedjax.ClientDataset({"x": pixels[rows], "y": labels[rows]})
        for rows in (workload.rows(i, asked.examples) for i in range(asked.participants))
    ]
    key = jax.random.PRNGKey(0)

    @jax.jit
    def add(total: Any, update: Any) -> Any:
        return jax.tree.map(jnp.add, total, update)

    @jax.jit
    def move(params: Any, total: Any) -> Any:
        return jax.tree.map(lambda p, t: p - t / asked.participants, params, total)

    params = jax.tree.map(jnp.asarray, workload.initial())
    zeros = jax.tree.map(jnp.zeros_like, params)

    def step() -> None:
        nonlocal params
        batches = [(i, mine.batch(batch_size=asked.batch_size), key) for i, mine in enumerate(data)]
        total = zeros
        for _, update in train(params, batches):
            total = add(total, update)
        params = jax.block_until_ready(move(params, total))

    def read() -> workload.Params:
        return {name: np.asarray(value) for name, value in params.items()}

    workload.run(asked, "FedJAX", ["fedjax", "jax", "jaxlib", "numpy"], step, read)


if __name__ == "__main__":
    main()
