"""Groups too large to hold all keys or messages, in small: the band in stretches, messages computed
once more, and sampled uploads. Every word equals the oracle's.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import Layer, played
from ssddl_jax.config.rules import RULES
from ssddl_jax.core.arithmetic.chacha import rolled
from ssddl_jax.core.sharing.base import Again
from ssddl_jax.core.sharing.schedules import masks, tiled
from ssddl_jax.core.sharing.schedules.choice import schedule_of
from ssddl_jax.simulation.schemes import sharing_of

SIZE = 28  # a whole number of stretches, so that what is left in the window counts
SAMPLED = (23, 0, 7, 12)
PATTERNS = [((), ()), ((0,), ()), ((3, 23), (7,)), (range(4, 21), ()), ((), range(0, 28, 2))]


def stream(rule="retry", **fields):
    return Layer("pairwise", rule, graph=6, n=SIZE, **fields)


STREAMS = (
    stream(),
    stream("reveal", shares="paired", devices=2),
    stream(bits=64, devices=2),
    stream(shares="paired", bits=64),
    stream(shares="paired", schedule="gpu", devices=2),
    stream(bits=64, schedule="gpu"),
)


@functools.cache
def program_of(layer):
    """(attempt, messages) -> Uploads, with messages looked up instead of trained once more."""
    scheme = layer.scheme._replace(sampled=SAMPLED)
    scheme = scheme._replace(prg=rolled(scheme.prg)) if layer.schedule == "cpu" else scheme
    share = sharing_of("pairwise", RULES[layer.rule])(scheme)
    assert not share.keeps

    def call(attempt, messages):
        again = Again(lambda rows, slots: rows[slots], messages.each)
        return share.share(attempt, messages._replace(each=None, again=again))

    return jax.jit(call)


@pytest.mark.parametrize("layer", STREAMS, ids=lambda one: f"{one.name}-{one.schedule}")
def test_streamed_sums_and_samples_are_the_oracle_s(monkeypatch, layer):
    """Also across the ends of stretches, round the end of the ring, and with members left out."""
    monkeypatch.setattr(masks, "ROWS", 0)
    monkeypatch.setattr(tiled, "HELD", 0)
    if layer.schedule == "cpu":
        stream = tiled.stream_of(layer.scheme)
        assert stream.stretches > 1
        if layer.bits == 32:
            assert stream.stretches * stream.geometry.steps * stream.geometry.side == SIZE
        assert schedule_of(layer.scheme).blocks_made(layer.scheme) > 0
    call = program_of(layer)
    voids = 0
    for gone, broken in PATTERNS:
        one = played(layer, gone, broken)
        made = call(*jax.tree.map(jnp.asarray, one[:2]))
        voids += one.want.void
        assert bool(made.enough) == (not one.want.void)
        if one.want.void:
            continue
        assert made.each is None
        np.testing.assert_array_equal(made.aggregate, one.messages.total)
        np.testing.assert_array_equal(made.digest, np.array(one.want.digest, np.uint32))
        uploads = np.array(one.want.uploads, np.uint32)[list(SAMPLED)]
        np.testing.assert_array_equal(made.sampled, uploads)
    assert voids < len(PATTERNS) - 2
