"""The loop around the compiled round, which `run`, `resume` and `verify` share."""

import gc
import threading
import time
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssddl_jax.common.errors import RunError
from ssddl_jax.common.plugins import load_attribute, source_sha256
from ssddl_jax.config.config import INPUTS, Config
from ssddl_jax.core.arithmetic import randomness
from ssddl_jax.core.devices import platform_of
from ssddl_jax.core.learning.models import INIT_OPTIONS
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import State
from ssddl_jax.data.loading import load_data
from ssddl_jax.running.checkpoints import Checkpoint
from ssddl_jax.running.environment import conditions, versions
from ssddl_jax.running.host_devices import pool, start_pool
from ssddl_jax.running.metrics import metrics_row
from ssddl_jax.running.processes import agree
from ssddl_jax.running.program_cache import kept_programs
from ssddl_jax.running.waiting import Pace, Tell, pace_of, wait_for
from ssddl_jax.simulation.build import (
    Simulation,
    build_simulation,
    compile_step,
    place,
    placed_like,
)
from ssddl_jax.simulation.compiling import QUICK, Compiled, Keep, anew
from ssddl_jax.simulation.digests import arrays_sha256
from ssddl_jax.simulation.evaluate import Evaluation

_NOT_THE_RECIPE = (
    *("out", "devices", "schedule", "precision"),
    *("rounds", "checkpoint_every", "eval_every", "sinks"),
)
_VERSIONS = ("ssddl-jax", "jax", "jaxlib", "flax", "optax")


class WrongSumError(RunError):
    """A round's aggregate is not the sum of the updates that it must hold; it was not applied.

    `state`: as before that round, except for the chain.
    """

    def __init__(self, round_: int, state: State) -> None:
        self.state = state
        super().__init__(
            f"round {round_}: the aggregate is not the sum of the encoded updates; it was not "
            "applied, and the run stops; fix the sharing scheme"
        )


class Prepared(NamedTuple):
    """A run that has been checked but not compiled."""

    config: Config
    simulation: Simulation
    data: Data  # on the host
    given: list[str]  # parts that were passed from Python instead of named in the config
    sources: dict[str, str]  # SHA-256 of the source of each of the user's own parts
    found: Config  # the config with the paths from which its input files were read


class Loop(NamedTuple):
    """A compiled run."""

    config: Config
    simulation: Simulation
    data: Data  # on the devices
    step: Compiled
    evaluate: Evaluation
    pace: Pace | None  # of long rounds


def prepare(config: Config, parts: dict[str, Any], found: Config | None = None) -> Prepared:
    """Checks everything. `parts`: optional `data`, `model` and arguments of `build_simulation`;
    `found`: the same config with the current paths of its input files, if they have moved.
    """
    start_pool(config, fill=False)
    found = found or config
    given = sorted(name for name, part in parts.items() if part is not None)
    rest = {name: part for name, part in parts.items() if name not in ("data", "model")}
    data = parts.get("data")
    data = load_data(found) if data is None else data
    simulation = build_simulation(found, parts.get("model"), data, **rest)
    own = {name: part for name, part in parts.items() if part is not None and name != "data"}
    for name in ("model", "prg", "local_optimizer", "server_optimizer"):
        if ":" in getattr(config, name) and name not in own:
            own[name] = load_attribute(name, getattr(config, name))
    sources = {name: source_sha256(part) for name, part in sorted(own.items())}
    prepared = Prepared(config, simulation, data, given, sources, found)
    if jax.process_count() > 1:
        more = {"rounds": config.rounds, "sources of own parts": sources}
        agree({**recipe_of(prepared), **conditions(), **more})
    return prepared


def recipe_of(prepared: Prepared) -> dict[str, Any]:
    """Everything that determines the bits of a run."""
    fields = {
        name: value
        for name, value in vars(prepared.config).items()
        if name not in (*_NOT_THE_RECIPE, *INPUTS)  # inputs enter by the digest of their content
    }
    plan, found = prepared.simulation.plan, versions()
    platform = platform_of(prepared.simulation.recipe.scheme.mesh)
    schedule = prepared.simulation.recipe.dropouts
    if platform != "cpu":
        fields["precision"] = prepared.config.precision
    return {
        **fields,
        "tile_size": plan.tile_size,
        "fraction_bits": plan.encoding.fraction_bits,
        "rounding": plan.headroom.rounding,
        "data_sha256": arrays_sha256(prepared.data),
        "dropout_schedule_sha256": None if schedule is None else arrays_sha256(schedule),
        "given": prepared.given,
        "platform": platform,
        "threads": pool() if platform == "cpu" else None,
        **{f"version of {name}": found[name] for name in _VERSIONS},
    }


def keeper(prepared: Prepared) -> Keep:
    """Gives the run's programs from earlier runs, if all parts are the package's own: what others
    compute cannot be told without tracing them. Many processes share no cache.
    """
    simulation = prepared.simulation
    if prepared.sources or not simulation.compiled or jax.process_count() > 1:
        return anew
    return kept_programs(prepared.config, simulation, prepared.data)


def begin(
    prepared: Prepared,
    checkpoint: Checkpoint | None = None,
    traceable: bool = False,
    keep: Keep = anew,
) -> tuple[State, Loop]:
    """The state before the next round, and the run compiled for it.

    A run has three programs: its first state, its round and its evaluation. XLA needs no Python to
    compile the round, so the others are traced and compiled by another thread meanwhile; not
    before, as two threads that trace slow each other. Parts that are not the package's own are only
    called in this thread, one program after another.
    """
    config, simulation, data, *_ = prepared
    placed, evaluate = place(data, simulation.recipe), Evaluation(simulation, keep)
    if not simulation.compiled or prepared.sources or jax.process_count() > 1:
        state = first_state(simulation, checkpoint, keep)
        step = compile_step(simulation, state, placed, traceable, keep)
    else:
        like = placed_like(jax.eval_shape(simulation.init), simulation.recipe)
        lowered = threading.Event()

        def others() -> State:
            lowered.wait()
            evaluate.compile(like, placed)
            return first_state(simulation, checkpoint, keep)

        with _uncollected(), ThreadPoolExecutor(1) as beside:
            try:
                first = beside.submit(others)
                step = compile_step(simulation, like, placed, traceable, keep, lowered.set)
            finally:  # whatever happens, nobody waits for it
                lowered.set()
        state = first.result()
    loop = Loop(config, simulation, placed, step, evaluate, pace_of(config, simulation))
    return state, loop


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look through all modules again and again: traces
    make many objects that stay.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def first_state(simulation: Simulation, checkpoint: Checkpoint | None, keep: Keep = anew) -> State:
    """The state before round 0, or after a checkpoint's rounds, on the devices."""
    if keep is anew:
        state = simulation.init()
    else:  # one program; its words, and the parameters of our own models, have the same bits
        words = jax.device_put(randomness.seed_words(simulation.seed))
        options = INIT_OPTIONS | QUICK.get(jax.default_backend(), {})
        whole = jax.jit(simulation.init_at, compiler_options=options)
        state = keep("init", (words,), lambda: whole.lower(words).compile())(words)
    if checkpoint is not None:
        params, server = checkpoint.tree
        done = jnp.uint32(checkpoint.done)
        chain = jax.jit(randomness.chain_at)(state.chain, done)
        state = State(params, server, chain, state.public, done)
    return place(state, simulation.recipe)


def rounds(
    loop: Loop,
    state: State,
    done: int,
    tell: Tell = lambda text: None,
    evaluated: Container[int] | None = None,
) -> Iterator[tuple[dict[str, Any], State]]:
    """Runs rounds done..rounds-1 and yields each round's line of metrics and the state after it.

    During long rounds, `tell` is given lines of progress. `evaluated`: the rounds whose model is
    tested; by default every `eval_every`-th and the last.
    A state is donated to the next round: copy what you keep. Raises `WrongSumError`, and
    `FloatingPointError` if `nonfinite = stop`.
    """
    config = loop.config
    for index in range(done, config.rounds):
        begin = time.perf_counter()
        state, info = wait_for(loop.step.call(state, loop.data), loop.pace, tell)
        seconds = time.perf_counter() - begin
        row = metrics_row(config, loop.simulation, index, info, seconds)
        del info  # free it before the next round
        if row["exact"] is False and not row["void"]:
            raise WrongSumError(index, state)
        due = (index + 1) % config.eval_every == 0 or index + 1 == config.rounds
        if due if evaluated is None else index in evaluated:
            row["test_accuracy"] = loop.evaluate(state, loop.data)
        if row["nonfinite"] and config.nonfinite == "stop":
            raise FloatingPointError(
                f"round {index}: {row['nonfinite']} members' updates are not finite; "
                "use a lower learning_rate, or nonfinite = exclude"
            )
        yield row, state
