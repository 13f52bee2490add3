"""At the edge of the headroom, every member sends +c, then -c, and the sum of the round is exact.
One more member, or one more unit of weight, is rejected before anything compiles.

2^31 - 1 is prime, so the ring's edge is the multiple below it: 2^31 - 2. The other two are reached:
2^30 - 1 = 7 * 3069 * 49981, and 2^63 - 1 = 511 * 1532540863 * 11777599.
"""

from typing import NamedTuple

import jax
import numpy as np
import pytest

import harness
import independent
import ssddl_jax as sd
from ssddl_jax.simulation.build import build_simulation, place


class Edge(NamedTuple):
    """n members of weight m, each coordinate q: n m q is the most that fits."""

    n: int
    m: int
    q: int
    most: int
    bits: int
    config: dict


EDGES = {
    "ring": Edge(7, 3069, 2 * 49981, 2**31 - 2, 32, {}),
    "wide ring": Edge(511, 1532540863, 11777599, 2**63 - 1, 64, {"ring_bits": 64, "neighbours": 2}),
    "field": Edge(7, 3069, 49981, 2**30 - 1, 32, {"dropout_rule": "shamir", "threshold": 3}),
    "ideal": Edge(7, 3069, 2 * 49981, 2**31 - 2, 32, {"engine": "ideal"}),
}
DIMENSION = 20


def simulation_of(edge, n, m, sign):
    """n members of weight m who all send sign * 2 c, which the clip takes to sign * c."""
    clip = edge.q * 2.0**-16
    config = sd.Config(
        participants=n,
        group_size="all",
        weighting="examples",
        clip=clip,
        fraction_bits=16,
        devices=1,
        **edge.config,
    )
    data = sd.Data(
        images=np.full((1, DIMENSION), sign * 2 * clip, np.float32),
        labels=np.zeros(1, np.int32),
        rows=np.zeros((n, 1), np.int32),
        counts=np.full(n, m, np.int32),
        test_images=np.zeros((1, DIMENSION), np.float32),
        test_labels=np.zeros(1, np.int32),
    )
    model = harness.table_model(DIMENSION)
    return build_simulation(config, model, data, train=harness.table_train), data


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "field" else pytest.mark.slow) for name in EDGES],
)
def test_sum_at_the_edge_is_exact(name):
    edge = EDGES[name]
    assert edge.n * edge.m * edge.q == edge.most
    step = None
    for sign in (1, -1):
        simulation, data = simulation_of(edge, edge.n, edge.m, sign)
        data = place(data, simulation.recipe)
        state = place(simulation.init(), simulation.recipe)
        step = step or jax.jit(simulation.step)
        after, info = step(state, data)
        expected = [sign * edge.most] * DIMENSION + [edge.n * edge.m]
        words = independent.words_of(expected, edge.bits)
        np.testing.assert_array_equal(np.asarray(info.aggregate), words)
        assert bool(info.exact)
        assert not bool(info.void)
        assert np.asarray(info.clipped).tolist() == [DIMENSION] * edge.n
        mean = sign * edge.q * 2.0**-16
        assert independent.ulps(after.params, 0.25 + mean, mean).max() <= 2


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("more", [(1, 0), (0, 1)], ids=["member", "unit of weight"])
def test_one_more_is_refused_before_anything_compiles(name, more):
    edge = EDGES[name]
    with harness.compilations() as seen, pytest.raises(sd.ConfigError) as caught:
        simulation_of(edge, edge.n + more[0], edge.m + more[1], 1)
    assert not seen
    assert caught.value.field == "fraction_bits"
    kind = "ring" if name == "ideal" else name
    assert kind in str(caught.value)
    assert "fraction_bits 15 fits" in str(caught.value)
