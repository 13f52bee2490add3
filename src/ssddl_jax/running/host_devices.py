"""XLA's CPU thread pool and host devices, which must be set before JAX has devices.

The size of the pool determines how products and long sums are split, so it is part of the numerical
recipe: the field `threads`. The pool has NPROC threads, or one for each usable core, and never
fewer than there are host devices. Neither can change once JAX has devices.
"""

import os
import re
import sys

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.config import Config

_HUGE = 150_000  # a group with more members gets one more thread
_POOL = "NPROC"
DEVICES_FLAG = "--xla_force_host_platform_device_count"

GIVEN_FLAGS = os.environ.get("XLA_FLAGS", "")  # the user's


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def start_pool(config: Config, *, fill: bool) -> None:
    """Sets the environment so that XLA's pool has the config's `threads`, with as many host devices
    as `devices` says; if that is all, one, or with `fill` one for each core.

    If JAX has devices already, the pool must have the right size. Raises `ConfigError`.
    """
    flagged = _flagged(GIVEN_FLAGS)
    if _has_devices():
        if config.threads not in ("auto", pool()):
            remedy = (
                f"XLA's pool has {pool()} threads in this process; start one with "
                f"NPROC={config.threads} python ..."
            )
            raise ConfigError("threads", config.threads, remedy)
        return
    threads = max(_default(), flagged) if config.threads == "auto" else config.threads
    if flagged > threads:
        remedy = f"must be at least {flagged}, the host devices that XLA_FLAGS asks for"
        raise ConfigError("threads", threads, remedy)
    each = min(usable_cores(), threads) if fill else 1
    theirs = config.threads == "auto" and _accelerated()  # `make_mesh` counts them
    made = flagged or each if config.devices == "all" or theirs else config.devices
    if made > threads:
        remedy = (
            f"must be at most threads = {threads} on a CPU; more threads change the numerical "
            "recipe; for accelerators, set JAX_PLATFORMS to cuda or tpu"
        )
        raise ConfigError("devices", made, remedy)
    if config.threads == "auto" and config.group > _HUGE:
        # XLA's CPU runtime offers pieces of a matrix product to its pool, and keeps their inputs
        # until a thread looks at the offer. While every thread runs a device, none looks, and
        # 0.7 kB per member stay allocated until the round has ended.
        threads = max(threads, made + 1)
    os.environ[_POOL] = str(threads)
    if not flagged and made > 1:
        flags = re.sub(rf"{DEVICES_FLAG}=\d+", "", os.environ.get("XLA_FLAGS", ""))
        os.environ["XLA_FLAGS"] = f"{flags} {DEVICES_FLAG}={made}".strip()


def pool() -> int:
    """Threads of XLA's pool, once JAX has devices."""
    return max(_default(), _flagged(os.environ.get("XLA_FLAGS", "")))


def _accelerated() -> bool:
    """Whether the user asks JAX for accelerators; what it finds by itself is not known yet."""
    return os.environ.get("JAX_PLATFORMS", "").split(",")[0] not in ("", "cpu")


def _default() -> int:
    given = os.environ.get(_POOL, "")
    return int(given) if given.isdigit() and int(given) > 0 else usable_cores()


def _flagged(flags: str) -> int:
    """The number of host devices that flags ask for; 0 if they do not."""
    found = re.search(rf"{DEVICES_FLAG}=(\d+)", flags)
    return int(found[1]) if found else 0


def _has_devices() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(bridge.backends_are_initialized())
