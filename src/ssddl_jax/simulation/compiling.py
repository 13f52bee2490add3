"""Compiles the round once, before the first call, and counts compilations."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jaxlib.version import __version_info__ as jaxlib_version

# XLA's options for each platform. On a CPU, full-width vectors speed up the share kernels by a
# quarter to two fifths. A GPU gives the same results every time only with operations that do not
# race, and without kernels chosen by timing them. It starts each run of operations with one
# command, however short the run: a round of ten then takes half as long.
OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": "512"},
    "gpu": {
        "xla_gpu_deterministic_ops": True,
        "xla_gpu_autotune_level": "0",
        "xla_gpu_enable_triton_gemm": False,  # without autotuning it gets slow tiles
        "xla_gpu_graph_min_graph_size": "1",
    },
}
# For a program that runs once: XLA's older code generator for CPUs, which compiles our own models'
# first states in two thirds of the time, to the same bits. jaxlib 0.11 no longer has it.
QUICK: dict[str, dict[str, str | bool]] = (
    {"cpu": {"xla_cpu_use_fusion_emitters": False}} if jaxlib_version < (0, 11) else {}
)
# For traces that name every operation: a GPU otherwise starts many operations with one command.
_TRACEABLE: dict[str, dict[str, str | bool]] = {"gpu": {"xla_gpu_enable_command_buffer": ""}}


# Gives a program, from its name, the arguments that it is compiled for, and how to compile it.
Keep = Callable[[str, tuple[Any, ...], Callable[[], jax.stages.Compiled]], jax.stages.Compiled]


def anew(
    name: str, arguments: tuple[Any, ...], make: Callable[[], jax.stages.Compiled]
) -> jax.stages.Compiled:
    """Keeps no program: compiles it."""
    return make()


class Compiled(NamedTuple):
    """A compiled function, and the seconds and XLA compilations that it took: none if it was kept
    from an earlier run.
    """

    call: Callable[..., Any]
    seconds: float
    compilations: int


def lower(function: Callable[..., Any], *arguments: Any, donate: bool = True) -> jax.stages.Lowered:
    """Lowers a function for these arguments: placed arrays, or shapes with a sharding.

    Every device holds the full results, as it holds the arguments, so every process can read them.
    The buffers of the first argument are donated, which erases the old chain state.
    """
    everywhere = jax.tree.leaves(arguments)[0].sharding
    jitted = jax.jit(function, donate_argnums=0 if donate else (), out_shardings=everywhere)
    return jitted.lower(*arguments)


def compile_once(
    function: Callable[..., Any],
    *arguments: Any,
    donate: bool = True,
    traceable: bool = False,
    keep: Keep = anew,
    lowered: Callable[[], None] = lambda: None,
) -> Compiled:
    """Compiles a function for the shapes of placed arguments, and counts XLA compilations.

    `traceable`: a trace shows every operation. `keep` may give a kept program instead. `lowered` is
    called when Python's part is done, before XLA compiles.
    """
    start = time.perf_counter()
    with durations("/jax/core/compile/backend_compile_duration") as seen:
        backend = jax.default_backend()
        options = OPTIONS.get(backend, {}) | (_TRACEABLE.get(backend, {}) if traceable else {})

        def make() -> jax.stages.Compiled:
            program = lower(function, *arguments, donate=donate)
            lowered()
            return program.compile(compiler_options=options)

        name = f"{function.__name__}, donate {donate}, options {options}"
        compiled = keep(name, arguments, make)
    return Compiled(compiled, time.perf_counter() - start, len(seen))


@contextmanager
def durations(wanted: str) -> Iterator[list[float]]:
    """A list that grows by the seconds of every such event of JAX in this thread and block."""
    seen: list[float] = []
    here = threading.get_ident()

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == wanted and threading.get_ident() == here:
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def pinned(function: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """The function with its matrix products and convolutions traced in this precision.

    By default, accelerators round float32 products to fewer bits.
    """

    @functools.wraps(function)
    def at_precision(*arguments: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*arguments)

    return at_precision


def named(step: Callable[..., Any]) -> Callable[..., Any]:
    """The round under the name that the logs of XLA and JAX show."""

    def ssddl_round(state: Any, data: Any) -> Any:
        return step(state, data)

    return ssddl_round
