"""One run over many processes: how they join, and the parent that watches each.

`jax.distributed` joins processes into one set of devices, and the round is the same program on all
of them. JAX's runtime aborts a process that loses its peers, so every worker has a parent, which
ends it, reports in one line what happened, and never waits forever. A worker ends when its parent
does.
"""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.text import escape_what_cannot_be_printed, printable
from ssddl_jax.running.host_devices import DEVICES_FLAG, GIVEN_FLAGS, pool, usable_cores
from ssddl_jax.running.interrupts import go_on

_WORKER = "SSDDL_WORKER"  # in a worker's environment, JSON: watched pipe, log file, place
_HEARTBEAT = 30  # seconds until a silent process counts as lost
_GRACE = 3.0  # seconds for the other workers to end on their own
LAUNCHERS = ("auto", "slurm", "ompi", "mpi4py", "k8s")


class Cluster(NamedTuple):
    """The process options of the command line."""

    processes: int | None = None
    process_index: int | None = None
    coordinator: str | None = None
    launcher: str | None = None

    @property
    def alone(self) -> bool:
        """Whether this is an ordinary run of one process."""
        return self == Cluster()


def checked(cluster: Cluster) -> Cluster:
    """The same cluster, checked. Raises `ConfigError`."""
    processes, index, coordinator, launcher = cluster
    if launcher is not None:
        if launcher not in LAUNCHERS:
            raise ConfigError("launcher", launcher, f"must be one of {', '.join(LAUNCHERS)}")
        if cluster != Cluster(launcher=launcher):
            remedy = "finds the processes and the coordinator itself; omit the other options"
            raise ConfigError("launcher", launcher, remedy)
        return cluster
    if processes is None and not cluster.alone:
        raise ConfigError("processes", None, "is required with coordinator and process_index")
    if processes is not None and not 1 <= processes <= 4096:
        raise ConfigError("processes", processes, "must be 1..4096")
    if (index is None) != (coordinator is None):
        raise ConfigError("process_index", index, "needs coordinator; give both or neither")
    if processes is not None and index is not None and not 0 <= index < processes:
        raise ConfigError("process_index", index, f"must be 0..{processes - 1}")
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise ConfigError("coordinator", coordinator, "must be HOST:PORT of process 0")
    return cluster


def is_worker() -> bool:
    """Whether this process was started by `supervise`."""
    return _WORKER in os.environ


def join() -> None:
    """Joins the other workers. Call it before any use of JAX's devices. The runtime's log goes to a
    file that only the parent reads.
    """
    pipe, noise, coordinator, processes, index = json.loads(os.environ[_WORKER])
    log = os.open(noise, os.O_WRONLY | os.O_APPEND)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(fd), "w", buffering=1) for fd in (1, 2))
    escape_what_cannot_be_printed()
    for fd in (1, 2):
        os.dup2(log, fd)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    import jax

    if processes is not None:
        jax.distributed.initialize(
            coordinator,
            processes,
            index,
            coordinator_bind_address=coordinator,  # the default is all interfaces
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    else:
        method = None if coordinator == "auto" else coordinator
        jax.distributed.initialize(
            cluster_detection_method=method, heartbeat_timeout_seconds=_HEARTBEAT
        )


def agree(facts: Mapping[str, Any]) -> None:
    """Refuses a run whose processes disagree on any of these facts. The names of the facts must be
    the same everywhere. Raises `ConfigError` in every process.
    """
    import numpy as np
    from jax.experimental import multihost_utils

    digests = [hashlib.sha256(repr(facts[name]).encode()).digest() for name in facts]
    mine = np.frombuffer(b"".join(digests), "<u4").reshape(len(facts), 8)
    everybodys = np.asarray(multihost_utils.process_allgather(mine))
    for process, theirs in enumerate(everybodys):
        for name, one, other in zip(facts, everybodys[0], theirs, strict=True):
            if np.any(one != other):
                remedy = (
                    f"differs between processes 0 and {process}; all processes of a run need the "
                    "same recipe"
                )
                raise ConfigError(name, facts[name], remedy)


def is_leader() -> bool:
    """Whether this process writes and prints: the only one, or process 0 of many."""
    import jax

    return jax.process_index() == 0


def is_lost_contact(error: Exception) -> bool:
    """Whether an error in a worker may be due to the end of another one."""
    import jax

    return isinstance(error, jax.errors.JaxRuntimeError)


def leave(status: int) -> NoReturn:
    """Ends a worker: together with the others on success, at once otherwise."""
    if status == 0:
        import jax

        jax.distributed.shutdown()
    end_now(status)


def end_now(status: int) -> NoReturn:
    """Ends this process without waiting for anything that still runs in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def supervise(cluster: Cluster, arguments: Sequence[str], directory: Path | None) -> int:
    """Starts and watches the command's workers on this host; returns the exit status.

    `directory` is the run's, if any; the report of an early end names it. A signal ends the workers
    at once, so that their last checkpoint remains.
    """
    processes, index, coordinator, launcher = cluster
    places: list[tuple[str | None, int | None, int | None]]
    if launcher is not None:
        places = [(launcher, None, None)]
    elif index is not None:
        places = [(coordinator, processes, index)]
    else:
        here = f"127.0.0.1:{_free_port()}"
        places = [(here, processes, i) for i in range(processes or 1)]
    watched, held = os.pipe()
    with tempfile.NamedTemporaryFile("a+b") as noise:
        workers = [
            subprocess.Popen(
                [sys.executable, "-P", "-m", "ssddl_jax", *arguments],  # P: not from this folder
                env=_environment([watched, noise.name, *place], len(places)),
                pass_fds=[watched],
                stdout=None if i == 0 else subprocess.DEVNULL,
                stderr=None if i == 0 else noise.fileno(),
                start_new_session=True,  # Ctrl-C is this process's to handle
            )
            for i, place in enumerate(places)
        ]
        try:
            return _watch(workers, noise, directory)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {go_on(directory)}") from None
        finally:
            os.close(held)
            os.close(watched)
            for worker in workers:
                worker.kill()
                worker.wait()


def _watch(workers: list[subprocess.Popen[bytes]], noise: IO[bytes], directory: Path | None) -> int:
    while True:
        ended = [worker.poll() for worker in workers]
        if all(status == 0 for status in ended):
            return 0
        if any(status not in (None, 0) for status in ended):
            break
        time.sleep(0.05)
    deadline = time.monotonic() + _GRACE
    while workers[0].poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)  # process 0 may still print a line
    if workers[0].poll() == 2:
        return 2  # refused; it has reported why
    first = _first(ended, [worker.poll() for worker in workers])
    why = _reason(workers[first].poll() or 0)
    many = len(workers) > 1
    who = f"process {first} of {len(workers)} on this host" if many else "this process"
    lost = "" if why.startswith("was killed") else ", or lost contact with the others"
    line = (
        f"error: {who} {why}{lost}; the run is not complete: {go_on(directory)} "
        "(SSDDL_DEBUG=1 shows the runtime's log)"
    )
    print(printable(line), file=sys.stderr, flush=True)
    if os.environ.get("SSDDL_DEBUG"):
        noise.seek(0)
        sys.stderr.write(noise.read().decode(errors="replace"))
    return 1


def _first(seen: Sequence[int | None], now: Sequence[int | None]) -> int:
    """The worker to name: one that was killed from outside, even if another ended sooner because
    of it; otherwise the first that was seen to end.
    """
    killed = [i for i, status in enumerate(now) if (status or 0) < 0 and status != -signal.SIGABRT]
    return (killed or [i for i, status in enumerate(seen) if status])[0]


def _reason(status: int) -> str:
    if status == -signal.SIGABRT:
        return "was stopped by JAX's runtime"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _environment(worker: list[Any], here: int) -> dict[str, str]:
    """A worker's environment; workers on one machine divide its cores among them as devices."""
    flags = GIVEN_FLAGS
    if DEVICES_FLAG not in flags:
        flags = f"{flags} {DEVICES_FLAG}={max(1, min(usable_cores() // here, pool()))}".strip()
    return {**os.environ, "XLA_FLAGS": flags, _WORKER: json.dumps(worker)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: it returns when the parent's end is closed
    os._exit(1)
