"""DrJAX: a compiled map and sum over placed participants, whole or a chunk after another.

`--chunk 0` maps all participants at once, as DrJAX's own examples do. Chunks keep the updates in
the cache. `--devices` lays each chunk over so many CPU devices.
"""

from typing import Any

import absl.logging
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
    asked, own = workload.work(__doc__, chunk=20, devices=1)
    count = asked.participants
    chunk = min(own["chunk"] or count, count)
    if count % chunk:
        raise SystemExit(f"--chunk {chunk}: must divide --participants {count}")
    absl.logging.set_verbosity(absl.logging.ERROR)  # it warns on every trace without a mesh
    jax.config.update("jax_num_cpu_devices", own["devices"])
    if own["devices"] > 1:
        auto = (jax.sharding.AxisType.Auto,)
        jax.set_mesh(jax.make_mesh((own["devices"],), ("participants",), axis_types=auto))
    images, labels = (jnp.asarray(part) for part in workload.pool())

    def train(params: Any, first: jax.Array) -> Any:
        for step in range(asked.local_steps):
            rows = first + step * asked.batch_size + jnp.arange(asked.batch_size)
            x = images[rows].astype(jnp.float32) / 255
            gradient = jax.grad(loss)(params, x, labels[rows])
            params = jax.tree.map(lambda p, g: p - workload.RATE * g, params, gradient)
        return params

    @drjax.program(placements={"participants": chunk})
    def total(params: Any, firsts: jax.Array) -> Any:
        return drjax.reduce_sum(drjax.map_fn(train, (drjax.broadcast(params), firsts)))

    @jax.jit
    def round_(params: Any, chunks: jax.Array) -> Any:
        def add(before: Any, firsts: jax.Array) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, before, total(params, firsts)), None

        sums, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), chunks)
        return jax.tree.map(lambda s: s / count, sums)

    firsts = [workload.rows(i, asked.examples).start for i in range(count)]
    chunks = jnp.asarray(firsts, jnp.int32).reshape(-1, chunk)
    params = jax.tree.map(jnp.asarray, workload.initial())

    def step() -> None:
        nonlocal params
        params = jax.block_until_ready(round_(params, chunks))

    def read() -> workload.Params:
        return {name: np.asarray(value) for name, value in params.items()}

    more = {"chunk": chunk, "devices": own["devices"]}
    packages = ["drjax", "jax", "jaxlib", "numpy"]
    workload.run(asked, "DrJAX", packages, step, read, **more)


if __name__ == "__main__":
    main()
