"""`ssddl compile`: compiles the round ahead of time for devices that this machine does not have.

The TPU's compiler (the optional extra `tpu`) and XLA's for GPUs (extra `cuda`) compile the whole
round, local training included, for a named topology. The target `cuda`, without a GPU's name, needs
neither and exports StableHLO. The report gives the compiler's memory, collectives and operations,
and an estimate of the round's seconds (`estimate`). Nothing runs and no time is measured.
"""

import re
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ssddl_jax.common.errors import RunError, one_line
from ssddl_jax.config.config import MOST, Config
from ssddl_jax.core.devices import AXIS, platform_of
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.loading import load_data
from ssddl_jax.measure.estimate import CHIPS, estimate
from ssddl_jax.measure.gpu_topology import GPUS, gpu_devices
from ssddl_jax.measure.tpu_topology import tpu_devices
from ssddl_jax.planning.requests import Target, check_compiled
from ssddl_jax.running.environment import versions
from ssddl_jax.simulation.build import Simulation, build_simulation, placed_like
from ssddl_jax.simulation.compiling import OPTIONS, lower, named

# Memory of one device, bytes (Google Cloud's TPU documentation; a v2 or v3 device is one core). JAX
# takes three quarters of a GPU's.
_MEMORY = {
    "TPU v2": 8 << 30,
    "TPU v3": 16 << 30,
    "TPU v4": 32 << 30,
    "TPU v5 lite": 16 << 30,
    "TPU v5": 95 << 30,
    "TPU v6 lite": 32 << 30,
    **{gpu.name: gpu.memory * 3 // 4 for gpu in GPUS.values()},
}
_EXPECTED = {"xla_gpu_collect_cost_model_stats": True}  # GPU operations carry expected seconds
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
_NOTE = "compiled, never run: no time is measured; the estimate is the compiler's"


def compile_report(config: Config, target: Target, *, fit: bool = True) -> dict[str, Any]:
    """What `ssddl compile --json` prints.

    `fit`: also report how many participants fit, which takes two more compilations. Raises
    `ConfigError`; `RunError` if the estimate fails.
    """
    check_compiled(config, target)
    data = load_data(config)
    if target.topology is None:
        return _export_cuda(config, data)
    devices = {"tpu": tpu_devices, "cuda": gpu_devices}[target.platform](target.topology)
    mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    simulation = build_simulation(config, None, data, mesh=mesh)
    compiled, seconds = _compile(simulation, data)
    text, memory = _text(compiled), _memory(compiled)
    report = {
        "target": f"{target.platform}:{target.topology}",
        "devices": len(devices),
        "device_kind": devices[0].device_kind,
        "compile_seconds": seconds,
        **_bytes(memory),
        "collectives": _collectives(text),
        **_operations(compiled),
        **_forbidden(text),
        "code_bytes": memory.generated_code_size_in_bytes,
        **_about(config, simulation),
        "note": _NOTE,
    }
    if report["device_kind"] in CHIPS:
        report["estimate"] = estimate(text, report["device_kind"])
    return {**report, **_fit(config, data, mesh, report)} if fit else report


def _compile(simulation: Simulation, data: Data) -> tuple[jax.stages.Compiled, float]:
    begin, mesh = time.perf_counter(), simulation.recipe.scheme.mesh
    gpu = platform_of(mesh) == "gpu"
    # A kernel for a GPU that is not here must be told which one it is for.
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh) if gpu else nullcontext():
        lowered = lower(named(simulation.step), *_shapes(simulation, data))
    options = {**OPTIONS["gpu"], **_EXPECTED} if gpu else None
    try:
        compiled = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        schedule, kind = simulation.recipe.scheme.schedule, mesh.devices.flat[0].device_kind
        why = f"compile: XLA cannot, for {kind} with schedule {schedule} (auto takes its own): "
        why += one_line(str(error), 300)
        raise RunError(why) from error
    return compiled, time.perf_counter() - begin


def _text(compiled: jax.stages.Compiled) -> str:
    """The compiled text, without the binary code of its kernels."""
    return re.sub(r'\bir = "[^"]*"', "ir", compiled.as_text() or "")


def _shapes(simulation: Simulation, data: Data) -> tuple[Any, Any]:
    """The shapes of state and data, replicated on every device."""
    return placed_like((jax.eval_shape(simulation.init), data), simulation.recipe)


def _memory(compiled: jax.stages.Compiled) -> Any:
    return compiled.memory_analysis()


def _bytes(memory: Any) -> dict[str, int]:
    """Memory of one device, in bytes."""
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "donated_bytes": memory.alias_size_in_bytes,
    }


def _collectives(text: str) -> dict[str, int]:
    """How often each kind occurs in the program's text; one in a loop counts once."""
    pattern = r"\s(" + "|".join(_COLLECTIVES) + r")(?:-start)?\("
    return dict(Counter(re.findall(pattern, text)))


def _operations(compiled: jax.stages.Compiled) -> dict[str, float | None]:
    """The compiler's counts for one device; it may count a loop's body once."""
    cost = compiled.cost_analysis() or {}
    return {"flops": cost.get("flops"), "bytes_accessed": cost.get("bytes accessed")}


def _forbidden(text: str) -> dict[str, Any]:
    """64-bit types and host calls in the program; there must be none."""
    hlo = re.findall(r"\b([suf]64|c128)\[", text)
    stablehlo = re.findall(r"[x<](u?i64|f64)>", text)
    wide = dict(Counter([*hlo, *stablehlo]))
    calls = re.findall(r"callback|infeed|outfeed|is_host_transfer=true", text)
    return {"types_64_bit": wide, "host_callbacks": len(calls)}


def _about(config: Config, simulation: Simulation) -> dict[str, Any]:
    plan = simulation.plan
    return {
        "participants": plan.participants,
        "group_size": plan.size,
        "parameters": plan.dimension,
        "model": simulation.model.name,
        "protocol": config.protocol,
        "engine": config.engine,
        "neighbours": plan.neighbours,
        "prg": config.prg,
        "tile_size": plan.tile_size,
        "versions": versions(),
    }


def _used(report: dict[str, Any]) -> int:
    total = report["argument_bytes"] + report["output_bytes"] + report["temporary_bytes"]
    return int(total - report["donated_bytes"])


def _fit(config: Config, data: Data, mesh: Mesh, report: dict[str, Any]) -> dict[str, Any]:
    """An estimate of how many participants fit if all take part.

    The compiler's memory for two group sizes is extrapolated linearly, or quadratically for the
    complete graph.
    """
    memory = _MEMORY.get(report["device_kind"])
    # A complete graph has keys for every pair of members; a sparse one grows with the members.
    power, sizes = 1, (1 << 16, 1 << 17)
    if config.engine == "pairwise" and config.sums_securely:
        sparse = config.graph != "complete"
        power, sizes = (1, (1 << 12, 1 << 14)) if sparse else (2, (512, 1024))
    used = []
    for n in sizes:
        counts = np.full(n, data.most_rows, np.int32)
        bags = data._replace(rows=np.zeros((0, data.most_rows), np.int32), counts=counts)
        grown = replace(
            config, participants=n, group_size="all", fraction_bits="auto", dropout_schedule=None
        )
        other = build_simulation(grown, None, bags, mesh=mesh)
        compiled, _ = _compile(other, bags)
        used.append(_used(_bytes(_memory(compiled))))
    each = (used[1] - used[0]) / (sizes[1] ** power - sizes[0] ** power)
    fixed = used[0] - each * sizes[0] ** power
    fits = None
    if memory is not None and each > 0:
        fits = min(MOST, int(((memory - fixed) / each) ** (1 / power)))
    return {
        "memory_bytes_per_device": memory,
        "bytes_by_participants": dict(zip(map(str, sizes), used, strict=True)),
        "bytes_grow_as": f"participants^{power}",
        "participants_that_fit": fits,
        "participants_per_device": None if fits is None else fits // report["devices"],
    }


def _export_cuda(config: Config, data: Data) -> dict[str, Any]:
    """Exports the round as StableHLO for one CUDA device; it is not compiled further."""
    from jax import export

    mesh = Mesh(np.array(jax.devices()[:1]), (AXIS,), axis_types=(AxisType.Auto,))
    if config.schedule == "auto":
        config = replace(config, schedule="gpu")
    simulation = build_simulation(config, None, data, mesh=mesh)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), _shapes(simulation, data)
    )
    begin = time.perf_counter()
    exported = export.export(jax.jit(named(simulation.step)), platforms=["cuda"])(*shapes)
    text = exported.mlir_module()
    return {
        "target": "cuda",
        "devices": 1,
        "export_seconds": time.perf_counter() - begin,
        "stablehlo_bytes": len(exported.mlir_module_serialized),
        **_forbidden(text),
        **_about(config, simulation),
        "note": "exported as StableHLO, not compiled, never run; cuda:h100 compiles (extra cuda)",
    }
