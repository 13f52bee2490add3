"""`ssddl bench`: one timed measurement, with the same code that `run` uses.

- `bench share`: ParaShare and the server's sum alone. Cheap synthetic updates replace local
  training (one random vector, scaled by a factor for each participant); everything after it, from
  the encoding to the server's update, is what `run` executes.
- `bench round`: whole rounds in which everybody takes part, on a fixed pool of random images of
  MNIST's shape. A participant holds E rows of the pool, computed from its id.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ssddl_jax.common.paths import user_path
from ssddl_jax.config.config import Config
from ssddl_jax.core.learning.local_training import LocalSteps
from ssddl_jax.core.learning.models import Model, load_model
from ssddl_jax.core.learning.optimizers import local_optimizer
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Info
from ssddl_jax.data.loading import check_population
from ssddl_jax.planning.plan import traffic
from ssddl_jax.planning.requests import RoundBench, ShareBench, check_round_bench, check_share_bench
from ssddl_jax.running.environment import device_name, peak_memory_mb, versions
from ssddl_jax.running.profiling import profiled
from ssddl_jax.running.waiting import Pace, Tell, pace_of, wait_for
from ssddl_jax.simulation.build import Simulation, build_simulation, compile_step, place
from ssddl_jax.simulation.digests import words_sha256
from ssddl_jax.simulation.schemes import words_made

POOL = 10_000  # images of bench round
_LONG = 60.0  # seconds from which on the first call counts: it is no warm-up


class Timed(NamedTuple):
    """Repetitions of one compiled round."""

    seconds: list[float]
    compile_seconds: float
    exact: bool  # in every repetition that was not void
    info: Info  # of the last
    sampled: np.ndarray | None  # the uploads of `Scheme.sampled` in round 0
    pace: Pace | None  # of a long round
    cpu_seconds: list[float]  # of each repetition, all cores


def bench_share(
    config: Config,
    bench: ShareBench,
    profile: str | Path | None = None,
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Times the sharing layer; returns what `ssddl bench share --json` prints.

    `profile`: a new folder for the trace of one additional round. `tell` is given lines of progress
    if a round is long. Raises `ConfigError`.
    """
    check_share_bench(config, bench)
    check_population(config)
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

    def train(
        params: Any, data: Data, public: Array, round_: Array, ids: Array
    ) -> tuple[tuple[Array, ...], Array]:
        factors = factor_of(ids)
        updates = base[None, :] * factors[:, None]
        return jax.lax.optimization_barrier(((updates,), jnp.zeros_like(factors)))

    sampled = sampled_slots(config, bench.sample_uploads)
    simulation = build_simulation(config, model, data, train=train, sampled=sampled)
    base = base_update(config.seed, dimension)  # allocated only after the memory check
    timed = _time(config, simulation, data, bench.repeats, profile, tell)
    made = words_made(config.engine, config.rule_in_force, simulation.recipe.scheme)
    plan = simulation.plan
    ends = 1 if config.paired else 2
    median = float(np.median(timed.seconds))
    return {
        "seconds_median": median,
        "seconds": timed.seconds,
        "share_words": made,
        "share_words_delivered": ends * plan.size * plan.neighbours * plan.width,
        "share_words_per_second": made / median,
        "compile_seconds": timed.compile_seconds,
        "peak_memory_mb": peak_memory_mb(),
        "exact": timed.exact,
        "uploads_sha256": words_sha256(timed.info.digest),
        "group_size": plan.size,
        "parameters": plan.dimension,
        "neighbours": plan.neighbours,
        "shares": "paired" if config.paired else "directed",
        "prg": config.prg,
        "engine": config.engine,
        **_sample(config, simulation, timed),
        "device": device_name(),
        "versions": versions(),
    }


def bench_round(
    config: Config,
    bench: RoundBench,
    profile: str | Path | None = None,
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Times whole rounds; returns what `ssddl bench round --json` prints.

    `profile` and `tell` are as for `bench_share`. Raises `ConfigError`.
    """
    simulation, data = round_simulation(config, bench)
    timed = _time(config, simulation, data, bench.repeats, profile, tell)
    plan, secure = simulation.plan, config.sums_securely
    made = words_made(config.engine, config.rule_in_force, simulation.recipe.scheme)
    info = timed.info
    moved = traffic(
        config,
        plan,
        members=int(np.sum(info.finite)),
        alive=int(np.sum(info.alive)),
        attempt=int(info.attempt),
        opened=int(info.opened),
        void=bool(info.void),
    )
    return {
        "seconds_per_round_median": float(np.median(timed.seconds)),
        "seconds_per_round": timed.seconds,
        "compile_seconds": timed.compile_seconds,
        "peak_memory_mb": peak_memory_mb(),
        "parameters": plan.dimension,
        "participants": plan.size,
        "share_words": made if secure else 0,
        "exact": timed.exact if secure else None,
        "uploads_sha256": words_sha256(timed.info.digest) if secure else None,
        "bytes_up_per_participant": moved.up // plan.size,
        "bytes_down_per_participant": moved.down // plan.size,
        **{name: value for name, value in bench._asdict().items() if name != "sample_uploads"},
        "model": simulation.model.name,
        "protocol": config.protocol,
        "engine": config.engine,
        "neighbours": plan.neighbours,
        "prg": config.prg,
        "tile_size": plan.tile_size,
        **_sample(config, simulation, timed),
        "device": device_name(),
        "versions": versions(),
    }


def round_simulation(config: Config, bench: RoundBench) -> tuple[Simulation, Data]:
    """The simulation that `bench round` times, and its data on the host. Raises `ConfigError`."""
    check_round_bench(config, bench)
    check_population(config)
    pool = image_pool(bench.participants, bench.examples)
    model = load_model(config.model, pool.shape, 10)
    batch = min(bench.batch_size, bench.examples)
    steps = LocalSteps(
        epochs=-(-bench.local_steps // -(-bench.examples // batch)),
        batch_size=batch,
        ragged=bench.examples % batch != 0,
        padded=bench.examples % batch != 0,
        most=bench.local_steps,
    )
    optimizer = local_optimizer(config.local_optimizer, config.learning_rate)
    sampled = sampled_slots(config, bench.sample_uploads)
    built = build_simulation(config, model, pool, local=optimizer, steps=steps, sampled=sampled)
    return built, pool


def factor_of(ids: Any) -> Any:
    """The factors of the synthetic updates, f32 in [-1, 1): exact, so alike on every platform."""
    hashed = ids.astype(np.uint32) * np.uint32(0x9E3779B9) >> np.uint32(8)
    return hashed.astype(np.float32) * np.float32(2**-23) - np.float32(1)


def base_update(seed: int, dimension: int) -> np.ndarray:
    """The vector f32 [d] of which every synthetic update is a multiple."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 0.3, dimension).astype(np.float32)


def sampled_slots(config: Config, count: int) -> tuple[int, ...]:
    """Distinct slots drawn at random, in ascending order. Everybody is in the group: slot = id."""
    rng = np.random.default_rng([config.seed, count])
    return tuple(sorted(rng.choice(config.participants, count, replace=False).tolist()))


def _sample(config: Config, simulation: Simulation, timed: Timed) -> dict[str, Any]:
    """What `benchmarks/million.py` needs to check uploads, and the pace of a long round."""
    found: dict[str, Any] = {}
    if timed.pace is not None:
        found = {
            "cpu_seconds": timed.cpu_seconds,
            "kernel_words_per_second": timed.pace.kernel_rate,
            "kernel_words_per_cpu_second": timed.pace.kernel_cpu_rate,
        }
    if timed.sampled is None:
        return found
    scheme = simulation.recipe.scheme
    return found | {
        "seed": config.seed,
        "clip": config.clip,
        "fraction_bits": scheme.encoding.fraction_bits,
        "ring_bits": config.ring_bits,
        "rounding": simulation.plan.headroom.rounding,
        "shares": config.shares,
        "sampled_uploads": [
            {"participant": slot, "sha256": words_sha256(row)}
            for slot, row in zip(scheme.sampled, timed.sampled, strict=True)
        ],
    }


def image_pool(participants: int, examples: int) -> Data:
    """POOL random images; each participant holds `examples` of them, computed from its id."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (POOL, 28, 28), np.uint8)
    labels = rng.integers(0, 10, POOL, np.int32)
    return Data(
        images=images,
        labels=labels,
        rows=np.zeros((0, examples), np.int32),
        counts=np.full(participants, examples, np.int32),
        test_images=images[:10],
        test_labels=np.arange(10, dtype=np.int32),
    )


def _time(
    config: Config,
    simulation: Simulation,
    data: Data,
    repeats: int,
    profile: str | Path | None,
    tell: Tell,
) -> Timed:
    """The first call warms up, unless it takes a minute: then it is the first repetition."""
    placed = place(data, simulation.recipe)
    state = place(simulation.init(), simulation.recipe)
    folder = None if profile is None or jax.process_index() else user_path("profile", profile)
    compiled = compile_step(simulation, state, placed, traceable=folder is not None)
    pace = pace_of(config, simulation)
    seconds: list[float] = []
    cpu: list[float] = []
    exact, first = True, None
    info: Any = None
    while len(seconds) < repeats + 1:
        del info  # for a million members it is large: free it before the next call
        begin, cpu_begin = time.perf_counter(), time.process_time()
        state, info = wait_for(compiled.call(state, placed), pace, tell)
        seconds.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - cpu_begin)
        exact &= bool(info.exact) or bool(info.void)  # a void round has no sum
        if len(seconds) == 1:
            first = None if info.sampled is None else np.asarray(info.sampled)
            if seconds[0] >= _LONG:
                seconds, cpu = 2 * seconds, 2 * cpu
    if folder is not None:
        step = profiled(compiled, Path(folder), 1)
        state, info = jax.block_until_ready(step.call(state, placed))
    return Timed(seconds[1:], compiled.seconds, exact, info, first, pace, cpu[1:])
