"""The views of both worlds of the game, and the classifier's figures; `test_worlds` plays it."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import planted_faults as planted
import ssddl_jax as sd
from planted_faults import FAULTS, THRESHOLD
from ssddl_jax.config.rules import RULES
from ssddl_jax.core.arithmetic.field import from_signed
from ssddl_jax.core.sharing.ideal import ideal
from ssddl_jax.core.sharing.pairwise import pairwise
from ssddl_jax.core.sharing.secagg import secagg
from ssddl_jax.core.sharing.shamir import shamir
from ssddl_jax.privacy.distinguisher import auc, chains, distinguish, features, uploads
from ssddl_jax.simulation.schemes import sharing_of, suited

SOURCE = Path(sd.__file__).parent


def scheme_of():
    """As a round of so few words has it: the same words, by a PRG that compiles soon."""
    return suited("pairwise", RULES["retry"], planted.scheme_of(5))


@pytest.mark.parametrize(
    "builder",
    [pairwise, ideal, pytest.param(shamir, marks=pytest.mark.slow)],
    ids=["directed", "ideal", "shamir"],
)
def test_views_hold_the_sum(builder):
    """Every view adds up to the messages' sum, and no two views are alike."""
    scheme = scheme_of()
    messages, _ = planted.worlds(scheme)
    rows = uploads(builder, scheme, messages, chains(3, 4))
    assert rows.shape == (4, 5, 16)
    assert rows.dtype == jnp.uint32
    assert len(np.unique(np.asarray(rows))) > 310
    for view in rows:
        if builder is shamir:
            points = jnp.arange(1, 6, dtype=jnp.uint32)
            total = sd.shamir_reconstruct(view, points, THRESHOLD)
            assert np.array_equal(total, from_signed(sd.aggregate(messages)))
        else:
            assert np.array_equal(sd.aggregate(view), sd.aggregate(messages))


def test_views_are_the_packages_uploads():
    """The real sharing layer, under the same chain, sends the same words."""
    scheme = scheme_of()
    messages, _ = planted.worlds(scheme)
    under = chains(3, 4)
    rows = uploads(pairwise, scheme, messages, under)
    assert np.array_equal(rows[2], jax.jit(sd.mask)(messages, under[2]))


def test_one_dealers_shares_are_shamirs():
    """With one dealer, upload j is its share for holder j: any t give its message."""
    scheme = scheme_of()
    messages, _ = planted.worlds(scheme)
    dealer = jnp.array([True, False, False, False, False])
    held = uploads(shamir, scheme, messages, chains(3, 4), dealer)[0]
    points = jnp.arange(1, 6, dtype=jnp.uint32)
    for start in range(3):
        some = slice(start, start + THRESHOLD)
        found = sd.shamir_reconstruct(held[some], points[some], THRESHOLD)
        assert np.array_equal(found, from_signed(messages[0]))


def test_chains_are_distinct_and_repeat():
    made = np.asarray(chains(2**40 + 1, 1000))
    assert made.shape == (1000, 8)
    assert len(np.unique(made, axis=0)) == 1000
    assert np.array_equal(made[:10], chains(2**40 + 1, 10))
    assert not np.any(made[:10] == np.asarray(chains(1, 10)))


def drawn(seed, views=4000):
    rng = np.random.default_rng([8, seed])
    return rng.integers(0, 2**32, (views, 3, 4), dtype=np.uint32)


def test_a_known_area_is_nearly_reached():
    """One word of twelve is the larger of two in world 1: the best score's AUC is 2/3."""
    zero, one = drawn(0), drawn(1)
    one[:, 1, 2] = np.maximum(one[:, 1, 2], drawn(2)[:, 1, 2])
    found = distinguish(zero, one)
    assert found.held_out == 4000
    assert 0.62 < found.auc < 2 / 3 + 4 * found.error


@pytest.mark.slow
def test_distinguishing_repeats():
    zero, one = drawn(3, 500), drawn(4, 500)
    assert distinguish(zero, one, 5) == distinguish(zero, one, 5)
    assert distinguish(zero, one, 5) != distinguish(zero, one, 6)


def test_features_see_rounds_and_members():
    """Differences are taken in the ring: a constant one is one number, whatever the pad."""
    views = drawn(5, 6)
    rounds = jnp.asarray(np.stack([views, views + np.uint32(12)], axis=1))
    made = np.asarray(features(rounds))
    words, pairs = 2 * 3 * 4, 2 * 3 * 4  # of three members there are three pairs
    assert made.shape == (6, 7 * words + pairs + 3 * 4)
    assert made.dtype == np.float32
    assert np.all(made[:, -12:] == np.float32(12 * 2.0**-31))
    assert np.all(np.abs(made[:, :words]) <= 1)


@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_auc_against_sklearn(levels):
    """With many ties, with some, with hardly any."""
    rng = np.random.default_rng(levels)
    labels = rng.random(600) < 0.3
    scores = rng.integers(0, levels, 600) + labels * levels / 5
    area, error = auc(np.floor(scores), labels)
    assert area == pytest.approx(roc_auc_score(labels, np.floor(scores)), abs=1e-12)
    assert 0 < error < 0.05


def test_auc_by_hand():
    assert auc([1, 2, 3, 4], [0, 0, 1, 1]) == (1.0, 0.0)
    assert auc([1, 2, 3, 4], [1, 1, 0, 0]) == (0.0, 0.0)
    assert auc([1, 1], [0, 1])[0] == 0.5
    assert auc([1, 3, 2], [0, 0, 1])[0] == 0.5


def test_standard_error_is_the_spread_of_areas():
    """At no effect it is sqrt((m + 1) / (12 m0 m1)), and what repeats show."""
    rng = np.random.default_rng(11)
    labels = np.arange(400) % 2 == 0
    found = np.array([auc(rng.random(400), labels) for _ in range(500)])
    assert found[:, 1].mean() == pytest.approx(np.sqrt(401 / (12 * 200 * 200)), rel=0.02)
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.15)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [([1, 2], [0, 1, 1], "as long as"), ([1, 2], [1, 1], "both kinds"), ([[1]], [[1]], "as long")],
)
def test_errors_of_auc(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        auc(scores, labels)


def test_errors_of_distinguish():
    with pytest.raises(ValueError, match=r"of one shape, not \(4, 3, 4\) and \(5, 3, 4\)"):
        distinguish(drawn(0, 4), drawn(0, 5))


def test_no_fault_can_be_reached():
    """Faults live in tests: the package's table holds its own builders, and no module of it
    imports anything of the tests or has a planted name.
    """
    healthy = {sharing_of("pairwise", rule) for rule in RULES.values()}
    assert healthy | {sharing_of("ideal", RULES["retry"])} == {pairwise, ideal, shamir, secagg}
    names = {name for name in vars(planted) if name.startswith(("byte_", "edge_", "float_"))}
    names |= {name.replace("-", "_") for name in FAULTS} | {"from_seed", "found_by_seeds"}
    assert {"float_shares", "edge_without_mask", "byte_ring_without_top", "small_seeds"} <= names
    here = {path.stem for path in Path(__file__).parent.glob("*.py")} - {"conftest"}
    for path in SOURCE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        imported = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        imported |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
        assert not {part for name in imported for part in name.split(".")} & here, path
        assert not {getattr(node, "name", None) for node in nodes} & names, path
