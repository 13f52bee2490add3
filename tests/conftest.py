"""Before JAX starts: eight host devices, and no silent promotion of types or ranks.

`uint32` meets everything else in this package, so both promotions are errors while tests run.
"""

import os
import signal

_DEVICES = "--xla_force_host_platform_device_count"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}=8".strip()

# A script that starts the tests with `&` has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

from harness import tiny_data, tiny_npz  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Examples come from the test's own text: the same on every run, and nothing is stored.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("fixed")


@pytest.fixture(scope="session")
def make_tiny_data():
    """`make_tiny_data(N)`: N participants with unequal counts, images [3, 4] u8, 4 classes."""
    return tiny_data


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """The same images as an .npz that the command line can read."""
    return tiny_npz(tmp_path_factory.mktemp("data") / "tiny.npz")
