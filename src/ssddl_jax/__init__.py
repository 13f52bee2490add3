"""SSDDL, simulated in JAX: N participants train one model through secret sharing.

    import ssddl_jax as sd

    result = sd.run(sd.Config(rounds=5))
    result.summary["test_accuracy"]

`build_simulation` gives the round as a pure function; `stacked` the sharing layer on pytrees.

The import itself is cheap: a name, or a submodule, is imported when it is first asked for, and JAX
with the first that needs it.
"""

import sys

# `python -m ssddl_jax` puts the working directory first, where any file may lie: out with it before
# anything else is imported. Code that the user names is looked for there all the same.
if (
    sys.argv[:1] == ["-m"]
    and sys.orig_argv[-len(sys.argv)].split(".")[0].endswith("ssddl_jax")  # or -mssddl_jax
    and not sys.flags.safe_path
):
    del sys.path[0]

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssddl_jax.chacha import PRG
    from ssddl_jax.checkpoints import CheckpointError
    from ssddl_jax.config import Config
    from ssddl_jax.errors import ConfigError, DataError, RunError
    from ssddl_jax.interrupts import Interrupted
    from ssddl_jax.models import Model
    from ssddl_jax.population import Data, load_data, make_data
    from ssddl_jax.round import Info, State
    from ssddl_jax.runner import RunResult, Watch, resume, run
    from ssddl_jax.seeds import SeedsResult, run_seeds
    from ssddl_jax.sharing import Scheme, Sharing, uploads_of
    from ssddl_jax.simulation import Simulation, build_simulation
    from ssddl_jax.sinks import Sink
    from ssddl_jax.stacked import (
        aggregate,
        decode,
        encode,
        hold,
        mask,
        reconstruct,
        shamir_reconstruct,
        shamir_share,
        share,
    )
    from ssddl_jax.trained import Trained, load_model
    from ssddl_jax.transcript import transcript, transcripts
    from ssddl_jax.verify import VerifyResult, verify

__all__ = [
    "PRG",
    "CheckpointError",
    "Config",
    "ConfigError",
    "Data",
    "DataError",
    "Info",
    "Interrupted",
    "Model",
    "RunError",
    "RunResult",
    "Scheme",
    "SeedsResult",
    "Sharing",
    "Simulation",
    "Sink",
    "State",
    "Trained",
    "VerifyResult",
    "Watch",
    "aggregate",
    "build_simulation",
    "decode",
    "encode",
    "hold",
    "load_data",
    "load_model",
    "make_data",
    "mask",
    "reconstruct",
    "resume",
    "run",
    "run_seeds",
    "shamir_reconstruct",
    "shamir_share",
    "share",
    "transcript",
    "transcripts",
    "uploads_of",
    "verify",
]

_NAMES = {  # of each module, what type checkers read above
    "chacha": "PRG",
    "checkpoints": "CheckpointError",
    "config": "Config",
    "errors": "ConfigError DataError RunError",
    "interrupts": "Interrupted",
    "models": "Model",
    "population": "Data load_data make_data",
    "round": "Info State",
    "runner": "RunResult Watch resume run",
    "seeds": "SeedsResult run_seeds",
    "sharing": "Scheme Sharing uploads_of",
    "simulation": "Simulation build_simulation",
    "sinks": "Sink",
    "stacked": "aggregate decode encode hold mask reconstruct share "
    "shamir_reconstruct shamir_share",
    "trained": "Trained load_model",
    "transcript": "transcript transcripts",
    "verify": "VerifyResult verify",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


class _Package(ModuleType):
    """This module: a public name stays what it is when the submodule of that name is imported.

    Python binds a submodule in its package as soon as it has been imported, whoever imports it:
    `transcript` and `verify` would become modules.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker shall know the names above, and no others

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = f"{__name__}.{_HOMES.get(name, name)}"
        try:
            found = import_module(home)
        except ModuleNotFoundError as error:
            if error.name != home:  # something that a submodule needs
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        if name in _HOMES:
            found = getattr(found, name)
        globals()[name] = found
        return found
