"""Compiling for absent devices: what the report says, and what is rejected."""

from importlib.util import find_spec
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.core.devices import AXIS
from ssddl_jax.data.datasets import load_dataset
from ssddl_jax.data.loading import load_data
from ssddl_jax.measure import compile_ahead, gpu_kernels
from ssddl_jax.measure.compile_ahead import compile_report
from ssddl_jax.measure.gpu_topology import GPUS, gpu_devices
from ssddl_jax.planning.memory import predict_memory
from ssddl_jax.planning.requests import GPUS_DESCRIBED, Target, parse_target
from ssddl_jax.simulation.build import build_simulation
from ssddl_jax.simulation.hlo import MODULES, OTHER

TPU = pytest.mark.skipif(
    find_spec("libtpu") is None, reason="the TPU's compiler is the extra tpu; make test-tpu has it"
)


CUDA = pytest.mark.skipif(
    not any(map(find_spec, ("jax_cuda13_plugin", "jax_cuda12_plugin"))),
    reason="XLA's compiler for GPUs is the extra cuda, of 3 GB; make test-cuda has it",
)


@pytest.mark.parametrize(
    "text",
    [
        *("tpu", "tpu:v5e", "tpu:v5e:", "tpu:5:2x2", "gpu", ""),
        *("cuda:", "cuda:v100", "cuda:h100:", "cuda:h100:9", "cuda:h100:0", "cuda:h100:2x2"),
    ],
)
def test_targets_that_nobody_knows_are_refused(text):
    with pytest.raises(sd.ConfigError, match="target"):
        parse_target(text)


def test_targets():
    assert parse_target("tpu:v5e:16x16") == Target("tpu", "v5e:16x16")
    assert parse_target("tpu:v4:2x2x1") == Target("tpu", "v4:2x2x1")
    assert parse_target("cuda") == Target("cuda", None)
    assert parse_target("cuda:h200") == Target("cuda", "h200")
    assert parse_target("cuda:b200:8") == Target("cuda", "b200:8")


def test_every_gpu_by_name_is_described():
    assert tuple(GPUS) == GPUS_DESCRIBED


@pytest.mark.parametrize("text", ["tpu:v5e:2x2", "cuda:h100:2"])
def test_without_the_compiler_the_remedy_is_named(monkeypatch, text):
    monkeypatch.setattr("ssddl_jax.planning.requests.find_spec", lambda name: None)
    with pytest.raises(sd.ConfigError, match=rf"ssddl-jax\[{text.partition(':')[0]}\]"):
        compile_report(sd.Config(), parse_target(text))


def test_the_code_of_a_kernel_is_no_text():
    code = r'ir = "u64[2] \22 "'
    text = f'%k = u32[4] custom-call(%x), backend_config={{name = "key_sums", {code}}}'
    compiled = SimpleNamespace(as_text=lambda: text)
    assert compile_ahead._text(compiled) == text.replace(code, "ir")


def test_what_xla_cannot_compile_is_told_in_one_line(monkeypatch):
    def compile(compiler_options):
        raise jax.errors.JaxRuntimeError("INTERNAL: ptxas\n\nuses too much")

    mesh = jax.make_mesh((1,), (AXIS,), axis_types=(AxisType.Auto,))
    scheme = SimpleNamespace(mesh=mesh, schedule="gpu")
    made = SimpleNamespace(recipe=SimpleNamespace(scheme=scheme), step=lambda: None)
    monkeypatch.setattr(compile_ahead, "_shapes", lambda *_: ())
    monkeypatch.setattr(compile_ahead, "lower", lambda *_: SimpleNamespace(compile=compile))
    with pytest.raises(sd.RunError, match=r"schedule gpu .*: INTERNAL: ptxas uses too much$"):
        compile_ahead._compile(made, None)


def test_the_devices_of_a_config_are_not_those_of_the_target(tmp_path, capsys):
    path = tmp_path / "config.toml"
    path.write_text('devices = 99\nmodel = "nothing:here"\n', encoding="utf-8")
    assert main(["compile", "--config", str(path), "--target", "cuda"]) == 2
    assert "model = nothing:here" in capsys.readouterr().err


def test_collectives_and_forbidden_things_are_found_in_a_text():
    text = """
      %a = u32[4] all-reduce(%x), to_apply=%add
      %b = (u32[4], u32[4]) all-gather-start(%x)
      %c = u64[2] add(%y, %y)
      %d = f32[2] custom-call(%y), custom_call_target="xla_python_cpu_callback"
    """
    assert compile_ahead._collectives(text) == {"all-reduce": 1, "all-gather": 1}
    assert compile_ahead._forbidden(text) == {"types_64_bit": {"u64": 1}, "host_callbacks": 1}
    text = "%0 = stablehlo.add %a, %b : tensor<4xi64>, (tensor<f64>, tensor<2xui32>)"
    assert compile_ahead._forbidden(text)["types_64_bit"] == {"i64": 1, "f64": 1}
    assert compile_ahead._forbidden("%c = u32[2] add(%y) : tensor<2xui32>") == {
        "types_64_bit": {},
        "host_callbacks": 0,
    }


FIT = {
    "ring": ({"neighbours": 4}, 1, lambda n: 5000 + 10_000 * n),
    "parabola": ({}, 2, lambda n: 7000 + 4 * n * n),
}


@pytest.mark.parametrize("name", FIT)
def test_how_many_fit_by_what_two_compilations_use(monkeypatch, name):
    """By a compiler that plans as many bytes as a known formula of the members says."""
    more, power, formula = FIT[name]
    config = sd.Config(model="linear", participants=12, group_size=8, **more)
    members = []

    def compiled(simulation, data):
        members.append(simulation.plan.size)
        assert simulation.plan.participants == simulation.plan.size == len(data.counts)
        return simulation.plan.size, 0.0

    def memory(n):
        sizes = {"argument": formula(n) - n - 2, "output": n + 5, "temp": 7, "alias": 10}
        return SimpleNamespace(**{f"{k}_size_in_bytes": v for k, v in sizes.items()})

    monkeypatch.setattr(compile_ahead, "_compile", compiled)
    monkeypatch.setattr(compile_ahead, "_memory", memory)
    mesh = jax.make_mesh((1,), (AXIS,), axis_types=(AxisType.Auto,))
    told = {"device_kind": "TPU v5 lite", "devices": 4}
    report = compile_ahead._fit(config, load_data(config), mesh, told)
    assert report["bytes_by_participants"] == {str(n): formula(n) for n in members}
    assert len(members) == 2
    assert report["bytes_grow_as"] == f"participants^{power}"
    fits = report["participants_that_fit"]
    assert formula(fits) <= 16 << 30 < formula(fits + 1)
    assert report["participants_per_device"] == fits // 4


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"engine": "ideal"}, {"neighbours": 4, "ring_bits": 64}])
def test_cuda_gets_stablehlo(more):
    config = sd.Config(model="linear", participants=12, group_size=8, **more)
    report = compile_report(config, Target("cuda", None))
    assert report["stablehlo_bytes"] > 10_000
    assert report["types_64_bit"] == {}
    assert report["host_callbacks"] == 0
    assert report["tile_size"] == 8  # the group
    assert "never run" in report["note"]


def predicted_for(config, target):
    """Bytes of each device, as `ssddl plan` predicts."""
    devices = gpu_devices(target.partition(":")[2])
    mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    data = load_data(config)
    made = build_simulation(config, None, data, mesh=mesh)
    source = load_dataset(config.data)
    return predict_memory(config, made.plan, made.model, source, data.most_rows, mesh).device


@CUDA
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("cuda:h200", {"engine": "ideal", "rounding": "stochastic"}),
        ("cuda:h100:4", {"neighbours": "auto", "shares": "paired"}),
        ("cuda:h100:2", {"neighbours": 6, "ring_bits": 64}),
        ("cuda:b200", {"dropout_rule": "shamir", "participants": 200, "group_size": 100}),
        ("cuda:h100:8", {"protocol": "plain", "model": "cnn"}),
    ],
)
def test_gpus_of_one_host(target, more):
    """Whole rounds by XLA's compiler for GPUs, on a machine without one."""
    base = {"participants": 2000, "group_size": 1000, "partition": "resample:20"}
    config = sd.Config(**{**base, **more})
    report = compile_report(config, parse_target(target), fit=False)
    count = int(target.partition(":")[2].partition(":")[2] or 1)
    assert report["devices"] == count
    assert report["types_64_bit"] == {}
    assert report["host_callbacks"] == 0
    assert 0 < report["temporary_bytes"] < 8 << 30
    assert bool(report["collectives"]) == (count > 1)
    told = report["estimate"]
    assert sum(told["seconds_by_module"].values()) > 0
    assert told["seconds_by_module"]["LocalTrain"] > 0
    assert told["steps"] * gpu_kernels.START < told["seconds_of_starts"] < 0.1
    used = compile_ahead._used(report)
    assert used < predicted_for(config, target) < 4 * used  # what a plan says, on the safe side
    if config.engine == "pairwise" and config.protocol == "ssddl" and "dropout_rule" not in more:
        kernels = [kernel for kernel in told["kernels"] if "ParaShare" in kernel["module"]]
        made = count * sum(kernel["words"] for kernel in kernels)
        shares = report["neighbours"] * (1 if config.shares == "paired" else 2)
        needed = 1000 * shares * (report["parameters"] + 1) * config.ring_bits // 32
        assert needed <= made < 1.1 * needed


def compiled_for_four_chips(fit=True, **fields):
    """The report of a round of a thousand."""
    config = sd.Config(participants=2000, group_size=1000, partition="resample:20", **fields)
    report = compile_report(config, Target("tpu", "v5e:2x2"), fit=fit)
    assert (report["devices"], report["device_kind"]) == (4, "TPU v5 lite")
    assert report["collectives"]["all-reduce"] >= 1
    assert report["types_64_bit"] == {}
    assert report["host_callbacks"] == 0
    assert 0 < report["temporary_bytes"] < 1 << 30
    assert report["argument_bytes"] > 10_000 * 784
    assert report["flops"] > 0
    assert "never run" in report["note"]
    check_estimate(report["estimate"], report["parameters"])
    return report


def check_estimate(told, parameters):
    """What the compiler expects of a round of 250 members a chip."""
    modules = told["seconds_by_module"]
    assert set(modules) == {*MODULES, OTHER}
    assert 0 < told["seconds"] < 1
    assert sum(modules.values()) + told["collective_seconds"] == pytest.approx(told["seconds"])
    assert min(modules[name] for name in ("SelectGroup", "LocalTrain", "ParaShare")) > 0
    assert modules["ParaUpdate"] > 0
    assert told["collective_bytes"] >= 4 * parameters  # the joined sums
    assert "no time is measured" in told["how"]
    words = 0
    for kernel in told["kernels"]:
        assert kernel["module"].startswith("ParaShare")
        assert kernel["words_per_key"] in (16_384, 32_768)
        assert 100 < kernel["bundles_per_key"] < 4000
        assert kernel["bundles_per_step_overhead"] > 0
        steps = kernel["calls"] * kernel["grid"][0] * kernel["grid"][1]
        a_step = kernel["keys_per_step"] * kernel["bundles_per_key"]
        assert kernel["cycles"] == steps * (kernel["bundles_per_step_overhead"] + a_step)
        assert kernel["words"] == steps * kernel["keys_per_step"] * kernel["words_per_key"]
        words += kernel["words"]
    assert words >= 250 * parameters
    assert sum(kernel["cycles"] for kernel in told["kernels"]) <= told["cycles"]


@TPU
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more"), [("mlp", {"neighbours": "auto"}), ("cnn", {"engine": "ideal"})]
)
def test_the_whole_round_compiles_for_four_chips(model, more):
    """Once: what two larger rounds are compiled for has tests of its own."""
    report = compiled_for_four_chips(model=model, fit=False, **more)
    assert "participants_that_fit" not in report


@TPU
@pytest.mark.slow
def test_how_many_fit_on_four_chips():
    """The model and the engine that compile fastest; other lines are by a known formula, above."""
    report = compiled_for_four_chips(model="linear", engine="ideal")
    assert report["memory_bytes_per_device"] == 16 << 30
    small, large = report["bytes_by_participants"].values()
    assert 0 < small < large < 16 << 30
    assert report["participants_that_fit"] > 10_000


@TPU
@pytest.mark.slow
def test_a_topology_of_one_chip():
    """Older compilers take it for a part of a host of four."""
    assert len(compile_ahead.tpu_devices("v5e:1x1")) == 1


@TPU
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v99:2x2", "v5e:7x5"])
def test_an_unknown_topology_is_refused(topology):
    with pytest.raises(sd.ConfigError, match="topology"):
        compile_ahead.tpu_devices(topology)
