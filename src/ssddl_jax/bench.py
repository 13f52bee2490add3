"""`ssddl bench share`: ParaShare and the server's sum alone, through the very code of a round.

Local training is replaced by cheap synthetic updates (one random vector, scaled by a factor of each
participant's own): everything after it, from the encoding to the server's update, is what `run`
runs.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ssddl_jax.compiling import compile_once, named
from ssddl_jax.config import Config
from ssddl_jax.environment import device_name, peak_memory_mb, versions
from ssddl_jax.errors import ConfigError
from ssddl_jax.hashes import words_sha256
from ssddl_jax.models import Model
from ssddl_jax.population import Data
from ssddl_jax.sharing import words_made
from ssddl_jax.simulation import build_simulation, place


class ShareBench(NamedTuple):
    """What is measured, besides the config's own fields."""

    group_size: int
    dimension: int
    repeats: int = 5


def bench_share(config: Config, bench: ShareBench) -> dict[str, Any]:
    """One timed measurement; keys as `interface.md` says. Raises `ConfigError`."""
    for name, value in zip(bench._fields, bench, strict=True):
        if value < 1:
            raise ConfigError(name, value, "must be at least 1")
    if config.protocol == "plain":
        raise ConfigError("protocol", "plain", "has no shares to time; use ssddl")
    if config.engine == "reference":
        raise ConfigError("engine", "reference", "is not a kernel to time; use pairwise or ideal")
    size, dimension = bench.group_size, bench.dimension
    model = Model(lambda _, __: jnp.zeros(dimension, jnp.float32), lambda params, x: x, "synthetic")
    data = Data(
        images=np.zeros((1, 1), np.uint8),
        labels=np.zeros(1, np.int32),
        rows=np.zeros((size, 1), np.int32),
        counts=np.ones(size, np.int32),
        test_images=np.zeros((1, 1), np.uint8),
        test_labels=np.zeros(1, np.int32),
    )
    rng = np.random.default_rng(config.seed)
    base = jnp.asarray(rng.normal(0.0, 0.3, dimension).astype(np.float32))

    def train(
        params: Any, data: Data, public: Array, round_: Array, ids: Array
    ) -> tuple[Array, Array]:
        factors = jnp.sin(ids.astype(jnp.float32))
        updates = base[None, :] * factors[:, None]
        return jax.lax.optimization_barrier((updates, jnp.zeros_like(factors)))

    simulation = build_simulation(config, model, data, train=train)
    recipe = simulation.recipe
    placed = place(data, recipe)
    state = place(simulation.init(), recipe)
    compiled = compile_once(named(simulation.step), state, placed)
    seconds = []
    exact = True
    for _ in range(bench.repeats + 1):  # the first warms up
        begin = time.perf_counter()
        state, info = jax.block_until_ready(compiled.call(state, placed))
        seconds.append(time.perf_counter() - begin)
        exact &= bool(info.exact)
    median = float(np.median(seconds[1:]))
    made = words_made(config.engine, recipe.scheme)
    plan = simulation.plan
    ends = 2 if config.shares == "directed" else 1
    delivered = ends * plan.size * plan.neighbours * plan.width
    return {
        "seconds_median": median,
        "seconds": seconds[1:],
        "share_words": made,
        "share_words_delivered": delivered,
        "share_words_per_second": made / median,
        "compile_seconds": compiled.seconds,
        "peak_memory_mb": peak_memory_mb(),
        "exact": exact,
        "uploads_sha256": words_sha256(info.digest),
        "group_size": plan.size,
        "parameters": plan.dimension,
        "neighbours": plan.neighbours,
        "shares": config.shares,
        "prg": config.prg,
        "engine": config.engine,
        "device": device_name(),
        "versions": versions(),
    }
