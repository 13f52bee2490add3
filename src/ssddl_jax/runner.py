"""`run`: the loop around the compiled round, and the run directory that it leaves."""

import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tomli_w

from ssddl_jax.config import Config
from ssddl_jax.errors import ConfigError
from ssddl_jax.hashes import VOID, run_sha256, words_sha256
from ssddl_jax.models import Model
from ssddl_jax.plan import Traffic, traffic
from ssddl_jax.population import Data, as_float, load_data
from ssddl_jax.reference_round import reference_round
from ssddl_jax.round import Info
from ssddl_jax.simulation import Simulation, build_simulation, place

_EVAL_BATCH = 1000
# The share kernels gain a quarter to two fifths from full-width vectors where the CPU has them.
_CPU_OPTIONS: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}


class RunResult(NamedTuple):
    """What a run leaves: also in its directory."""

    summary: dict[str, Any]
    metrics: list[dict[str, Any]]
    params: Any
    directory: Path


class Compiled(NamedTuple):
    """A compiled function, and what compiling took."""

    call: Callable[..., Any]
    seconds: float
    compilations: int


def compile_once(function: Callable[..., Any], *arguments: Any, donate: bool = True) -> Compiled:
    """Compiles for these arguments' shapes, ahead of the first call; counts XLA compilations.

    The first argument's buffers are donated: the old chain state is erased with them.
    """
    seen: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.perf_counter()
    try:
        jitted = jax.jit(function, donate_argnums=0 if donate else ())
        options = _CPU_OPTIONS if jax.default_backend() == "cpu" else None
        compiled = jitted.lower(*arguments).compile(compiler_options=options)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return Compiled(compiled, time.perf_counter() - start, len(seen))


def run(
    config: Config,
    *,
    overwrite: bool = False,
    on_round: Callable[[dict[str, Any]], None] = lambda row: None,
    on_start: Callable[[Simulation], None] = lambda simulation: None,
    **parts: Any,
) -> RunResult:
    """Trains as the config says and writes the run directory.

    `on_round` is called with every line of the metrics. `model`, `data`, `local`, `server` and
    `sharing`, if given, stand in for the config's (see `build_simulation`). Raises `ConfigError`
    before anything is compiled or written.
    """
    host_data = parts.pop("data", None) or load_data(config)
    simulation = build_simulation(config, parts.pop("model", None), host_data, **parts)
    directory = output_directory(config)
    check_output(directory, overwrite)
    on_start(simulation)
    started = time.perf_counter()
    data = place(host_data, simulation.recipe)
    state = place(simulation.init(), simulation.recipe)
    if config.engine == "reference" and config.protocol != "plain":
        whole = reference_round(config, simulation.recipe)
        step = Compiled(lambda state, data: whole(state, data)[:2], 0.0, 1)
    else:
        step = compile_once(named(simulation.step), state, data)
    evaluate = evaluator(simulation.model)
    metrics: list[dict[str, Any]] = []
    directory.mkdir(parents=True, exist_ok=True)
    write_config(config, directory / "config.toml")
    with ExitStack() as stack:
        log = stack.enter_context((directory / "metrics.jsonl").open("w"))
        for index in range(config.rounds):
            begin = time.perf_counter()
            state, info = jax.block_until_ready(step.call(state, data))
            seconds = time.perf_counter() - begin
            row = metrics_row(config, simulation, index, info, seconds)
            if (index + 1) % config.eval_every == 0 or index + 1 == config.rounds:
                row["test_accuracy"] = evaluate(state.params, data)
            metrics.append(row)
            log.write(json.dumps(row) + "\n")
            log.flush()
            on_round(row)
            if row["nonfinite"] and config.nonfinite == "stop":
                raise FloatingPointError(
                    f"round {index}: {row['nonfinite']} members' updates are not finite; "
                    "lower learning_rate, or set nonfinite = exclude"
                )
    summary = summarise(config, simulation, metrics, state.params, step, started)
    (directory / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return RunResult(summary, metrics, state.params, directory)


def named(step: Callable[..., Any]) -> Callable[..., Any]:
    """The round under the name that XLA's and JAX's logs will show."""

    def ssddl_round(state: Any, data: Any) -> Any:
        return step(state, data)

    return ssddl_round


def output_directory(config: Config) -> Path:
    """`out`, or a new name in runs/."""
    if config.out is not None:
        return Path(config.out)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{config.protocol}-{Path(config.data).stem}"
    names = [stem, *(f"{stem}-{i}" for i in range(2, 1000))]
    return next(Path("runs") / name for name in names if not (Path("runs") / name).exists())


def check_output(directory: Path, overwrite: bool) -> None:
    """Refuses an `out` that exists or cannot be made; writes nothing."""
    if directory.exists() and not directory.is_dir():
        raise ConfigError("out", directory, "is a file; name a folder")
    if directory.exists() and any(directory.iterdir()) and not overwrite:
        raise ConfigError("out", directory, "exists already; choose another, or --overwrite")
    parent = directory.absolute()
    while not parent.exists():
        parent = parent.parent
    probe = parent / f".ssddl-probe-{time.monotonic_ns()}"
    try:
        if not parent.is_dir():
            raise NotADirectoryError(20, "Not a directory")
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        remedy = f"cannot be created: {parent}: {error.strerror}; choose a folder you can write to"
        raise ConfigError("out", directory, remedy) from error


def evaluator(model: Model) -> Callable[[Any, Data], float]:
    """Test accuracy, in batches of fixed size, padded."""

    @jax.jit
    def evaluate(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        spare = -images.shape[0] % _EVAL_BATCH
        padding = [(0, spare), *((0, 0) for _ in images.shape[1:])]
        images = jnp.pad(images, padding).reshape(-1, _EVAL_BATCH, *images.shape[1:])
        labels = jnp.pad(labels, (0, spare), constant_values=-1).reshape(-1, _EVAL_BATCH)

        def right(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
            guesses = jnp.argmax(model.apply(params, as_float(batch[0])), axis=1)
            return jnp.sum(guesses.astype(jnp.int32) == batch[1], dtype=jnp.int32)

        return jnp.sum(jax.lax.map(right, (images, labels)), dtype=jnp.int32)

    def accuracy(params: Any, data: Data) -> float:
        count = evaluate(params, data.test_images, data.test_labels)
        return int(count) / len(data.test_labels)

    return accuracy


def metrics_row(
    config: Config, simulation: Simulation, index: int, info: Info, seconds: float
) -> dict[str, Any]:
    """One line of metrics.jsonl."""
    finite, alive = np.asarray(info.finite), np.asarray(info.alive)
    losses = np.asarray(info.loss, np.float64)[finite]
    void, plain = bool(info.void), config.protocol == "plain"
    moved: Traffic = traffic(
        config,
        simulation.plan,
        members=int(finite.sum()),
        alive=int(alive.sum()),
        attempt=int(info.attempt),
        opened=int(info.opened),
    )
    return {
        "round": index,
        "group": [int(i) for i in np.asarray(info.group)],
        "alive": int(alive.sum()),
        "attempt": int(info.attempt),
        "void": void,
        "exact": None if plain else bool(info.exact),
        "loss": float(losses.mean()) if np.isfinite(losses).all() and len(losses) else None,
        "test_accuracy": None,
        "clipped": int(np.asarray(info.clipped, np.uint64).sum()),
        "nonfinite": int((~finite).sum()),
        "seconds": seconds,
        "bytes_up": moved.up,
        "bytes_down": moved.down,
        "aggregate_sha256": VOID if void else words_sha256(info.aggregate),
        "uploads_sha256": None if plain else VOID if void else words_sha256(info.digest),
    }


def summarise(
    config: Config,
    simulation: Simulation,
    metrics: list[dict[str, Any]],
    params: Any,
    step: Compiled,
    started: float,
) -> dict[str, Any]:
    """summary.json."""
    plan = simulation.plan
    member_rounds = plan.size * len(metrics)
    seconds = [row["seconds"] for row in metrics]
    notes = []
    if config.protocol != "plain" and plan.prg.rounds < 20:
        notes.append(f"{plan.prg.name}: fewer than 20 rounds; a smaller security margin")
    if config.protocol != "plain" and config.engine == "ideal":
        notes.append("engine ideal: uploads drawn from their joint distribution, no pair shares")
    plain = config.protocol == "plain"
    return {
        "test_accuracy": metrics[-1]["test_accuracy"],
        "rounds": len(metrics),
        "participants": config.participants,
        "group_size": plan.size,
        "parameters": plan.dimension,
        "data": config.data,
        "model": simulation.model.name,
        "protocol": config.protocol,
        "engine": config.engine,
        "prg": config.prg,
        "neighbours": plan.neighbours,
        "max_colluders": None if plain else plan.max_colluders,
        "fraction_bits": plan.encoding.fraction_bits,
        "error_bound": None if plain else plan.headroom.error_bound,
        "clipped": sum(row["clipped"] for row in metrics),
        "nonfinite": sum(row["nonfinite"] for row in metrics),
        "compilations": step.compilations,
        "compile_seconds": step.seconds,
        "seconds_per_round_median": float(np.median(seconds)),
        "seconds_total": time.perf_counter() - started,
        "bytes_up_per_participant": _mean([row["bytes_up"] for row in metrics], member_rounds),
        "bytes_down_per_participant": _mean([row["bytes_down"] for row in metrics], member_rounds),
        "rounds_exact": None if plain else sum(bool(row["exact"]) for row in metrics),
        "rounds_void": sum(row["void"] for row in metrics),
        "run_sha256": run_sha256([row["aggregate_sha256"] for row in metrics], params),
        "tile_size": plan.tile_size,
        "peak_memory_mb": peak_memory_mb(),
        "device": device_name(),
        "versions": versions(),
        "seed": config.seed,
        "notes": notes,
    }


def _mean(values: list[int], count: int) -> float | int:
    total = sum(values)
    return total // count if total % count == 0 else total / count


def peak_memory_mb() -> float:
    """Peak resident set of the process on CPU, peak device memory elsewhere; MiB."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return float(stats.get("peak_bytes_in_use", 0)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def device_name() -> str:
    """What computed: kind and number of devices."""
    devices = jax.devices()
    kind = devices[0].device_kind
    name = platform.processor() or platform.machine() if kind == "cpu" else kind
    return f"{len(devices)} x {devices[0].platform} ({name})"


def versions() -> dict[str, str]:
    """Versions that the bits of a run may depend on."""
    names = ("ssddl-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}


def write_config(config: Config, path: Path) -> None:
    """The complete config as TOML, with what computed; `--config` reads it back."""
    fields = {name: value for name, value in asdict(config).items() if value is not None}
    environment = {"device": device_name(), "versions": versions()}
    note = (
        "# The seed is the simulator's escrow: it regenerates every key of this run, so that it\n"
        "# can be replayed, and is no part of the privacy claim.\n"
    )
    path.write_text(note + tomli_w.dumps({**fields, "environment": environment}))
