"""What a round costs each role, and how it is timed.

A record's `work` is a function `(config, dimension, train_seconds) -> Work`. It times the parts of
one participant and of the server with the code of the round, at one participant's sizes, compiled
and warm. If a part is too large to run whole, a slice is timed and scaled, and the note says so.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ROWS = 32  # uploads that are added to time the sum of all
_SECONDS = 0.4  # spent on timing a part after its warm-up


class Cost(NamedTuple):
    """One role's part of a round."""

    train_seconds: float = 0.0
    protect_seconds: float = 0.0  # everything that is not training: masks, sums, ciphertexts
    prg_words: int = 0
    operations: int = 0  # multiplications in a field, modulo q, or of big integers

    @property
    def seconds(self) -> float:
        """Training plus everything else."""
        return self.train_seconds + self.protect_seconds


class Work(NamedTuple):
    """A round's work by role.

    `depth`: how many participants work one after another. `exchanges`: how many messages follow one
    another, a mean over the rounds of the run. `exact`: whether the ciphertexts of a slice
    decrypted to the exact sum. `renewal`: seconds for one participant to re-encrypt the whole
    model, once per round.

    A rival does not set `depth` and `exchanges`: they follow from its record.
    """

    participant: Cost
    server: Cost
    depth: int = 1
    exchanges: float = 0
    note: str = ""
    exact: bool | None = None
    renewal: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of a round's computation from end to end; `depth` participants in sequence."""
        return self.depth * self.participant.seconds + self.renewal + self.server.seconds


def timed(call: Callable[..., Any], *arguments: Any) -> float:
    """Median seconds of a compiled, warm call."""
    compiled = jax.jit(call).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < 20 and sum(seconds) < _SECONDS):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def some_keys(count: int) -> jax.Array:
    """Keys for a measurement, u32 [count, 8]; any words will do."""
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(0, 2**32, (max(count, 1), 8), dtype=np.uint32))
