"""SSDDL simulated in JAX: N participants train one model through secret sharing.

    import ssddl_jax as sd

    result = sd.run(sd.Config(rounds=5))
    result.summary["test_accuracy"]

`build_simulation` returns the round as a pure function. `stacked` applies the sharing layer to
pytrees.

Importing the package is cheap. A name or submodule is imported when it is first used, and JAX with
the first one that needs it.
"""

import sys

# `python -m ssddl_jax` puts the working directory first on the path, where any file could shadow a
# module. Remove it before anything else is imported. Code that the user names is still found there.
if (
    sys.argv[:1] == ["-m"]
    and sys.orig_argv[-len(sys.argv)].split(".")[0].endswith("ssddl_jax")  # or -mssddl_jax
    and not sys.flags.safe_path
):
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssddl_jax.common.errors import ConfigError, DataError, RunError
    from ssddl_jax.config.config import Config
    from ssddl_jax.core.arithmetic.chacha import PRG
    from ssddl_jax.core.learning.models import Model
    from ssddl_jax.core.learning.population import Data
    from ssddl_jax.core.records import Info, State
    from ssddl_jax.core.sharing.base import Scheme, Sharing, uploads_of
    from ssddl_jax.core.stacked import (
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
    from ssddl_jax.data.loading import load_data, make_data
    from ssddl_jax.running.checkpoints import CheckpointError
    from ssddl_jax.running.interrupts import Interrupted
    from ssddl_jax.running.model_files import Trained, load_model
    from ssddl_jax.running.runner import RunResult, Watch, resume, run
    from ssddl_jax.running.sinks import Sink
    from ssddl_jax.running.verify import VerifyResult, verify
    from ssddl_jax.simulation.build import Simulation, build_simulation
    from ssddl_jax.simulation.seeds import SeedsResult, run_seeds
    from ssddl_jax.simulation.transcript import transcript, transcripts

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

_NAMES = {  # module: its public names, the same as the imports above
    "common.errors": "ConfigError DataError RunError",
    "config.config": "Config",
    "core.arithmetic.chacha": "PRG",
    "core.learning.models": "Model",
    "core.learning.population": "Data",
    "core.records": "Info State",
    "core.sharing.base": "Scheme Sharing uploads_of",
    "core.stacked": "aggregate decode encode hold mask reconstruct share "
    "shamir_reconstruct shamir_share",
    "data.loading": "load_data make_data",
    "running.checkpoints": "CheckpointError",
    "running.interrupts": "Interrupted",
    "running.model_files": "Trained load_model",
    "running.runner": "RunResult Watch resume run",
    "running.sinks": "Sink",
    "running.verify": "VerifyResult verify",
    "simulation.build": "Simulation build_simulation",
    "simulation.seeds": "SeedsResult run_seeds",
    "simulation.transcript": "transcript transcripts",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker sees only the names imported above

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = f"{__name__}.{_HOMES.get(name, name)}"
        try:
            found = import_module(home)
        except ModuleNotFoundError as error:
            if error.name != home:  # the submodule exists, but needs something that is missing
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        if name in _HOMES:
            found = getattr(found, name)
        globals()[name] = found
        return found
