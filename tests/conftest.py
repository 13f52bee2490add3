"""Before JAX starts: eight host devices, and no silent promotion of types or ranks.

`uint32` meets everything else in this package, so both promotions are errors while tests run.

Words do not depend on how hard a compiler tries, so programs are compiled without optimisation and,
where jaxlib has it, by XLA's older code generator: each halves that time. A test marked `optimised`
has them as users do: where the bits of training or the form of the program are the point, or where
much is computed.
"""

import functools
import os
import signal
from pathlib import Path

_DEVICES = "--xla_force_host_platform_device_count"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}=8".strip()

_QUICK = "jax_disable_most_optimizations"
os.environ.setdefault(_QUICK.upper(), "1")  # for the commands that tests start

# A script that starts the tests with `&` has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
from jax._src import compiler  # noqa: E402

from harness import built, tiny_data, tiny_npz  # noqa: E402
from ssddl_jax.running.host_devices import usable_cores  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Examples come from the test's own text: the same on every run, and nothing is stored.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("fixed")

_EMITTERS = "xla_cpu_use_fusion_emitters"
_options_of = compiler.get_compile_options


@functools.cache
def _has_both_emitters():
    """Whether XLA still has its older code generator: jaxlib 0.10 has it, 0.11 does not."""
    try:
        jax.jit(lambda x: -x, compiler_options={_EMITTERS: False})(1.0)
    except (jax.errors.JaxRuntimeError, ValueError):
        return False
    return True


def _options(*args, env_options_overrides=None, **more):
    """JAX's compile options; quick programs on a CPU get the older code generator. JAX has no
    setting for this, so its function is replaced.
    """
    given = dict(env_options_overrides or {})
    quick = os.environ[_QUICK.upper()] == "1" and _EMITTERS not in given
    if quick and more["backend"].platform == "cpu" and _has_both_emitters():
        given[_EMITTERS] = False
    return _options_of(*args, env_options_overrides=given, **more)


compiler.get_compile_options = _options


def _optimise(node):
    """Optimised programs or quick ones, here and in the commands that tests start."""
    optimised = node.get_closest_marker("optimised") is not None
    jax.config.update(_QUICK, not optimised)
    os.environ[_QUICK.upper()] = str(int(not optimised))


@pytest.fixture(autouse=True, scope="module")
def _optimised_module(request):
    """As a module is marked: what its tests share is made before the first of them, and must not
    depend on the module that was tested before.
    """
    _optimise(request.node)


@pytest.fixture(autouse=True)
def _optimised(request, _optimised_module):
    """As a test is marked."""
    _optimise(request.node)
    yield
    _optimise(request.node.parent)


@pytest.fixture(autouse=True, scope="module")
def _forgotten():
    """What a module compiled is dropped after it."""
    yield
    jax.clear_caches()
    built.cache_clear()


@pytest.fixture(autouse=True, scope="session")
def programs(tmp_path_factory):
    """Compiled programs, in the folder that JAX's own variable names, as `.ci/run` does for all its
    parts, or for this process alone and as long as the session lasts.

    Gives the settings; in a command's environment they let it take and keep programs, too. One
    command at a time: a program is not written at one stroke.
    """
    shared = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    settings = {
        "jax_compilation_cache_dir": shared or str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
    return {name.upper(): str(value) for name, value in settings.items()}


_WORKER = 3e9  # bytes: what compiling leaves in a worker of `-n auto` stays below


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Workers of `-n auto`: one a core, as far as there is memory for them."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # xdist's own answer
    return max(1, min(usable_cores(), int(available_bytes() // _WORKER)))


def available_bytes():
    """Memory that is free or can be freed, of the machine or of the container this runs in."""
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf(pages)
    told = Path("/proc/meminfo")
    for line in told.read_text().splitlines() if told.exists() else ():
        if line.startswith("MemAvailable:"):
            free = 1024 * int(line.split()[1])
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of control groups, new and old
        limit = Path("/sys/fs/cgroup") / name
        if limit.exists() and limit.read_text().strip().isdigit():
            free = min(free, int(limit.read_text()))
    return free


@pytest.fixture(scope="session")
def make_tiny_data():
    """`make_tiny_data(N)`: N participants with unequal counts, images [3, 4] u8, 4 classes."""
    return tiny_data


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """The same images as an .npz that the command line can read."""
    return tiny_npz(tmp_path_factory.mktemp("data") / "tiny.npz")
