"""Devices: the mesh that a round is split over, its platform, and the memory available.

A *schedule* is the order of steps that suits a platform: `cpu`, `gpu` or `tpu`. `TRAITS` says what
each changes in training, summing and planning; `core/sharing/schedules` holds its sharing steps.
"""

import os
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from ssddl_jax.common.errors import ConfigError

AXIS = "group"


class Traits(NamedTuple):
    """What a schedule does outside the sharing layer. No trait changes a share or a ring sum."""

    pieces_joined: bool  # join small leaves of an update, and fix the kernels by barriers
    rows_one_by_one: bool  # add float updates row by row
    small_rounds_rolled: bool  # a small round uses the PRG's rolled form, which compiles fast
    keys_in_batches: bool  # keys exist only for the holders of the current step
    copies: int  # of the parameters, for each member that trains: gradients, messages, sums
    noise: int  # further ones if updates are rounded stochastically
    prepared: int  # elements of batches drawn together: enough to fill the device, little memory
    side_by_side: tuple[int, int] | None  # members of a tile, and coordinates of all their updates


_CPU = Traits(
    pieces_joined=True,
    rows_one_by_one=True,
    small_rounds_rolled=True,
    keys_in_batches=False,
    copies=8,
    noise=3,
    prepared=1 << 16,
    side_by_side=None,  # as many as stay in cache: a matter of the model
)
_GPU = Traits(
    pieces_joined=False,
    rows_one_by_one=False,
    small_rounds_rolled=False,
    keys_in_batches=True,
    copies=2,
    noise=1,
    prepared=1 << 20,
    side_by_side=(4096, 1 << 28),  # measured on an H100 (benchmarks/NOTES.md)
)
_TPU = _GPU._replace(  # compiled for a v5e (benchmarks/NOTES.md)
    prepared=1 << 16,  # with 2^20 it compiles in 5 to 10 times the time
    side_by_side=(512, 1 << 25),
)
TRAITS = {"cpu": _CPU, "gpu": _GPU, "tpu": _TPU}


def make_mesh(devices: int | str) -> Mesh:
    """A one-axis mesh over the first `devices` devices, or all. Raises `ConfigError` if too few."""
    found = jax.devices()
    if devices != "all" and int(devices) > len(found):
        more = f"XLA_FLAGS=--xla_force_host_platform_device_count={devices} makes more on a CPU"
        raise ConfigError("devices", devices, f"there are {len(found)} here; {more}")
    chosen = found if devices == "all" else found[: int(devices)]
    idle = set(range(jax.process_count())) - {device.process_index for device in chosen}
    if idle:
        where = f"process {min(idle)} of {jax.process_count()}"
        remedy = f"leaves {where} without one; use all, or one process"
        raise ConfigError("devices", devices, remedy)
    return jax.make_mesh((len(chosen),), (AXIS,), (jax.sharding.AxisType.Auto,), devices=chosen)


def platform_of(mesh: Mesh) -> str:
    """cpu, gpu or tpu."""
    return str(mesh.devices.flat[0].platform)


def own_schedule(platform: str) -> str:
    """The schedule of a platform: its own, or `cpu` for a platform without one."""
    return platform if platform in TRAITS else "cpu"


def available_bytes() -> float:
    """Memory of this machine, or of the smallest accelerator that this process drives."""
    limits = [(d.memory_stats() or {}).get("bytes_limit") for d in jax.local_devices()]
    known = [float(limit) for limit in limits if limit]
    if known and jax.default_backend() != "cpu":
        return min(known)
    return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
