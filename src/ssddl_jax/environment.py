"""What computed: device, versions, memory; recorded with every result."""

import platform
import resource
import sys
from importlib import metadata


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


def versions() -> dict[str, str]:
    """Versions that the bits of a run may depend on."""
    names = ("ssddl-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}
