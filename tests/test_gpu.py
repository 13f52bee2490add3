"""A GPU gives the same words as a CPU for the same encoded updates. Needs a GPU."""

import jax
import numpy as np
import pytest

from ssddl_jax.core import stacked
from ssddl_jax.core.arithmetic.chacha import PRGS
from ssddl_jax.core.arithmetic.randomness import initial_chain


def gpu():
    """The first GPU, or nothing."""
    try:
        return jax.devices("gpu")[0]
    except RuntimeError:
        return None


@pytest.mark.gpu
@pytest.mark.skipif(gpu() is None, reason="there is no GPU here")
@pytest.mark.parametrize("prg", PRGS)
@pytest.mark.parametrize("ring_bits", [32, 64])
@pytest.mark.parametrize("shares", ["directed", "paired"])
def test_aggregate_and_uploads_are_the_cpus(prg, ring_bits, shares):
    updates = np.random.default_rng(0).normal(0, 0.5, (9, 1000)).astype(np.float32)
    words = {}
    for device in (jax.devices("cpu")[0], gpu()):
        with jax.default_device(device):
            messages = stacked.encode(updates, fraction_bits=20, ring_bits=ring_bits)
            uploads = stacked.mask(
                messages, initial_chain(1), shares=shares, prg=PRGS[prg], ring_bits=ring_bits
            )
            total = stacked.aggregate(uploads, ring_bits=ring_bits)
            words[device.platform] = [np.asarray(part) for part in (messages, uploads, total)]
    for ours, theirs in zip(*words.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
