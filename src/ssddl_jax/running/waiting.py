"""Waits for a long round: an estimate of the time left, and signals that act at once.

A round is one program, so nothing inside it can report. The estimate is its words, divided by the
rate at which a complete group of 64 makes them, timed once before. While a program runs, Python
sleeps in short steps; a signal therefore does not wait for the program's end.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.config.config import Config
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme
from ssddl_jax.running import interrupts
from ssddl_jax.simulation.build import Simulation
from ssddl_jax.simulation.compiling import OPTIONS
from ssddl_jax.simulation.schemes import sharing_of, words_made

LONG = 1 << 36  # words of a round that takes most of a minute on two cores
_STEP, _SAID = 0.05, 15.0  # seconds between looks, and between lines
_GROUP, _WIDE, _TURNS = 64, 1 << 16, 5  # of the group that is timed: a second or two in all

Result = TypeVar("Result")
Tell = Callable[[str], None]


class Pace(NamedTuple):
    """What a long round is measured by."""

    words: int  # PRG words of a round
    kernel_rate: float  # words per second in a complete group of 64
    kernel_cpu_rate: float  # words per CPU second of all cores, which other processes do not affect

    @property
    def seconds(self) -> float:
        """The estimated time of a round, training left out."""
        return self.words / self.kernel_rate


def pace_of(config: Config, simulation: Simulation) -> Pace | None:
    """The pace of a long round; None for a short one, and for one without shares."""
    if not config.sums_securely or not simulation.compiled:
        return None
    rule, scheme = config.rule_in_force, simulation.recipe.scheme
    words = words_made(config.engine, rule, scheme)
    if words < LONG:
        return None
    small = scheme._replace(size=_GROUP, neighbours=_GROUP - 1, threshold=2, sampled=())
    small = small._replace(least_alive=0, vanishing=0, dimension=min(scheme.dimension, _WIDE))
    made = words_made(config.engine, rule, small)
    seconds, cpu_seconds = _times(small, sharing_of(config.engine, rule)(small).share)
    return Pace(words, made / seconds, made / cpu_seconds)


def _times(scheme: Scheme, share: Callable[[Attempt, Messages], Any]) -> tuple[float, float]:
    """Median seconds and CPU seconds of an attempt on messages of zeros."""
    everybody, key = jnp.ones(scheme.size, bool), jnp.arange(8, dtype=jnp.uint32)
    ids, zero = jnp.arange(scheme.size, dtype=jnp.uint32), jnp.uint32(0)
    attempt = Attempt(key, key, zero, zero, ids, everybody, everybody)
    zeros = jnp.zeros(scheme.width, jnp.uint32)
    each = jnp.zeros((scheme.size, scheme.width), jnp.uint32) if scheme.ring.limbs == 2 else None
    options = OPTIONS.get(jax.default_backend(), {})
    call = jax.jit(share).lower(attempt, Messages(zeros, zeros, each))
    compiled = call.compile(compiler_options=options)
    times = []
    for _ in range(1 + _TURNS):
        begin = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(attempt, Messages(zeros, zeros, each)))
        times.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    seconds, cpu_seconds = np.median(times[1:], axis=0)
    return float(seconds), float(cpu_seconds)


def wait_for(result: Result, pace: Pace | None, tell: Tell) -> Result:
    """Waits until all arrays are computed. For a long round, `tell` is called from time to time."""
    if pace is None:
        with interrupts.computing():
            return jax.block_until_ready(result)
    begin = said = time.monotonic()
    arrays = jax.tree.leaves(result)
    with interrupts.computing():
        while not all(array.is_ready() for array in arrays):
            time.sleep(_STEP)
            now = time.monotonic()
            if now - said >= _SAID:
                said = now
                tell(_line(now - begin, pace.seconds))
    return result


def _line(passed: float, expected: float) -> str:
    left = expected - passed
    about = f"about {left:,.0f} s left" if left > 0 else f"expected {expected:,.0f} s"
    return f"sharing: {passed:,.0f} s, {about} (estimate)"
