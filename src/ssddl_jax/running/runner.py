"""`run` and `resume`: training, with a resumable run directory."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ssddl_jax.common.atomic import only_writer
from ssddl_jax.common.errors import ConfigError, DataError, RunError
from ssddl_jax.common.outputs import check_contents, check_output, name_of, output
from ssddl_jax.common.paths import user_path
from ssddl_jax.common.replacing import give_up, settle, waiting
from ssddl_jax.config.config import Config
from ssddl_jax.planning.requests import check_profile
from ssddl_jax.report.page import write_report
from ssddl_jax.running.artifacts import RunFiles
from ssddl_jax.running.checkpoints import Checkpoint, check_format, newest, set_aside
from ssddl_jax.running.directory import read_config, read_rows, read_summary, write_config
from ssddl_jax.running.environment import differences
from ssddl_jax.running.input_files import absolute, found_again, named_in, record, relative
from ssddl_jax.running.interrupts import Interrupted, Interrupts, go_on, is_interrupt
from ssddl_jax.running.loop import (
    Prepared,
    WrongSumError,
    begin,
    keeper,
    prepare,
    recipe_of,
    rounds,
)
from ssddl_jax.running.metrics import summarise
from ssddl_jax.running.profiling import profiled
from ssddl_jax.running.sinks import MetricsRow, Sink, load_sinks
from ssddl_jax.running.trust import check_trust
from ssddl_jax.simulation.build import Simulation
from ssddl_jax.simulation.compiling import anew


class RunResult(NamedTuple):
    """The result of a run; its directory holds the same."""

    summary: dict[str, Any]
    metrics: list[MetricsRow]
    params: Any
    directory: Path


class Watch(NamedTuple):
    """Callbacks during a run: before the first round, after each, for notes, in long rounds."""

    start: Callable[[Simulation, int], None] = lambda simulation, done: None
    round: Callable[[MetricsRow], None] = lambda row: None
    warn: Callable[[str], None] = lambda text: None
    wait: Callable[[str], None] = lambda text: None


def run(
    config: Config,
    *,
    overwrite: bool = False,
    watch: Watch = Watch(),  # noqa: B008 (immutable)
    sinks: Sequence[Sink] = (),
    profile: str | Path | None = None,
    **parts: Any,
) -> RunResult:
    """Trains as the config says and writes the run directory.

    `model`, `data`, `local`, `server` and `sharing`, if given, replace the config's (see
    `build_simulation`); `sinks` are added to the config's; `profile` is a new folder for a trace of
    up to three rounds and the seconds of their modules. Raises `ConfigError` before anything is
    compiled or written; `Interrupted` if a signal stopped the run; `RunError` if it ended early
    for another reason, such as a full disk.
    """
    named, config = relative(config), absolute(config)
    if profile is not None:
        check_profile(config, profile)
        profile = Path(user_path("profile", profile))
    with _output(config, overwrite) as directory:
        prepared = prepare(config, parts)
        sinks = [*load_sinks(config.sinks), *sinks]
        with _ends_well(directory):
            at = directory
            if _writes():
                if config.out is not None:  # another process may have written there meanwhile
                    check_output(directory, overwrite)
                at = waiting(directory)
                write_config(config, at / "config.toml", about_of(prepared, named))
            waits = at != directory
            return _train(prepared, directory, None, sinks, watch, [], waits, profile)


def resume(
    directory: str | Path,
    *,
    trust: bool = False,
    watch: Watch = Watch(),  # noqa: B008 (immutable)
    sinks: Sequence[Sink] = (),
    **parts: Any,
) -> RunResult:
    """Continues a run from its last good checkpoint; the result has the same bits as an
    uninterrupted run.

    Without a checkpoint it starts at round 0; a finished run is only read. Parts that were passed
    to `run` must be passed again; code that the directory names is imported only if `trust` is
    true. Raises `ConfigError` (a `CheckpointError` if no checkpoint can be used), and `Interrupted`
    and `RunError` like `run`.
    """
    directory = Path(user_path("directory", directory))
    config, about = read_config(directory)
    summary = read_summary(directory, config)
    if summary is not None:
        return _finished(directory, config, about, summary, parts, trust)
    check_format(directory)
    check_trust(vars(config), trust, parts)
    check_contents("directory", directory)
    parts = same_parts(directory, about, parts)
    prepared = prepare(config, parts, found_again(config, about, directory))
    sinks = [*load_sinks(config.sinks), *sinks]
    for line in differences(about, prepared.sources):
        watch.warn(f"the environment has changed: {line}; the last bits of training may differ")
    with _ends_well(directory):
        checkpoint = newest(directory, recipe_of(prepared), _trees(prepared), watch.warn)
        done = checkpoint.done if checkpoint else 0
        if done > config.rounds:
            raise ConfigError("rounds", config.rounds, f"must be at least {done}, already done")
        if checkpoint is None:
            check_data(prepared.found, about, about_of(prepared))
        if _writes():
            set_aside(directory, done)
            if checkpoint is None:  # everything is computed here, so record this environment
                again = about_of(prepared, named_in(about))
                write_config(config, directory / "config.toml", again)
        before = checkpoint.resumed_from if checkpoint else []
        return _train(prepared, directory, checkpoint, sinks, watch, [*before, done])


def about_of(prepared: Prepared, named: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What config.toml records of a run in addition to its config, device and versions. `named`:
    the input files that it named by a relative path.
    """
    recipe = recipe_of(prepared)
    threads = {} if recipe["threads"] is None else {"threads": recipe["threads"]}
    sources = {"sources": prepared.sources} if prepared.sources else {}
    about = {"data_sha256": recipe["data_sha256"], "given": prepared.given, **threads, **sources}
    return {**about, "inputs": record(prepared.found, prepared.given, named)}


def same_parts(directory: Path, about: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """The given parts. Raises `ConfigError` if one that the run started with is missing."""
    missing = [name for name in about.get("given", []) if parts.get(name) is None]
    if missing:
        remedy = f"the run's {missing[0]} was passed from Python; pass it again: {missing[0]}=..."
        raise ConfigError("directory", directory, remedy)
    return parts


def check_data(config: Config, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuses data that differ from those that the run started with."""
    if old.get("data_sha256") not in (None, new["data_sha256"]):
        remedy = (
            "differs from the data that the run started with; restore data, partition, "
            "participants and seed, or start a new run with another `out`"
        )
        raise ConfigError("data", config.data, remedy)


def _trees(prepared: Prepared) -> Any:
    """The shapes and dtypes of a checkpoint's content."""
    like = jax.eval_shape(prepared.simulation.init)
    return like.params, like.server


def _finished(
    directory: Path,
    config: Config,
    about: dict[str, Any],
    summary: dict[str, Any],
    parts: dict[str, Any],
    trust: bool,
) -> RunResult:
    """A finished run, read from its directory; its parameters are None if no longer available."""
    rows = read_rows(directory)
    try:
        check_trust(vars(config), trust, parts)
        prepared = prepare(config, parts, found_again(config, about, directory))
        last = newest(directory, recipe_of(prepared), _trees(prepared), lambda text: None)
    except (ConfigError, DataError):
        last = None
    params = last.tree[0] if last and last.done == config.rounds else None
    if _writes() and not (directory / "report.html").exists():
        write_report(directory)
    return RunResult(summary, rows, params, directory)


def _output(config: Config, overwrite: bool) -> AbstractContextManager[Path]:
    """The run's directory, checked by the process that writes."""
    if not _writes():
        return nullcontext(Path(config.out or "."))
    return output(config.out, name_of(config), overwrite)


@contextmanager
def _ends_well(directory: Path) -> Iterator[None]:
    """Around all that writes: one process at a time, and errors that say how to continue."""
    with _resumable(directory), only_writer(directory) if _writes() else nullcontext():
        try:
            with _resumable(directory):
                yield
        finally:
            if _writes():
                give_up(directory)


@contextmanager
def _resumable(directory: Path) -> Iterator[None]:
    """Turns interrupts and `OSError`s into errors that say how to continue."""
    try:
        yield
    except Interrupted:
        raise
    except (KeyboardInterrupt, SystemError) as error:
        if is_interrupt(error):
            raise Interrupted(directory) from None
        raise
    except OSError as error:
        why = error.strerror or error
        raise RunError(f"out = {directory}: {why}; fix that; {go_on(directory)}") from error


def _train(
    prepared: Prepared,
    directory: Path,
    checkpoint: Checkpoint | None,
    sinks: Sequence[Sink],
    watch: Watch,
    resumed_from: list[int],
    waits: bool = False,
    profile: Path | None = None,
) -> RunResult:
    config, simulation, *_ = prepared
    done, metrics, before = 0, [], 0.0
    if checkpoint is not None:
        done, metrics, before = checkpoint.done, list(checkpoint.rows), checkpoint.seconds
    watch.start(simulation, done)
    started = time.perf_counter() - before
    profile = profile if _writes() else None
    keep = anew if profile else keeper(prepared)  # a trace is read with the text of its program
    first, loop = begin(prepared, checkpoint, profile is not None, keep)
    state = first
    if profile is not None:
        loop = loop._replace(step=profiled(loop.step, profile, config.rounds - done))
    with ExitStack() as closing:
        files = partial(RunFiles, prepared, directory, sinks, resumed_from, closing, metrics)
        writer = files() if _writes() and not waits else None
        with Interrupts() as interrupts:
            try:
                for row, state in rounds(loop, first, done, watch.wait):
                    if _writes() and writer is None:  # after the first round, replace the old run
                        settle(directory)
                        writer = files()
                    metrics.append(row)
                    done = len(metrics)
                    stop = interrupts.noted and done < config.rounds
                    if writer:
                        due = stop or done % config.checkpoint_every == 0 or done == config.rounds
                        writer.round(row)
                        if due:
                            writer.save(done, state, time.perf_counter() - started)
                    watch.round(row)
                    if stop:
                        raise Interrupted(directory, done, config.rounds)
            except WrongSumError as wrong:
                if writer and done:
                    writer.save(done, wrong.state, time.perf_counter() - started)
                raise
        seconds = time.perf_counter() - started
        summary = summarise(
            *(config, simulation, prepared.data, metrics, state.params, loop.step),
            seconds,
            resumed_from,
            prepared.given,
        )
        if writer:
            writer.finish(summary, state)
    return RunResult(summary, metrics, state.params, directory)


def _writes() -> bool:
    """Whether this process writes: the only one, or process 0 of many."""
    return jax.process_index() == 0
