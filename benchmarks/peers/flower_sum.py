"""Flower: its SecAgg+ workflow and its participants' mod, in one process, without its network.

Messages go from the workflow straight to the mod; nothing is serialised but what the mod itself
serialises, and participants run in threads. Everything else is Flower's own code: key agreement,
Shamir shares of both secrets, self masks, pair masks, unmasking, and the strategy's mean.
"""

import argparse
import logging
import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import workload
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common import recorddict_compat
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.supercore.task_identity import TaskIdentity

CLIP, RANGE = 1.0, 1 << 22
STAGES = ("setup", "share_keys", "collect_masked_vectors", "unmask")


class Nodes:
    """The participants: what the workflow takes for a grid, as far as it uses one."""

    def __init__(self, updates: np.ndarray, threads: int) -> None:
        self.updates = [ndarrays_to_parameters([update]) for update in updates]
        self.contexts = [context(node) for node in range(len(updates))]
        self.threads = ThreadPoolExecutor(threads)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """The replies of all."""
        return list(self.threads.map(self.reply, messages))

    def reply(self, message: Message) -> Message:
        """What the mod of the message's participant answers."""
        # The workflow gives all one record, which each mod takes apart: so each gets a copy.
        own = {
            name: ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else record
            for name, record in message.content.items()
        }
        message.content = RecordDict(own)
        node = message.metadata.dst_node_id
        return secaggplus_mod(message, self.contexts[node], self.train)

    def train(self, message: Message, _: Context) -> Message:
        """The participant's app: its update is ready."""
        update = self.updates[message.metadata.dst_node_id]
        result = FitRes(Status(Code.OK, ""), update, num_examples=1, metrics={})
        return Message(recorddict_compat.fitres_to_recorddict(result, True), reply_to=message)


def context(node: int) -> Context:
    """An empty context."""
    return Context(run_id=0, node_id=node, node_config={}, state=RecordDict(), run_config={})


def main() -> None:
    """Sums, checks each mean, times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--group-size", type=int, default=50, metavar="n")
    parser.add_argument("--dimension", type=int, default=50_890, metavar="d")
    parser.add_argument("--neighbours", default="complete", metavar="K")
    parser.add_argument("--repeats", type=int, default=3, metavar="R")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    asked = parser.parse_args()
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    logging.getLogger("flwr").setLevel(logging.ERROR)
    size = asked.group_size
    partners = size - 1 if asked.neighbours == "complete" else int(asked.neighbours)
    updates = np.random.default_rng(0).normal(0, 0.3, (size, asked.dimension))
    updates = np.clip(updates, -CLIP, CLIP).astype(np.float32)
    expected = updates.mean(axis=0, dtype=np.float64)
    nodes = Nodes(updates, asked.threads)
    manager = SimpleClientManager()
    for node in range(size):
        manager.register(SimpleNamespace(cid=str(node), node_id=node))
    strategy = FedAvg(min_fit_clients=size, min_available_clients=size, inplace=True)
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    seconds: list[float] = []
    error = 0.0
    for number in range(asked.repeats + 1):  # the first warms up
        state = LegacyContext(context(0), strategy=strategy, client_manager=manager)
        state.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: number})
        start = ndarrays_to_parameters([np.zeros(asked.dimension, np.float32)])
        state.state.array_records[MAIN_PARAMS_RECORD] = recorddict_compat.parameters_to_arrayrecord(
            start, True
        )
        workflow = SecAggPlusWorkflow(
            partners + 1,
            partners // 2 + 1,
            max_weight=1.0,
            clipping_range=CLIP,
            quantization_range=RANGE,
        )
        for name, times in stages.items():
            stage = f"{name}_stage"
            setattr(workflow, stage, clocked(getattr(workflow, stage), times))
        begin = perf_counter()
        workflow(nodes, state)
        seconds.append(perf_counter() - begin)
        record = state.state.array_records[MAIN_PARAMS_RECORD]
        (mean,) = parameters_to_ndarrays(recorddict_compat.arrayrecord_to_parameters(record, True))
        error = max(error, float(np.abs(mean - expected).max()))
    if error > 2 * CLIP / RANGE + 1e-9:  # each update is off by less than one step
        raise SystemExit(f"Flower: the mean is off by {error:.3g}, more than one quantum")
    workload.report(
        {
            "peer": "Flower SecAgg+",
            "seconds_median": statistics.median(seconds[1:]),
            "seconds": seconds[1:],
            "stage_seconds": {n: statistics.median(times[1:]) for n, times in stages.items()},
            "largest_error": error,
            "group_size": size,
            "parameters": asked.dimension,
            "neighbours": partners,
            "threads": asked.threads,
        },
        ["flwr", "numpy"],
        asked.json,
    )


def clocked(stage: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    """The same stage, which also keeps its seconds."""

    def run(*given: Any) -> Any:
        begin = perf_counter()
        result = stage(*given)
        times.append(perf_counter() - begin)
        return result

    return run


if __name__ == "__main__":
    main()
