"""SSDDL, simulated in JAX: N participants train one model through secret sharing.

    import ssddl_jax as sd

    result = sd.run(sd.Config(rounds=5))
    result.summary["test_accuracy"]

`build_simulation` gives the round as a pure function; `stacked` the sharing layer on pytrees.
"""

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
    "VerifyResult",
    "Watch",
    "aggregate",
    "build_simulation",
    "decode",
    "encode",
    "hold",
    "load_data",
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
