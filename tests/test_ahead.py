"""Compiling for devices that are not here: what the report says, and what is refused."""

from importlib.util import find_spec

import pytest

import ssddl_jax as sd
from ssddl_jax import ahead
from ssddl_jax.ahead import compile_report
from ssddl_jax.requests import Target, parse_target

TPU = pytest.mark.skipif(
    find_spec("libtpu") is None, reason="the TPU's compiler is the extra tpu; make test-tpu has it"
)


@pytest.mark.parametrize(
    "text", ["tpu", "tpu:v5e", "tpu:v5e:", "gpu", "cuda:h100", "tpu:5:2x2", ""]
)
def test_targets_that_nobody_knows_are_refused(text):
    with pytest.raises(sd.ConfigError, match="target"):
        parse_target(text)


def test_targets():
    assert parse_target("tpu:v5e:16x16") == Target("tpu", "v5e:16x16")
    assert parse_target("tpu:v4:2x2x1") == Target("tpu", "v4:2x2x1")
    assert parse_target("cuda") == Target("cuda", None)


def test_without_the_compiler_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("ssddl_jax.requests.find_spec", lambda name: None)
    with pytest.raises(sd.ConfigError, match=r"ssddl-jax\[tpu\]"):
        compile_report(sd.Config(), Target("tpu", "v5e:2x2"))


def test_collectives_and_forbidden_things_are_found_in_a_text():
    text = """
      %a = u32[4] all-reduce(%x), to_apply=%add
      %b = (u32[4], u32[4]) all-gather-start(%x)
      %c = u64[2] add(%y, %y)
      %d = f32[2] custom-call(%y), custom_call_target="xla_python_cpu_callback"
    """
    assert ahead._collectives(text) == {"all-reduce": 1, "all-gather": 1}
    assert ahead._forbidden(text) == {"types_64_bit": {"u64": 1}, "host_callbacks": 1}
    text = "%0 = stablehlo.add %a, %b : tensor<4xi64>, (tensor<f64>, tensor<2xui32>)"
    assert ahead._forbidden(text)["types_64_bit"] == {"i64": 1, "f64": 1}
    assert ahead._forbidden("%c = u32[2] add(%y) : tensor<2xui32>") == {
        "types_64_bit": {},
        "host_callbacks": 0,
    }


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"engine": "ideal"}, {"neighbours": 4, "ring_bits": 64}])
def test_cuda_gets_stablehlo(more):
    config = sd.Config(model="linear", participants=12, group_size=8, **more)
    report = compile_report(config, Target("cuda", None))
    assert report["stablehlo_bytes"] > 10_000
    assert report["types_64_bit"] == {}
    assert report["host_callbacks"] == 0
    assert report["tile_size"] == 128
    assert "never run" in report["note"]


@TPU
@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("more", [{"neighbours": "auto"}, {"engine": "ideal"}])
def test_the_whole_round_compiles_for_four_chips(model, more):
    config = sd.Config(
        model=model, participants=2000, group_size=1000, partition="resample:20", **more
    )
    report = compile_report(config, Target("tpu", "v5e:2x2"))
    assert (report["devices"], report["device_kind"]) == (4, "TPU v5 lite")
    assert report["collectives"]["all-reduce"] >= 1
    assert report["types_64_bit"] == {}
    assert report["host_callbacks"] == 0
    assert 0 < report["temporary_bytes"] < 1 << 30
    assert report["argument_bytes"] > 10_000 * 784
    assert report["flops"] > 0
    assert report["participants_that_fit"] > 10_000
    assert "never run" in report["note"]


@TPU
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v99:2x2", "v5e:7x5"])
def test_an_unknown_topology_is_refused(topology):
    with pytest.raises(sd.ConfigError, match="topology"):
        ahead.tpu_devices(topology)
