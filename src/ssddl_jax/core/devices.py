"""Devices: the mesh that a round is split over, their platform, and the memory there is."""

import os

import jax
from jax.sharding import Mesh

from ssddl_jax.common.errors import ConfigError

AXIS = "group"


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
    """The schedule that a platform's words are made by, if nothing else is said."""
    return platform if platform in ("gpu", "tpu") else "cpu"


def available_bytes() -> float:
    """Memory of this machine, or of its smallest accelerator that this process drives."""
    limits = [(d.memory_stats() or {}).get("bytes_limit") for d in jax.local_devices()]
    known = [float(limit) for limit in limits if limit]
    if known and jax.default_backend() != "cpu":
        return min(known)
    return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
