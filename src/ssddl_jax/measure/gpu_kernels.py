"""The share kernel's seconds on a GPU, by its words: the compiler says nothing about a kernel.

The rate was measured on one H200 (`benchmarks/accelerator.py`): 338 Gwords/s with 20 rounds, 668
with 8, 293 with 20 and a second term. Further terms are taken to cost as much as the second, and
other GPUs to differ by their cores and their clock only.
"""

from typing import Any, NamedTuple

from ssddl_jax.core.arithmetic.key_sums import TERMS, THREADS
from ssddl_jax.measure.gpu_topology import Gpu
from ssddl_jax.measure.kernel_bundles import call_of
from ssddl_jax.simulation.hlo import Operation

START = 2.1e-6  # seconds to start an operation, in a round of 1,000 members on an H200
# Cycles of a core for a word: so many, for each round of ChaCha, and for each further term.
_FIXED, _PER_ROUND, _PER_TERM = 0.1366, 0.03184, 0.119


class GpuKernel(NamedTuple):
    """A call of `key_sums`, read from the compiled text."""

    prg: str
    terms: str
    rows: int
    keys: int  # of a row
    blocks: int  # of a key, padding included

    @property
    def words(self) -> int:
        """PRG words of a call, padding included."""
        return 16 * self.rows * self.keys * self.blocks

    def cycles(self, gpu: Gpu) -> float:
        """Cycles of one call on the whole GPU."""
        rounds = int(self.prg.removeprefix("chacha"))
        further = TERMS[self.terms].number - 1
        a_word = _FIXED + _PER_ROUND * rounds + _PER_TERM * further
        return self.words * a_word / gpu.cores


def kernel_of(operation: Operation) -> GpuKernel | None:
    """The call of `key_sums` that an operation is, or None."""
    if (call := call_of(operation, "xla.gpu.triton", r"(\d+)")) is None:
        return None
    prg, terms, rows, keys, count = call
    return GpuKernel(prg, terms, rows, keys, -(-count // THREADS) * THREADS)


def described(kernel: GpuKernel, calls: int, gpu: Gpu) -> dict[str, Any]:
    """A line of the report."""
    cycles = calls * kernel.cycles(gpu)
    return {
        "grid": [kernel.rows, kernel.blocks // THREADS],
        "keys_per_row": kernel.keys,
        "words": calls * kernel.words,
        "cycles": round(cycles),
        "gwords_per_s": calls * kernel.words / cycles * gpu.clock / 1e9,
    }
