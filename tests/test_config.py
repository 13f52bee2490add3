"""`Config`: any value gives a valid config, or one line that says what would work."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ssddl_jax as sd
from ssddl_jax.cli.options import read_config
from ssddl_jax.config.toml_files import read_config_file, read_toml

FIELDS = [field.name for field in dataclasses.fields(sd.Config)]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 300),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        [
            "all",
            "auto",
            "complete",
            "ssddl",
            "plain",
            "ideal",
            "pairwise",
            "reference",
            "shamir",
            "reveal",
            "retry",
        ]
    ),
    st.sampled_from(
        ["examples", "rotate", "stochastic", "paired", "iid", "mlp", "explicit", 64, 32]
    ),
    st.just([1]),
)


@given(st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=4))
@settings(max_examples=1000)
def test_any_mutation_is_a_config_or_one_clear_line(mutated):
    said = None
    try:
        config = sd.Config(**mutated)
    except sd.ConfigError as error:
        said = error
    if said is not None:
        assert "\n" not in str(said)
        assert said.field in FIELDS
        assert str(said).startswith(said.field)
        assert said.remedy
        return
    assert isinstance(config.group, int)
    assert 3 <= config.group <= config.participants


NOISY = {"protocol": "dssgd", "dssgd_rule": "random", "dssgd_epsilon": 1.0}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"group_size": 2}, "group_size"),
        ({"participants": 10, "group_size": 11}, "group_size"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"clip": 0.0}, "clip"),
        ({"clip": 1e-60}, "clip"),
        ({"neighbours": 3}, "neighbours"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"ring_bits": 16}, "ring_bits"),
        ({"rounds": True}, "rounds"),
        ({"protocol": "secagg", "neighbours": "auto"}, "neighbours"),
        ({"protocol": "secagg", "transport": "explicit"}, "transport"),
        ({"protocol": "dssgd", "dssgd_theta_d": 0.0}, "dssgd_theta_d"),
        (NOISY | {"dssgd_epsilon": 31.0}, "dssgd_epsilon"),
        (NOISY | {"nonfinite": "stop"}, "nonfinite"),
        ({"protocol": "sddl"}, "protocol"),
        ({"engine": "ideal", "dropout_rule": "reveal"}, "dropout_rule"),
        ({"engine": "ideal", "dropout_rule": "shamir"}, "dropout_rule"),
        ({"dropout_rule": "shamir", "neighbours": 4}, "neighbours"),
        ({"dropout_rule": "shamir", "neighbours": "auto"}, "neighbours"),
        ({"dropout_rule": "shamir", "ring_bits": 64}, "ring_bits"),
        ({"dropout_rule": "shamir", "threshold": 26}, "threshold"),
        ({"dropout": 0.1, "dropout_schedule": "x.csv"}, "dropout"),
    ],
)
def test_the_impossible_is_refused_by_name(fields, field):
    with pytest.raises(sd.ConfigError) as caught:
        sd.Config(**fields)
    assert caught.value.field == field


def test_clip_is_rounded_to_float32():
    assert sd.Config(clip=0.1).clip == 0.10000000149011612
    # By the standard library, as NumPy would: ties, denormals, the largest; beyond it, refused.
    edges = [1 + 2**-24, 1 + 3 * 2**-24, 1e-40, 1e-45, 0.8e-45, 2**-126, 3.4028235677973362e38]
    for clip in (*edges, np.float32(0.1), np.float64(0.1)):
        assert sd.Config(clip=clip).clip == float(np.float32(clip))
    with pytest.raises(sd.ConfigError, match="clip"):
        sd.Config(clip=3.4028235677973366e38)


def test_none_is_the_default_that_the_report_prints(tmp_path):
    for name in ("dropout_schedule", "metrics", "sinks"):
        assert sd.Config(**{name: "none"}) == sd.Config()
    assert sd.Config(out="none").out == "none"  # a folder may have this name
    assert sd.Config(data="none").data == "none"
    path = sd.Config(dropout_schedule=Path("none")).dropout_schedule
    assert path == sd.Config(dropout_schedule=path).dropout_schedule == "./none"
    (tmp_path / "a.toml").write_text('dropout_schedule = "none"\n')
    assert sd.Config(**read_config_file(tmp_path / "a.toml")) == sd.Config()
    options = argparse.Namespace(config=None, dropout_schedule="none", sinks="none")
    assert read_config(options) == sd.Config()


def test_toml(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('group-size = 5\nmodel = "linear"\n[environment]\ndevice = "x"\n')
    assert read_toml(path) == {"group_size": 5, "model": "linear"}
    path.write_text("grup_size = 5\n")
    with pytest.raises(sd.ConfigError, match="did you mean group_size"):
        read_toml(path)
    path.write_text("group_size = \n")
    with pytest.raises(sd.ConfigError, match="not a TOML file"):
        read_toml(path)
    with pytest.raises(sd.ConfigError, match="cannot be read"):
        read_toml(tmp_path / "none.toml")
