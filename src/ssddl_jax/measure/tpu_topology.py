"""The devices of a TPU topology, from the TPU's own compiler; none need be here."""

import os
from typing import Any

from ssddl_jax.common.errors import ConfigError

# No questions to a cloud that is not there, and several compilations at a time.
_QUIET = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


def tpu_devices(topology: str) -> Any:
    """The devices of a TPU topology, from the TPU's compiler. Raises `ConfigError`."""
    from jax.experimental import topologies

    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # A host has four chips, unless it is said to have one; older compilers refuse a single chip.
    alone = set(topology.rpartition(":")[2].split("x")) == {"1"}
    bounds: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if alone else {}
    try:
        return topologies.get_topology_desc(topology, platform="tpu", **bounds).devices
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        remedy = f"is no topology that the TPU compiler knows: {text}"
        raise ConfigError("target", f"tpu:{topology}", remedy) from error
