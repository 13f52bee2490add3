"""XLA's CPU thread pool and its host devices: decided before JAX has any.

The size of the pool picks how products and long sums are cut, so it is part of the numerical
recipe: the field `threads`. The pool is as large as NPROC, or as there are usable cores, and never
smaller than the number of host devices; neither can change once JAX has devices.
"""

import os
import re
import sys

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.config import Config

_HUGE = 150_000  # members of a group
_POOL = "NPROC"
DEVICES_FLAG = "--xla_force_host_platform_device_count"

GIVEN_FLAGS = os.environ.get("XLA_FLAGS", "")  # the user's


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def start_pool(config: Config, *, fill: bool) -> None:
    """Sees to it that XLA's pool has the config's `threads`, and that there are host devices: as
    many as `devices` says, or, if `fill`, one a core.

    Where JAX has devices already, the pool must be the one asked for. Raises `ConfigError`.
    """
    flagged = _flagged(GIVEN_FLAGS)
    if _has_devices():
        if config.threads not in ("auto", pool()):
            remedy = (
                f"XLA's pool has {pool()} in this process, and JAX has devices already; in a new "
                f"one: NPROC={config.threads} python ..."
            )
            raise ConfigError("threads", config.threads, remedy)
        return
    threads = max(_default(), flagged) if config.threads == "auto" else config.threads
    if flagged > threads:
        remedy = f"XLA_FLAGS makes {flagged} host devices, and the pool is never smaller"
        raise ConfigError("threads", threads, remedy)
    each = min(usable_cores(), threads) if fill else 1
    made = flagged or each if config.devices == "all" else config.devices
    if made > threads:
        remedy = f"there can be at most threads = {threads} here; more threads are another recipe"
        raise ConfigError("devices", made, remedy)
    if config.threads == "auto" and config.group > _HUGE:
        # XLA's CPU runtime offers pieces of a matrix product to its pool and keeps what they need
        # until the offer has been looked at. While every thread runs a device nobody looks:
        # 0.7 kB a member stay until the round has ended.
        threads = max(threads, made + 1)
    os.environ[_POOL] = str(threads)
    if not flagged and made > 1:
        flags = re.sub(rf"{DEVICES_FLAG}=\d+", "", os.environ.get("XLA_FLAGS", ""))
        os.environ["XLA_FLAGS"] = f"{flags} {DEVICES_FLAG}={made}".strip()


def pool() -> int:
    """Threads of XLA's pool, once JAX has devices."""
    return max(_default(), _flagged(os.environ.get("XLA_FLAGS", "")))


def _default() -> int:
    given = os.environ.get(_POOL, "")
    return int(given) if given.isdigit() and int(given) > 0 else usable_cores()


def _flagged(flags: str) -> int:
    """Host devices that flags ask for; 0 if they do not say."""
    found = re.search(rf"{DEVICES_FLAG}=(\d+)", flags)
    return int(found[1]) if found else 0


def _has_devices() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(bridge.backends_are_initialized())
