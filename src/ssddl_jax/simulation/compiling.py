"""Compiling the round: once, ahead of the first call, and counted."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

# XLA's options for a platform. The CPU's share kernels gain a quarter to two fifths from full-width
# vectors; a GPU's results are the same every time only with operations that do not race, and with
# kernels that are not chosen by timing them.
OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": "512"},
    "gpu": {
        "xla_gpu_deterministic_ops": True,
        "xla_gpu_autotune_level": "0",
        "xla_gpu_enable_triton_gemm": False,  # without timing it is given slow tiles
    },
}
# So that a trace names every operation: a GPU otherwise starts many by one command.
_TRACEABLE: dict[str, dict[str, str | bool]] = {"gpu": {"xla_gpu_enable_command_buffer": ""}}


class Compiled(NamedTuple):
    """A compiled function, and what compiling took."""

    call: Callable[..., Any]
    seconds: float
    compilations: int


def lower(function: Callable[..., Any], *arguments: Any, donate: bool = True) -> jax.stages.Lowered:
    """The round for these arguments: placed arrays, or shapes with a sharding.

    Results are whole on every device, as the arguments are, so that every process can read them.
    The first argument's buffers are donated: the old chain state is erased with them.
    """
    everywhere = jax.tree.leaves(arguments)[0].sharding
    jitted = jax.jit(function, donate_argnums=0 if donate else (), out_shardings=everywhere)
    return jitted.lower(*arguments)


def compile_once(
    function: Callable[..., Any], *arguments: Any, donate: bool = True, traceable: bool = False
) -> Compiled:
    """Compiles for placed arguments' shapes, ahead of the first call; counts XLA compilations.

    `traceable`: every operation can be seen in a trace.
    """
    seen: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.perf_counter()
    try:
        backend = jax.default_backend()
        options = OPTIONS.get(backend, {}) | (_TRACEABLE.get(backend, {}) if traceable else {})
        compiled = lower(function, *arguments, donate=donate).compile(compiler_options=options)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return Compiled(compiled, time.perf_counter() - start, len(seen))


def pinned(function: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """The function, its matrix products and convolutions traced in this precision, whatever JAX's
    default is: on accelerators float32 products are otherwise rounded to fewer bits.
    """

    @functools.wraps(function)
    def at_precision(*arguments: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*arguments)

    return at_precision


def named(step: Callable[..., Any]) -> Callable[..., Any]:
    """The round under the name that XLA's and JAX's logs will show."""

    def ssddl_round(state: Any, data: Any) -> Any:
        return step(state, data)

    return ssddl_round
