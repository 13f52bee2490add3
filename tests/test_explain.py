"""`run --explain`: every number that it prints is recomputed here from the round's own numbers, by
code that is not the package's.
"""

import json
import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import optax
import pytest

import independent
import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.cli.explain.screen import _who_sees, explain
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.planning.plan import make_plan

D = 52 + 1  # linear on 3 x 4 images of 4 classes, and the weight word
MODULES = ("1 Init", "2 SelectGroup", "3 LocalTrain", "4 ParaShare", "5 ParaUpdate")


def config_of(tiny_file, **fields):
    base = {"model": "linear", "participants": 8, "group_size": 5, "devices": 1, "tile_size": 2}
    return sd.Config(data=str(tiny_file), **{**base, **fields})


def read(text):
    """{label: numbers} of the lines of numbers, and the participants' ids in slot order."""
    rows = {}
    for line in text.splitlines():
        label, numbers = line[4:28].strip(), line[28:].split()
        if line.startswith("    ") and numbers and all(map(is_number, numbers)):
            rows[label] = [float(n) if re.search("[.en]", n) else int(n) for n in numbers]
    ids = re.search(r"participants (\d+(?:, \d+)+)$", text, re.MULTILINE).group(1)
    return rows, [int(i) for i in ids.split(", ")]


def is_number(text):
    return re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?|nan|-?inf", text) is not None


def check_screen(text):
    lines = text.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    starts = [line for line in lines if line.startswith(MODULES)]
    assert [line.split()[1] for line in starts] == [name.split()[1] for name in MODULES]


def check_encoding(rows, ids, f, bits, weights):
    for i, m in zip(ids, weights, strict=True):
        *words, weight = rows[f"x_{i}"]
        updates = np.array(rows[f"u_{i}"], np.float32)
        want = independent.encode(updates, m, 1.0, f, bits)
        assert [*words, weight] == independent.values_of(want, bits).tolist()


def check_update(text, rows, f, modulus):
    assert rows["A"] == rows["sum x_i"]
    assert f"    equal in all {D} columns" in text
    *words, weight = rows["A"]
    mean = [Fraction(w - modulus if w >= modulus // 2 else w, weight << f) for w in words]
    shown = np.array(rows["mean"], np.float32)
    np.testing.assert_array_equal(shown, np.array([float(value) for value in mean], np.float32))
    after = np.array(rows["params before"], np.float32) + np.array(rows["mean"], np.float32)
    np.testing.assert_array_max_ulp(np.array(rows["params after"], np.float32), after, 2)


def chain_in(text):
    return [int(word, 16) for word in re.search(r"S_0 = ((?:[0-9a-f]{8} ?){8})", text)[1].split()]


@pytest.mark.parametrize(
    ("bits", "shares", "weighting"), [(32, "directed", "uniform"), (64, "paired", "examples")]
)
def test_pair_shares_and_uploads(tiny_file, bits, shares, weighting):
    config = config_of(
        tiny_file, ring_bits=bits, shares=shares, weighting=weighting, fraction_bits=20, seed=2**35
    )
    text = explain(config)
    check_screen(text)
    rows, ids = read(text)
    modulus, limbs = 2**bits, bits // 32
    columns = [*range(4 - limbs), D - 1]
    chain = chain_in(text)
    assert chain == independent.chain_of(config.seed, 0).tolist()
    order = np.argsort(
        independent.words(
            independent.public_of(config.seed), 8, (0, independent.ANY, independent.tag("SELE"))
        ),
        kind="stable",
    )
    assert ids == order[:3].tolist()
    weights = [rows[f"x_{i}"][-1] for i in ids]
    assert weighting == "examples" or weights == [1, 1, 1]
    check_encoding(rows, ids, 20, bits, weights)
    total = [0] * len(columns)
    for i in ids:
        upload = list(rows[f"x_{i}"])
        for j in ids:
            for dealer, holder, sign in ((j, i, 1), (i, j, -1)):
                if i == j or (shares == "paired" and dealer > holder):
                    assert i == j or f"s_{dealer}->{holder}" not in rows
                    continue
                words = independent.share(chain, 0, dealer, holder, D * limbs)
                values = independent.values_of(words, bits)[columns].tolist()
                assert rows[f"s_{dealer}->{holder}"] == values
                upload = [u + sign * s for u, s in zip(upload, values, strict=True)]
        assert rows[f"a_{i}"] == [u % modulus for u in upload]
        total = [t + u for t, u in zip(total, upload, strict=True)]
    assert rows["A"] == [t % modulus for t in total]
    check_update(text, rows, 20, modulus)
    terms = re.search(rf"so a_{ids[0]} begins with (.*) mod 2\^{bits}", text)[1]
    signed = re.findall(r"([+-]?) ?(\d+)", terms)
    worked = sum(-int(number) if sign == "-" else int(number) for sign, number in signed)
    assert worked % modulus == rows[f"a_{ids[0]}"][0]


def test_shamir_polynomials(tiny_file):
    text = explain(config_of(tiny_file, dropout_rule="shamir", threshold=4, dropout=0.2))
    check_screen(text)
    rows, ids = read(text)
    p, f = independent.PRIME, int(re.search(r"\* 2\^(\d+)", text)[1])
    assert "t = 2 of 3 here [t = 4 of 5]" in text
    assert "points of a random polynomial: any t give the others, and the sum" in text
    assert "uniform" not in text.split("The server sees")[1]
    check_encoding(rows, ids, f, 32, [1, 1, 1])
    held = [0, 0, 0]
    for i in ids:
        found = re.search(rf"f_{i}\(x\) = (-?\d+) \+ (\d+) x:  (.*)", text)
        secret, slope = int(found[1]), int(found[2])
        assert secret % 2**32 == rows[f"x_{i}"][0]
        key = independent.derive(chain_in(text), 0, i, 1, "SHAM")
        assert slope == int(independent.words(key, D)[0]) & p
        values = [(secret + slope * x) % p for x in (1, 2, 3)]
        assert found[3] == ", ".join(f"f({x}) = {v}" for x, v in enumerate(values, start=1))
        held = [h + v for h, v in zip(held, values, strict=True)]
    assert [rows[f"a_{i}"][0] for i in ids] == [h % p for h in held]
    first, second = (rows[f"a_{i}"] for i in ids[:2])
    zero = [(2 * a - b) % p for a, b in zip(first, second, strict=True)]
    signed = [z - p if z > p // 2 else z for z in zero]
    assert rows["f(0) from points 1, 2"] == signed
    assert rows["A"] == [z % 2**32 for z in signed]
    check_update(text, rows, f, 2**32)


def test_colluders_of_a_sparse_graph_are_fixed_before_the_draw():
    """With the odds; nothing is compiled."""

    def seen(**fields):
        config = sd.Config(participants=400, group_size=200, max_corrupt=0.1, **fields)
        plan = make_plan(config, load_model("linear", (3,), 2), (3,), np.ones(400), make_mesh(1))
        shown = SimpleNamespace(config=config, own=plan)
        lines = _who_sees(shown)
        assert max(map(len, lines)) <= 100
        return plan.guarantees, " ".join(lines)

    found, text = seen(neighbours=20)
    assert found.odds(40) in text
    assert "may collude with it,   if they are fixed before the graphs are drawn" in text
    _, text = seen()
    assert "fixed" not in text
    assert "up to 178 of 200 members may collude with it." in text


def test_plain_has_no_shares(tiny_file):
    text = explain(config_of(tiny_file, protocol="plain", clip=0.01))
    check_screen(text)
    rows, ids = read(text)
    assert not [label for label in rows if label.startswith(("s_", "a_", "x_"))]
    updates = np.array([rows[f"u_{i}"] for i in ids], np.float32)
    mean = np.clip(updates, -0.01, 0.01).mean(axis=0)
    np.testing.assert_allclose(rows["mean"], mean, rtol=1e-6)
    after = np.array(rows["params before"], np.float32) + np.array(rows["mean"], np.float32)
    np.testing.assert_array_equal(np.array(rows["params after"], np.float32), after)
    assert "sees every clipped update" in text


def test_the_numbers_are_those_of_the_run(tiny_file):
    """A group of three is explained by the very round that `run` runs."""
    config = config_of(tiny_file, group_size=3, fraction_bits=20)
    rows, ids = read(explain(config))
    shown = sd.transcript(config, 0)
    assert ids == shown["group"].tolist()
    for slot, i in enumerate(ids):
        for label, key in ((f"x_{i}", "encoded"), (f"a_{i}", "uploads")):
            assert rows[label] == shown[key][slot][[0, 1, 2, D - 1]].tolist()
    np.testing.assert_array_equal(
        np.array(rows["params after"], np.float32), shown["params_after"][:3]
    )


def broken(rate):
    """A local optimizer that ruins every update."""
    return optax.scale(float("nan") * rate)


def test_updates_that_are_not_finite_make_a_void_round(tiny_file):
    text = explain(config_of(tiny_file, local_optimizer="test_explain:broken"))
    check_screen(text)
    assert "void: 3 of 3" in text


def test_command_prints_and_writes_nothing(tiny_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--explain", "--data", str(tiny_file), "--model", "linear"]
    arguments += ["--participants", "8", "--group-size", "5", "--engine", "ideal"]
    assert main([*arguments, "--json"]) == 0
    told = capsys.readouterr()
    text = json.loads(told.out)["explain"]
    check_screen(text)
    assert "ideal" in text
    assert not list(tmp_path.iterdir())
    assert main([*arguments, "--clip", "1e9", "--fraction-bits", "20"]) == 2
    assert "fraction_bits" in capsys.readouterr().err
