"""As many host devices as cores: decided before JAX starts."""

import os

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
