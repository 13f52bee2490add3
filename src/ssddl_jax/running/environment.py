"""The environment of a run: device, versions, memory. It is recorded with every result."""

import json
import os
import platform
import re
import resource
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ssddl_jax.running.host_devices import DEVICES_FLAG

_PLUG_INS = (
    *("jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt"),
    *("jax-rocm60-plugin", "jax-rocm60-pjrt", "libtpu"),
)
_SETS = {
    *("sse4_2", "avx", "avx2", "fma", "fma4", "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    *("avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "sve", "sve2", "bf16"),
}


def peak_memory_mb() -> float:
    """Peak resident set of the process on a CPU, peak device memory elsewhere; MiB."""
    import jax

    device = jax.local_devices()[0]  # another process's cannot be asked
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return float(stats.get("peak_bytes_in_use", 0)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def processor() -> str:
    """The processor's name if the system reports it, else its architecture."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def device_name() -> str:
    """The number and kind of devices."""
    import jax

    devices = jax.devices()
    kind = devices[0].device_kind
    name = processor() if kind == "cpu" else kind
    return f"{len(devices)} x {devices[0].platform} ({name})"


def versions() -> dict[str, str]:
    """Versions that the bits of a run may depend on."""
    names = ("ssddl-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {}
    for name in (*names, *_PLUG_INS):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    found.setdefault("ssddl-jax", "source")  # not installed
    return {"python": platform.python_version(), **found}


def conditions() -> dict[str, str]:
    """What else may affect the last bits of a run: instruction set, flags, precision."""
    import jax

    from ssddl_jax.simulation.compiling import OPTIONS

    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if DEVICES_FLAG not in flag]
    return {
        "instructions": " ".join([platform.machine(), *_instructions()]),
        "xla_flags": " ".join(flags),
        "xla_options": json.dumps(OPTIONS.get(jax.default_backend(), {})),
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
        "optimisations": "few" if jax.config.read("jax_disable_most_optimizations") else "all",
    }


def _instructions() -> list[str]:
    """The instruction sets that compilers choose by, if the system reports them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return sorted(set(line[1].split()) & _SETS) if line else []


def differences(about: dict[str, Any], sources: dict[str, str]) -> list[str]:
    """The differences between a run's recorded environment and this one, as text; `sources`:
    SHA-256 of the current source of the user's parts.
    """
    old = {"device": about.get("device"), **_table(about, "versions")}
    new = {"device": device_name(), **versions()}
    recorded, here = _table(about, "conditions"), conditions()
    recorded |= {f"source of {name}": sha for name, sha in _table(about, "sources").items()}
    here |= {f"source of {name}": sha for name, sha in sources.items()}
    old |= recorded
    new |= {name: value for name, value in here.items() if name in recorded}
    return [
        f"{name}: recorded {old.get(name)}, here {new.get(name)}"
        for name in {**new, **old}
        if old.get(name) != new.get(name)
    ]


def _table(about: dict[str, Any], name: str) -> dict[str, Any]:
    found = about.get(name)
    return found if isinstance(found, dict) else {}
