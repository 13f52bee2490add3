"""Sums at the edge of their arithmetic, where halves of words no longer sum below 2^32. A wrong sum
is never applied.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import layers
import ssddl_jax as sd
from layers import Layer
from ssddl_jax.core.arithmetic.chacha import PRG
from ssddl_jax.core.arithmetic.field import P
from ssddl_jax.core.arithmetic.rings import RINGS
from ssddl_jax.core.sharing.pairwise import pairwise
from ssddl_jax.core.sharing.schedules import kernels
from ssddl_jax.core.sharing.schedules.kernels import coefficient_sums
from ssddl_jax.core.sharing.schedules.masks import pieces_of, settle

EDGES = [2**16 - 1, 2**16, 2**16 + 1, 2**17 + 1]


def words_of(values, bits):
    """Python integers as message words."""
    parts = [(int(v) >> shift) & 0xFFFFFFFF for shift in range(0, bits, 32) for v in values]
    return np.array(parts, np.uint32)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("rows", EDGES)
def test_of_so_many_largest_rows(rows, bits):
    """And of one that is not the largest, at the end."""
    made = np.full((rows, bits // 16), 2**32 - 1, np.uint32)
    made[-1] = 5
    total = np.asarray(jax.jit(RINGS[bits].sum)(made))
    last = sum(5 << shift for shift in range(0, bits, 32))
    expected = ((rows - 1) * (2**bits - 1) + last) % 2**bits
    np.testing.assert_array_equal(total, words_of([expected] * 2, bits))


@pytest.mark.parametrize("dealers", EDGES)
def test_coefficients_of_so_many_dealers(dealers):
    """Every word the largest that is not rejected; one dealer is no member."""

    def block(key, counter, nonce):
        shape = jnp.broadcast_shapes(key[0].shape, counter.shape, nonce[0].shape)
        return [jnp.full(shape, P - 1, jnp.uint32)] * 16

    members = np.arange(dealers) != 3
    sums = jax.jit(
        lambda keys, members: coefficient_sums(
            PRG("largest", 8, block), keys, members, jnp.uint32(0), 2
        )
    )
    made = np.asarray(sums(np.zeros((dealers, 8), np.uint32), members))
    assert set(made.reshape(-1).tolist()) == {(dealers - 1) * (P - 1) % P}


def test_groups_of_dealers_add_up(monkeypatch):
    """Really drawn words, dealers in groups of sixteen: the same elements."""
    keys = np.random.default_rng(1).integers(0, 2**32, (40, 8), dtype=np.uint32)
    members = np.arange(40) % 7 != 2

    def sums():
        return np.asarray(coefficient_sums(layers.PRGS["chacha8"], keys, members, jnp.uint32(2), 3))

    whole = sums()
    monkeypatch.setattr(kernels, "MOST", 16)
    np.testing.assert_array_equal(sums(), whole)


@pytest.mark.parametrize(("pieces", "partners"), [(2, 2**15 - 1), (4, 2**15), (4, 2**20)])
@pytest.mark.parametrize("sign", [1, -1])
def test_masks_of_so_many_largest_shares(pieces, partners, sign):
    """Signed sums of the shares' pieces give every carry."""
    limb, bits = 2**32 - 1, 32 // pieces
    each = [limb, *(limb >> bits * i & 2**bits - 1 for i in range(1, pieces))]
    sums = [[sign * partners * piece % 2**32] * 6 for piece in each]
    found = np.asarray(settle(jnp.asarray([sums], jnp.uint32)))
    expected = sign * partners * (2**64 - 1) % 2**64
    np.testing.assert_array_equal(found[0], words_of([expected] * 3, 64))


@pytest.mark.parametrize(("graph", "shares"), [("complete", "paired"), (4, "directed")])
@pytest.mark.parametrize("form", ["written", "rolled"])
def test_bytes_of_shares_equal_the_oracle(monkeypatch, graph, shares, form):
    """As where partners are too many for halves."""
    monkeypatch.setattr(sys.modules[pieces_of.__module__], "_FEW", 1)
    layer = Layer("pairwise", "reveal", graph=graph, shares=shares, bits=64, n=9)
    assert pieces_of(layer.scheme) == 4
    layers.check(layer, form, layers.played(layer, gone=[2]))


# A wrong sum


def faulty(scheme):
    """Pairwise sharing whose aggregate is off by one in the first word of round 2."""
    healthy = pairwise(scheme)

    def share(attempt, messages):
        sent = healthy.share(attempt, messages)
        off = (attempt.round == jnp.uint32(2)).astype(jnp.uint32)
        return sent._replace(aggregate=sent.aggregate.at[0].add(off))

    return healthy._replace(share=share)


def test_a_wrong_sum_ends_the_run_and_is_not_applied(make_tiny_data, tmp_path):
    """What was good is kept: with sharing that is mended, the run ends as one that never failed,
    and says what is no longer as it was.
    """
    data, out = make_tiny_data(8), tmp_path / "run"
    fields = {"participants": 8, "group_size": 5, "model": "linear", "rounds": 4, "devices": 1}
    whole = sd.run(sd.Config(out=str(tmp_path / "whole"), **fields), data=data)
    config = sd.Config(out=str(out), **fields)
    with pytest.raises(sd.RunError, match="round 2: the aggregate is not the sum"):
        sd.run(config, data=data, sharing=faulty)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert not (out / "summary.json").exists()
    path, said = out / "config.toml", []
    path.write_text(path.read_text().replace('xla_flags = "', 'xla_flags = "--other '))
    mended = sd.resume(
        out,
        data=data,
        sharing=pairwise,
        watch=sd.Watch(warn=said.append),
    )
    assert [line.split(":")[1].strip() for line in said] == ["xla_flags", "source of sharing"]
    assert mended.summary["resumed_from"] == [2]
    assert mended.summary["run_sha256"] == whole.summary["run_sha256"]


@pytest.mark.slow
def test_of_many_seeds_the_one_with_a_wrong_sum_is_named(monkeypatch, tiny_file):
    fields = {"participants": 8, "group_size": 5, "model": "linear", "rounds": 4, "devices": 1}
    config = sd.Config(data=str(tiny_file), **fields)
    assert sd.run_seeds(config, [3, 5]).exact.all()
    monkeypatch.setattr("ssddl_jax.simulation.build.sharing_of", lambda engine, rule: faulty)
    with pytest.raises(sd.RunError, match="seed 3, round 2: the aggregate is not the sum"):
        sd.run_seeds(config, [3, 5])
