"""The devices of a TPU topology, described by the TPU's compiler; no TPU is needed."""

import os
from typing import Any

from ssddl_jax.common.errors import ConfigError

# Do not query a cloud's metadata server; allow several compilations at once.
_QUIET = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


def tpu_devices(topology: str) -> Any:
    """The devices of a topology such as "v5e:2x2". Raises `ConfigError` for an unknown one."""
    from jax.experimental import topologies

    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # A host has four chips by default; older compilers refuse a topology of one chip without this.
    alone = set(topology.rpartition(":")[2].split("x")) == {"1"}
    bounds: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if alone else {}
    try:
        return topologies.get_topology_desc(topology, platform="tpu", **bounds).devices
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        remedy = f"is not a topology of the TPU compiler: {text}"
        raise ConfigError("target", f"tpu:{topology}", remedy) from error
