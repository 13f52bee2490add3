"""What a round costs each role, and the clock that measures it.

A record's `work` is a function `(config, dimension, train_seconds) -> Work`: it times one
participant's and the server's parts as the code of the round does them, on one participant's sizes,
compiled and warm. Where a part is too large to run whole, a slice is timed and scaled, and the note
says so.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ROWS = 32  # uploads added to time the adding of all
_SECONDS = 0.4  # spent on timing a part, once it is warm


class Cost(NamedTuple):
    """One role's part of a round."""

    train_seconds: float = 0.0
    protect_seconds: float = 0.0  # everything that is not training: masks, sums, ciphertexts
    prg_words: int = 0
    operations: int = 0  # multiplications in a field, modulo q, or of big integers

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.train_seconds + self.protect_seconds


class Work(NamedTuple):
    """A round by roles. `depth` participants work one after another; `exchanges`: messages that
    wait for one another; `exact`: ciphertexts of a slice decrypted to the sum; `renewal`: seconds
    in which one of the participants encrypts the whole model anew, once a round, and sends it.

    A rival leaves `depth` and `exchanges` alone: they follow from its record.
    """

    participant: Cost
    server: Cost
    depth: int = 1
    exchanges: int = 0
    note: str = ""
    exact: bool | None = None
    renewal: float = 0.0

    @property
    def seconds(self) -> float:
        """A round's computation from end to end: participants side by side unless in turn."""
        return self.depth * self.participant.seconds + self.renewal + self.server.seconds


def timed(call: Callable[..., Any], *arguments: Any) -> float:
    """Median seconds of a compiled call, warm."""
    compiled = jax.jit(call).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < 20 and sum(seconds) < _SECONDS):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def some_keys(count: int) -> jax.Array:
    """Keys of a measurement, u32 [count, 8]: any words do."""
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(0, 2**32, (max(count, 1), 8), dtype=np.uint32))
