"""`run`: the loop around the compiled round, and the run directory that it leaves."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssddl_jax.compiling import Compiled, compile_once, named
from ssddl_jax.config import Config
from ssddl_jax.errors import ConfigError
from ssddl_jax.models import Model
from ssddl_jax.population import Data, as_float, load_data
from ssddl_jax.records import Records, metrics_row, summarise
from ssddl_jax.reference_round import reference_round
from ssddl_jax.simulation import Simulation, build_simulation, place

_EVAL_BATCH = 1000


class RunResult(NamedTuple):
    """What a run leaves: also in its directory."""

    summary: dict[str, Any]
    metrics: list[dict[str, Any]]
    params: Any
    directory: Path


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
    directory = output_directory(config)
    if jax.process_index() == 0:  # the one that writes
        check_output(directory, overwrite)
    host_data = parts.pop("data", None) or load_data(config)
    simulation = build_simulation(config, parts.pop("model", None), host_data, **parts)
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
    with Records(directory, config, jax.process_index() == 0) as records:
        for index in range(config.rounds):
            begin = time.perf_counter()
            state, info = jax.block_until_ready(step.call(state, data))
            seconds = time.perf_counter() - begin
            row = metrics_row(config, simulation, index, info, seconds)
            if (index + 1) % config.eval_every == 0 or index + 1 == config.rounds:
                row["test_accuracy"] = evaluate(state.params, data)
            metrics.append(row)
            records.add(row)
            on_round(row)
            if row["nonfinite"] and config.nonfinite == "stop":
                raise FloatingPointError(
                    f"round {index}: {row['nonfinite']} members' updates are not finite; "
                    "lower learning_rate, or set nonfinite = exclude"
                )
        summary = summarise(config, simulation, metrics, state.params, step, started)
        records.close_with(summary)
    return RunResult(summary, metrics, state.params, directory)


def output_directory(config: Config) -> Path:
    """`out`, or a new name in runs/."""
    if config.out is not None:
        return Path(config.out)
    return new_directory(f"{config.protocol}-{Path(config.data).stem}")


def new_directory(what: str) -> Path:
    """A name in runs/ that does not exist yet."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{what}"
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
    """Test accuracy of parameters."""
    count = jax.jit(partial(count_right, model))

    def accuracy(params: Any, data: Data) -> float:
        return int(count(params, data.test_images, data.test_labels)) / len(data.test_labels)

    return accuracy


def count_right(model: Model, params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """How many images get their label's class, i32; in batches of fixed size, padded."""
    spare = -images.shape[0] % _EVAL_BATCH
    padding = [(0, spare), *((0, 0) for _ in images.shape[1:])]
    images = jnp.pad(images, padding).reshape(-1, _EVAL_BATCH, *images.shape[1:])
    labels = jnp.pad(labels, (0, spare), constant_values=-1).reshape(-1, _EVAL_BATCH)

    def right(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        guesses = jnp.argmax(model.apply(params, as_float(batch[0])), axis=1)
        return jnp.sum(guesses.astype(jnp.int32) == batch[1], dtype=jnp.int32)

    return jnp.sum(jax.lax.map(right, (images, labels)), dtype=jnp.int32)
