"""As many host devices as cores: decided before JAX starts."""

import os
import re

_HUGE = 150_000  # members of a group
DEVICES_FLAG = "--xla_force_host_platform_device_count"

GIVEN_FLAGS = os.environ.get("XLA_FLAGS", "")  # the user's


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def use_all_cores() -> None:
    """One host device a core, unless XLA_FLAGS says already."""
    flags = os.environ.get("XLA_FLAGS", "")
    if DEVICES_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DEVICES_FLAG}={usable_cores()}".strip()


def spare_thread(members: int) -> None:
    """For a huge group, one thread more than devices in XLA's pool; before JAX has devices.

    XLA's CPU runtime offers pieces of a matrix product to its thread pool and keeps what they need
    until the offer has been looked at. While every thread of the pool runs a device, nobody looks:
    0.7 kB a member stay until the round has ended. A spare thread keeps memory flat; on smaller
    groups it would cost a third of the speed.
    """
    devices = re.search(rf"{DEVICES_FLAG}=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if members > _HUGE and devices:
        os.environ.setdefault("NPROC", str(max(usable_cores(), int(devices[1]) + 1)))
