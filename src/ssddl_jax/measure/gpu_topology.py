"""The devices of NVIDIA GPUs that are not here, as XLA's compiler sees them; no GPU is needed.

It compiles for a GPU that it knows only from a description: how many cores, how much memory, how
fast.
"""

from typing import Any, NamedTuple

from ssddl_jax.common.errors import ConfigError


class Gpu(NamedTuple):
    """A GPU, by NVIDIA's data sheets and XLA's own description of it."""

    name: str
    capability: int  # compute capability, major
    cores: int  # streaming multiprocessors
    lanes: int  # of each for float32
    shared: int  # bytes of shared memory of each
    clock: float  # cycles per second
    memory: int  # bytes
    bandwidth: float  # bytes per second from and to its memory
    cache: int  # bytes of L2
    links: float  # bytes per second to the other GPUs of its host, each way


GPUS = {
    "h100": Gpu("NVIDIA H100", 9, 132, 128, 233472, 1.98e9, 80 << 30, 3.35e12, 50 << 20, 450e9),
    "h200": Gpu("NVIDIA H200", 9, 132, 128, 233472, 1.98e9, 141 << 30, 4.8e12, 50 << 20, 450e9),
    "b200": Gpu("NVIDIA B200", 10, 148, 128, 233472, 1.965e9, 178 << 30, 7.7e12, 126 << 20, 900e9),
}


def gpu_devices(topology: str) -> Any:
    """The devices of a topology such as "h100" or "h100:8": the GPUs of one host.

    Raises `ConfigError` if the compiler does not take it.
    """
    from jax.experimental import topologies

    name, _, count = topology.partition(":")
    try:
        return topologies.get_topology_desc(
            name, "cuda", target_config=_description(GPUS[name]), topology=f"1x1x{count or 1}"
        ).devices
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        remedy = f"XLA's GPU compiler does not take it: {text}"
        raise ConfigError("target", f"cuda:{topology}", remedy) from error


def _description(gpu: Gpu) -> str:
    """A `GpuTargetConfigProto` of XLA, as text. What it leaves out is the same for all of them."""
    return f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {gpu.capability} feature_extension: ACCELERATED_FEATURES }}
  core_count: {gpu.cores} fpus_per_core: {gpu.lanes} clock_rate_ghz: {gpu.clock / 1e9}
  device_memory_size: {gpu.memory} memory_bandwidth: {int(gpu.bandwidth)} l2_cache_size: {gpu.cache}
  shared_memory_per_core: {gpu.shared} shared_memory_per_block_optin: {gpu.shared - 1024}
  shared_memory_per_block: 49152 registers_per_core_limit: 65536 registers_per_block_limit: 65536
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  driver_version: "13.0.0" runtime_version: "13.0.0"
}}
platform_name: "CUDA"
device_description_str: "{gpu.name}"
"""
