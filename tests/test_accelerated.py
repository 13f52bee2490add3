"""The accelerators' schedule on a CPU: the same uploads, sums and void rounds as the oracle's and
the CPU's, and its kernels, interpreted, against another ChaCha20.
"""

import pytest

import layers
from layers import CELLS, played, program


@pytest.fixture(autouse=True, scope="module")
def _dropped():
    """What was compiled for these tests is dropped after them."""
    yield
    program.cache_clear()


@pytest.mark.parametrize("layer", CELLS, ids=lambda layer: layer.name)
def test_layer_equals_the_oracle(layer):
    """Everybody, some vanished, some not finite, and too few left."""
    long = layer._replace(schedule="gpu")
    patterns = [((), ()), ((1,), ()), ((0, 2), (3,)), ((), (2,)), (range(layer.n - 1), ())]
    voids = [layers.check(long, "unrolled", played(long, *one)) for one in patterns]
    assert voids == [False, False, False, False, True]
