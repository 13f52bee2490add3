"""docs/protocol.md: the oracle gives the numbers of its example, the plan those of its costs, and
every tag appears. Inputs are read from the page, so neither side can change alone.
"""

import math
import re
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.core.arithmetic.headroom import headroom
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.learning.models import Model
from ssddl_jax.planning.graph_search import smallest_graph
from ssddl_jax.planning.plan import make_plan, share_words, traffic

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
EXAMPLE = PAGE.split("## 10. ")[1]
LINES = {
    line[:19].strip(): line[19:].split()
    for block in re.findall(r"```\n(.*?)```", EXAMPLE, re.DOTALL)
    for line in block.splitlines()
}
GROUP = [int(i) for i in LINES["group"]]
UPDATES = [[float(u) for u in LINES[f"update {i}"]] for i in GROUP]
SEED, ROUND = int(LINES["seed"][0]), int(LINES["round"][0])
SETTINGS = reference.Settings(
    seed=SEED,
    clip=float(LINES["clip"][0]),
    fraction_bits=int(LINES["fraction_bits"][0]),
    threshold=int(LINES["threshold"][0]),
)
CHAIN, PUBLIC = reference.initial_chain(SEED), reference.public_key(SEED)
INPUTS = {"seed", "round", "group", "clip", "fraction_bits", "threshold"}
INPUTS |= {f"update {i}" for i in GROUP}


def written(values):
    """As the page writes them: words in hexadecimal."""
    return [f"{value:08x}" for value in values]


def plain(values):
    return [str(value) for value in values]


def played(**changes):
    """The example's round by the oracle, with other settings."""
    settings = replace(SETTINGS, **changes)
    return reference.share_round(settings, CHAIN, ROUND, GROUP, UPDATES, [1] * len(GROUP), set())


def keys_and_shares():
    lines = {
        "seed key": written(reference.seed_key(SEED)),
        "S_0": written(CHAIN),
        "S_1": written(reference.next_chain(CHAIN)),
        "R": written(PUBLIC),
    }
    for i in GROUP:
        for j in GROUP:
            if i != j:
                key = reference.derive_key(CHAIN, 0, i, j, b"PAIR")
                lines[f"K {i}->{j}"] = written(key)
                lines[f"s {i}->{j}"] = written(reference.stream(key, (0, 0, 0), 3))
    lines["long 2->5"] = written(
        reference.stream(reference.derive_key(CHAIN, 0, 2, 5, b"PAIR"), (0, 0, 0), 20)[:4]
    )
    return lines


def sums():
    round_ = played()
    lines = {f"x {i}": written(row) for i, row in zip(GROUP, round_.encoded, strict=True)}
    for name, changes in {
        "": {},
        " paired": {"shares": "paired"},
        " ideal": {"engine": "ideal"},
        " shamir": {"dropout_rule": "shamir"},
        " secagg": {"dropout_rule": "secagg"},
    }.items():
        way = played(**changes)
        assert way.aggregate == round_.aggregate
        for i, row in zip(GROUP, way.uploads, strict=True):
            lines[f"a {i}{name}"] = written(row)
    lines["A wide"] = written(played(ring_bits=64).aggregate)
    lines["A"] = written(round_.aggregate)
    lines["mean"] = plain(round_.total)
    lines["clipped"] = plain([round_.clipped])
    lines["digest"] = written(round_.digest)
    lines["uploads_sha256"] = [round_.uploads_sha256]
    lines["aggregate_sha256"] = [round_.aggregate_sha256]
    lines["run_sha256"] = [reference.run_digest([round_.aggregate_sha256], round_.total)]
    return lines


def public_words():
    ring = reference.neighbours_of(replace(SETTINGS, neighbours=2), PUBLIC, 0, 0, range(6), 6)
    lines = {"ring, slot 0": plain(ring[0])}
    for round_ in (0, 1, 2):
        for selection in ("random", "rotate"):
            group = reference.select_group(PUBLIC, round_, 10, 3, selection)
            lines[f"{selection}, r = {round_}"] = plain(group)
    lines["vanished"] = plain(sorted(reference.vanished_slots(PUBLIC, 0, 10, "0.25")))
    first, second = reference.batch_order(PUBLIC, 0, 5, 4, 2)
    lines["batches"] = plain(first + second)
    lines["rounding"] = plain(reference.rounding_noise(PUBLIC, 0, 5, 2))
    return lines


def bounds():
    lines = {}
    for members in (127, 128):
        fits = headroom(
            clip=1.0, fraction_bits="auto", group_size=members, weight_max=1, kind="ring"
        )
        lines[f"f, n = {members}"] = plain([fits.fraction_bits])
    for members in (1000, 10000):
        found = smallest_graph(members, "0.1", "0.1")
        lines[f"k t, n = {members}"] = plain([found.neighbours, found.threshold])
    return lines


def test_the_oracle_gives_every_number_of_the_example():
    expected = keys_and_shares() | sums() | public_words() | bounds()
    found = {name: values for name, values in LINES.items() if name not in INPUTS}
    missing = "\n".join(f"{name:19}{' '.join(expected[name])}" for name in expected)
    assert found == expected, f"the page should say:\n{missing}"


def test_the_fast_code_gives_the_same_uploads():
    (snippet,) = re.findall(r"```python\n(.*?)```", EXAMPLE, re.DOTALL)
    made: dict = {}
    exec(snippet, made)
    for name, rows in (("x", made["messages"]), ("a", made["uploads"])):
        for i, row in zip(GROUP, np.asarray(rows), strict=True):
            assert written(row) == LINES[f"{name} {i}"]
    assert [float(value) for value in made["mean"]] == [float(v) for v in LINES["mean"]]


def test_every_tag_of_a_nonce_stands_in_section_4():
    """A purpose that the page does not name could collide with one that it does."""
    section = PAGE.split("## 4. ")[1].split("## 5. ")[0]
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    tags = set(re.findall(r'b?"([A-Z]{4})"', source)) - {"TEXT", "NAME", "FILE", "CUDA"}
    assert len(tags) > 15
    assert not {tag for tag in tags if f'"{tag}"' not in section}


# Costs

SIZES = {"n": 9, "k": 8, "d": 52, "t": 5}
CONFIGS = {
    "plain": {"protocol": "plain"},
    "ssddl": {},
    "ssddl, paired": {"shares": "paired"},
    "ssddl, explicit": {"transport": "explicit"},
    "ssddl, explicit, paired": {"transport": "explicit", "shares": "paired"},
    "ssddl, shamir": {"dropout_rule": "shamir", "threshold": SIZES["t"]},
    "ssddl, ideal": {"engine": "ideal"},
    "secagg, secagg+": {"protocol": "secagg", "threshold": SIZES["t"]},
    "dssgd": {"protocol": "dssgd"},
    "phong-lwe": {"protocol": "phong-lwe"},
    "phong-paillier": {"protocol": "phong-paillier"},
    "snt": {"protocol": "snt"},
}
COSTS = {
    name: formulas
    for name, *formulas in re.findall(
        r"^\| ([^|`]+) \| `([^`]*)` \| `([^`]*)` \| `([^`]*)` \|$", PAGE, re.MULTILINE
    )
}


def value_of(formula, **sizes):
    """Of the page's formulas: a blank between two factors is a product."""
    python = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", formula)
    return eval(python, {"ceil": math.ceil, "log2": math.log2} | sizes)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", CONFIGS)
def test_costs_are_the_plans(name, bits):
    fields = {"participants": 20, "group_size": SIZES["n"], "ring_bits": bits, **CONFIGS[name]}
    if bits == 64 and CONFIGS[name].get("dropout_rule") == "shamir":
        return  # refused
    config, d = sd.Config(**fields), SIZES["d"]
    model = Model(lambda _, __: jnp.zeros(d), lambda _, x: jnp.zeros((len(x), 2)), "zeros")
    plan = make_plan(config, model, (1,), np.ones(20, np.int32), make_mesh(1))
    moved = traffic(config, plan, members=plan.size, alive=plan.size, attempt=0)
    opened = 0
    if config.rule_in_force.opens == "secrets":  # every member's k + 1 shares are opened
        opened = plan.size * (plan.neighbours + 1)
        moved = traffic(config, plan, members=plan.size, alive=plan.size, attempt=0, opened=opened)
    sizes = {**SIZES, "W": plan.width, "D": d + 1}
    sizes["b"] = math.ceil(math.log2(2 * plan.headroom.largest_sum + 1))
    sizes |= {"U": max(1, math.floor(0.1 * d)), "V": d}  # the defaults
    up, down, words = (value_of(formula, **sizes) for formula in COSTS[name])
    assert (up * plan.size, down * plan.size) == (moved.up, moved.down)
    assert words == share_words(config, plan)
