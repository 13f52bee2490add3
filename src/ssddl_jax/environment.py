"""What computed: device, versions, memory; recorded with every result."""

import os
import platform
import resource
import sys
from importlib import metadata

from ssddl_jax.errors import ConfigError, one_line


def peak_memory_mb() -> float:
    """Peak resident set of the process on CPU, peak device memory elsewhere; MiB."""
    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return float(stats.get("peak_bytes_in_use", 0)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def device_name() -> str:
    """What computed: kind and number of devices."""
    import jax

    devices = jax.devices()
    kind = devices[0].device_kind
    name = platform.processor() or platform.machine() if kind == "cpu" else kind
    return f"{len(devices)} x {devices[0].platform} ({name})"


def check_jax() -> None:
    """Refuses settings of JAX under which nothing here works. Raises `ConfigError`."""
    import jax

    if jax.config.read("jax_enable_x64"):
        remedy = "words are of 32 bits here, and 64-bit types change them; unset it"
        raise ConfigError("JAX_ENABLE_X64", "1", remedy)
    missing = missing_device()
    if missing:
        raise missing


def missing_device() -> ConfigError | None:
    """What is wrong if JAX_PLATFORMS names what is not here; JAX itself may fail without a word."""
    given = os.environ.get("JAX_PLATFORMS")
    if not given or "jax" not in sys.modules:
        return None
    import jax

    try:
        jax.devices()
    except Exception as error:
        why = one_line(error, 300) or "JAX says no more"
        return ConfigError("JAX_PLATFORMS", given, f"no such device is here; unset it ({why})")
    return None


def versions() -> dict[str, str]:
    """Versions that the bits of a run may depend on."""
    names = ("ssddl-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}
