"""Compiled programs of earlier runs: a second run of a recipe neither traces nor compiles.

They are in the user's cache folder, one file for each program, named by a hash of everything that
the program follows from. The hash needs no tracing, so it holds for the package's own parts only.

A file is its SHA-256 and a pickle. To load it is to run code, so folder and file must belong to the
user, and nobody else may write to them; the seal only detects damage.
"""

import hashlib
import os
import pickle
import platform
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from ssddl_jax.common.atomic import beside, write_through
from ssddl_jax.common.errors import one_line
from ssddl_jax.common.text import printable
from ssddl_jax.config.config import INPUTS, Config
from ssddl_jax.core.learning.population import Data
from ssddl_jax.running.environment import conditions, versions
from ssddl_jax.running.host_devices import pool
from ssddl_jax.running.interrupts import is_interrupt
from ssddl_jax.simulation.build import Simulation
from ssddl_jax.simulation.compiling import Keep, anew, durations
from ssddl_jax.simulation.digests import arrays_sha256

VARIABLE = "SSDDL_PROGRAM_CACHE"
MOST_BYTES = 256 << 20  # of all programs; the least recently used are removed
_SOURCE = Path(__file__).parents[1]
_IMPORTED = time.time()
_SETTINGS = ("JAX_", "XLA_", "LIBTPU_", "TPU_", "TF_", "CUDA_", "NVIDIA_", "ROCM_", "HIP_", "NPROC")
_NO_PROGRAM_DEPENDS_ON = (
    *INPUTS,  # shapes, counts and the dropouts themselves are in the key
    "threads",  # the pool itself is
    *("seed", "rounds", "eval_every", "checkpoint_every", "sinks", "out"),
)


def kept_programs(config: Config, simulation: Simulation, data: Data) -> Keep:
    """Gives the programs of a run, all of whose parts are the package's own, and keeps new ones.

    `data`: on the host. Where the folder cannot be used, it says so and keeps nothing.
    """
    folder, source = _folder(), _source_sha256()
    if folder is None or source is None:
        return anew
    recipe = simulation.recipe
    known = {
        "config": {n: v for n, v in vars(config).items() if n not in _NO_PROGRAM_DEPENDS_ON},
        "recipe": recipe._replace(
            model=simulation.model.name,  # type: ignore[arg-type]
            train=None,  # type: ignore[arg-type]
            server=None,  # type: ignore[arg-type]
            dropouts=None if recipe.dropouts is None else arrays_sha256(recipe.dropouts),
        ),
        "data": (data.shape, data.classes, arrays_sha256(data.counts)),
        "source": source,
        **_surroundings(),
    }
    return partial(_program, folder, re.sub(r" at 0x[0-9a-f]+", "", repr(known)))


def _surroundings() -> dict[str, Any]:
    """What programs depend on outside of the package."""
    variables = {name: os.environ[name] for name in os.environ if name.startswith(_SETTINGS)}
    devices = jax.devices()
    return {
        "versions": versions(),
        "conditions": conditions(),
        "settings": sorted(jax.config.values.items()),
        "variables": sorted(variables.items()),
        "threads": pool(),
        "devices": [(device.id, device.platform, device.device_kind) for device in devices],
        "platform": devices[0].client.platform_version,
        "processor": _processor(),
    }


def _processor() -> str:
    """The processor's model and features; a machine that does not tell them goes by its name."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        names = "vendor_id|cpu family|model|model name|stepping|flags|CPU .*|Features"
        found = re.findall(rf"^(?:{names})\s*:.*$", text, re.MULTILINE)
        if found:
            return f"{platform.machine()} {sorted(set(found))}"
    return f"{platform.uname()}"


def _source_sha256() -> str | None:
    """SHA-256 of the package's source; None if it is missing or has changed since it was
    imported.
    """
    digest, files = hashlib.sha256(), sorted(_SOURCE.rglob("*.py"))
    for path in files:
        about = path.stat()
        if max(about.st_mtime, about.st_ctime) > _IMPORTED:
            return None
        digest.update(f"{path.relative_to(_SOURCE)} {about.st_size} ".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest() if files else None


def _folder() -> Path | None:
    """The folder of programs, made if it is missing; None if there is to be none."""
    given = os.environ.get(VARIABLE, "")
    if given.lower() in ("off", "0", "no", "false"):
        return None
    home = os.environ.get("XDG_CACHE_HOME", "")
    home = home if os.path.isabs(home) else os.path.expanduser("~/.cache")
    folder = Path(os.path.expanduser(given) if given else os.path.join(home, "ssddl_jax"))
    try:
        if str(folder).startswith("~"):
            raise OSError("there is no such home folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except (OSError, ValueError) as error:
        _say(f"{folder}: {one_line(error, 200)}; set {VARIABLE} to another folder, or to off")
        return None
    if not _is_ours(about):
        whose = "others own it or may write to it, so its programs are not loaded"
        _say(f"{folder}: {whose}; chmod go-w, or set {VARIABLE} to your own folder, or to off")
        return None
    return folder


def _say(text: str) -> None:
    """One line on stderr."""
    print(printable(f"note: program cache: {text}"), file=sys.stderr, flush=True)


def _program(
    folder: Path,
    known: str,
    name: str,
    arguments: tuple[Any, ...],
    make: Callable[[], jax.stages.Compiled],
) -> jax.stages.Compiled:
    """The program kept for these arguments; else it is compiled and kept."""
    leaves, tree = jax.tree.flatten((arguments, {}))
    shapes = [(x.shape, x.dtype, x.weak_type, x.sharding, _devices(x)) for x in leaves]
    key = hashlib.sha256(repr((known, name, str(tree), shapes)).encode()).hexdigest()
    path = folder / f"{key}.program"
    found = _load(path, tree, _devices(leaves[0]))
    if found is not None:
        return found
    with durations("/jax/compilation_cache/cache_retrieval_time_sec") as hits:
        made = make()
    if hits:  # from JAX's own cache: such a program loses its functions when it is kept again
        return made
    try:
        payload, _, out_tree = serialize(made)
        content = pickle.dumps((payload, out_tree))
        with beside(path, shared=True) as part:
            write_through(part, _seal(path, content) + content)
            part.chmod(0o600)
        _trim(folder)
    except Exception as error:  # a full disk, or a platform that cannot
        if is_interrupt(error):
            raise
        _say(f"{path}: {one_line(error, 200)}; the program is not kept")
    return made


def _load(path: Path, tree: Any, devices: list[jax.Device]) -> jax.stages.Compiled | None:
    """The program in a file. A file that holds none, or that others may have written, goes."""
    try:
        with path.open("rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                raise ValueError("others own it or may write to it")
            content = file.read()
        if content[:32] != _seal(path, content[32:]):
            raise ValueError("is not as it was written")
        payload, out_tree = pickle.loads(content[32:])
        found = deserialize_and_load(payload, tree, out_tree, execution_devices=devices)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever it holds, the run goes on
        if is_interrupt(error):
            raise
        removed = not isinstance(error, (OSError, MemoryError))  # else it may be whole
        _say(f"{'removed ' * removed}{path}: {one_line(error, 200)}; compiling anew")
        if removed:
            with suppress(OSError):
                path.unlink()
        return None
    with suppress(OSError):  # of a folder that can only be read
        os.utime(path)
    return found


def _is_ours(about: os.stat_result) -> bool:
    """Whether it is the user's, and nobody else may write to it."""
    return not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o022)


def _devices(array: jax.Array) -> list[jax.Device]:
    """In the order of their mesh, which need not be that of their numbers."""
    sharding = array.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        return list(sharding.mesh.devices.flat)
    return sorted(sharding.device_set, key=lambda device: device.id)


def _seal(path: Path, content: bytes) -> bytes:
    """32 bytes; an entry under another's name is broken, too."""
    return hashlib.sha256(path.name.encode() + content).digest()


def _trim(folder: Path) -> None:
    """Removes the least recently used programs beyond `MOST_BYTES`, and what writers left."""
    found = [*folder.glob("*.program"), *folder.glob(".part-*.program")]
    about = []
    for path in found:
        with suppress(OSError):
            about.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in about)
    for _, size, path in sorted(about):
        if total <= MOST_BYTES:
            break
        with suppress(OSError):
            path.unlink()
        total -= size
