"""A Pallas kernel's bundles: compiled alone for a TPU, and counted in its final schedule.

A bundle is a cycle when nothing stalls.
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
from ssddl_jax.simulation.hlo import (
    Operation,
)

KERNEL = "key_sums_"


class Kernel(NamedTuple):
    """A call of `key_sums`, as the compiled text shows it."""

    prg: str
    terms: str
    rows: int  # grid steps over rows, and over the keys of one
    keys: int  # of a grid step
    groups: int  # grid steps over the blocks
    side: int  # sublanes of a grid step's blocks

    @property
    def words(self) -> int:
        """PRG words of a call, padding included."""
        return 16 * 128 * self.side * self.groups * self.rows * self.keys


class Bundles(NamedTuple):
    """Of a kernel's final schedule."""

    inner: int  # of its loop over keys, one key
    outer: int  # of a grid step besides

    def cycles(self, kernel: Kernel) -> int:
        """Of one call."""
        return kernel.rows * kernel.groups * (self.outer + kernel.keys * self.inner)


def kernel_of(operation: Operation) -> Kernel | None:
    """A call of `key_sums`: its grid stands in the shapes of what it is given and gives."""
    if operation.kind != "custom-call" or "tpu_custom_call" not in operation.line:
        return None
    named = re.search(rf"{KERNEL}(chacha\d+)_([a-z_]+[a-z])", operation.line)
    given = re.search(r"operand_layout_constraints=\{u32\[(\d+),(\d+),8\]", operation.line)
    made = re.search(r"= u32\[(\d+),\d+,16,(\d+),128\]", operation.line)
    if not (named and given and made):
        return None
    steps, keys = int(given[1]), int(given[2])
    tall = int(made[2])
    side = 16 if tall % 16 == 0 else 8
    return Kernel(named[1], named[2], steps, keys, tall // side, side)


def count_bundles(kernel: Kernel, dump: str | None = None) -> Bundles:
    """Compiles such a kernel alone, in a process of its own whose compiler dumps its schedules, and
    counts: lines of the inner loop, and of the grid's loop besides. Once a process for each kind of
    kernel. `dump`: a folder that is kept. Raises `RunError`.
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
            raise RunError(f"estimate: kernel {name} alone was not compiled for a TPU: {why}")
        # Beside it lies an analysis of it, "...-schedule-analysis_final_bundles.txt".
        files = list(place.glob(f"*{name}*-final_bundles.txt"))
        if not files:
            raise RunError(f"estimate: the TPU's compiler dumped no schedule of kernel {name}")
        newest = max(files, key=lambda file: file.stat().st_mtime_ns)
        try:
            return bundles_in(newest.read_text(encoding="utf-8", errors="replace"))
        except ValueError as error:
            raise RunError(f"estimate: kernel {name}: {error}") from error


def bundles_in(schedule: str) -> Bundles:
    """Of a dumped final schedule, where `>` and `>>` say how deep in loops a bundle stands: the
    grid's, and inside it the one over keys.
    """
    depths = re.findall(r"^ *(?:0x[0-9a-f]+|0) +(?:[A-Z]+)? *: (>*) *\{", schedule, re.MULTILINE)
    counted = Counter(len(depth) for depth in depths)
    if not counted[1] or not counted[2] or max(counted) > 2:
        raise ValueError(f"its schedule has bundles at loop depths {sorted(counted)}, not 0 to 2")
    return Bundles(inner=counted[2], outer=counted[1])


def _compile_alone(prg: str, terms: str, side: int) -> None:
    """What `count_bundles` runs: a kernel of one row and four keys."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from ssddl_jax.core.arithmetic.chacha import PRGS
    from ssddl_jax.core.sharing.schedules.key_sums import TERMS, key_sums
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
