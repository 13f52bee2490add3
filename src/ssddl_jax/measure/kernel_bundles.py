"""The bundles of a Pallas kernel, counted in its final schedule after compiling it alone for a TPU.

A bundle takes one cycle if nothing stalls.
"""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ssddl_jax.common.errors import RunError, one_line
from ssddl_jax.simulation.hlo import Operation

KERNEL = "key_sums_"


class Kernel(NamedTuple):
    """A call of `key_sums`, read from the compiled text."""

    prg: str
    terms: str
    rows: int  # grid steps over rows, and over the keys of a row
    keys: int  # in a grid step
    groups: int  # grid steps over the blocks
    side: int  # sublanes of the blocks of a grid step

    @property
    def words(self) -> int:
        """PRG words of a call, padding included."""
        return 16 * 128 * self.side * self.groups * self.rows * self.keys


class Bundles(NamedTuple):
    """Bundle counts of a kernel's final schedule."""

    inner: int  # per key, in the loop over keys
    outer: int  # per grid step, outside that loop

    def cycles(self, kernel: Kernel) -> int:
        """Cycles of one call."""
        return kernel.rows * kernel.groups * (self.outer + kernel.keys * self.inner)


def call_of(operation: Operation, target: str, made: str) -> tuple[str, str, int, int, int] | None:
    """Of a call of `key_sums`: PRG, terms, rows, keys of each, and the size that `made` matches in
    the result's shape. None if the operation is no such custom call to `target`.
    """
    if operation.kind != "custom-call" or target not in operation.line:
        return None
    named = re.search(rf"{KERNEL}(chacha\d+)_([a-z_]+[a-z])", operation.line)
    given = re.search(r"operand_layout_constraints=\{u32\[(\d+),(\d+),(?:8|11)\]", operation.line)
    size = re.search(rf"= u32\[\d+,\d+,16,{made}\]", operation.line)
    if not (named and given and size):
        return None
    return named[1], named[2], int(given[1]), int(given[2]), int(size[1])


def kernel_of(operation: Operation) -> Kernel | None:
    """The call of `key_sums` that an operation is, or None; its grid follows from its shapes."""
    if (call := call_of(operation, "tpu_custom_call", r"(\d+),128")) is None:
        return None
    prg, terms, steps, keys, tall = call
    side = 16 if tall % 16 == 0 else 8
    return Kernel(prg, terms, steps, keys, tall // side, side)


def count_bundles(kernel: Kernel, dump: str | None = None) -> Bundles:
    """Compiles the kernel alone in another process, which dumps its schedule, and counts bundles.

    The result is cached for each kind of kernel. `dump`: a folder for the dumped files, which are
    otherwise deleted. Raises `RunError` if the kernel cannot be compiled or counted.
    """
    return _count_bundles(kernel.prg, kernel.terms, kernel.side, dump)


@functools.cache
def _count_bundles(prg: str, terms: str, side: int, dump: str | None) -> Bundles:
    name = f"{KERNEL}{prg}_{terms}"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(dump or folder)
        flags = f"--xla_jf_dump_to={place} --xla_jf_dump_llo_text=true"
        environment = {**os.environ, "LIBTPU_INIT_ARGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [
            sys.executable,
            "-m",
            "ssddl_jax.measure.kernel_bundles",
            json.dumps([prg, terms, side]),
        ]
        ended = subprocess.run(
            command,
            env=environment,
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if ended.returncode != 0:
            why = one_line(ended.stderr.strip()[-600:], 600) or f"exit status {ended.returncode}"
            raise RunError(f"estimate: kernel {name} could not be compiled for a TPU: {why}")
        # Not "...-schedule-analysis_final_bundles.txt", which is an analysis of the schedule.
        files = list(place.glob(f"*{name}*-final_bundles.txt"))
        if not files:
            raise RunError(f"estimate: the TPU's compiler dumped no schedule of kernel {name}")
        newest = max(files, key=lambda file: file.stat().st_mtime_ns)
        try:
            return bundles_in(newest.read_text(encoding="utf-8", errors="replace"))
        except ValueError as error:
            raise RunError(f"estimate: kernel {name}: {error}") from error


def bundles_in(schedule: str) -> Bundles:
    """The bundles in a dumped final schedule.

    `>` marks a bundle in the loop over the grid, `>>` one in the inner loop over keys. Raises
    `ValueError` if the schedule has other loops.
    """
    depths = re.findall(r"^ *(?:0x[0-9a-f]+|0) +(?:[A-Z]+)? *: (>*) *\{", schedule, re.MULTILINE)
    counted = Counter(len(depth) for depth in depths)
    if not counted[1] or not counted[2] or max(counted) > 2:
        raise ValueError(f"its schedule has bundles at loop depths {sorted(counted)}, not 0 to 2")
    return Bundles(inner=counted[2], outer=counted[1])


def _compile_alone(prg: str, terms: str, side: int) -> None:
    """Compiles a small kernel of this kind: two rows of four keys. `count_bundles` runs it."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from ssddl_jax.core.arithmetic.chacha import PRGS
    from ssddl_jax.core.arithmetic.key_sums import TERMS, key_sums
    from ssddl_jax.measure.tpu_topology import tpu_devices

    where = SingleDeviceSharding(tpu_devices("v5e:1x1")[0])
    kind, blocks = TERMS[terms], 2 * 128 * side
    keys = jax.ShapeDtypeStruct((2, 4, 8), jnp.uint32, sharding=where)
    weights = jax.ShapeDtypeStruct((kind.weights, 2, 4), jnp.uint32, sharding=where)

    def call(keys: jax.Array, weights: jax.Array) -> jax.Array:
        return key_sums(PRGS[prg], kind, keys, weights, 0, blocks, platform="tpu")

    jax.jit(call).lower(keys, weights).compile()


if __name__ == "__main__":
    _compile_alone(*json.loads(sys.argv[1]))
