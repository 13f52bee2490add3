"""What a run writes: metrics and checkpoints as it proceeds; the model, the summary and the report
at the end.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ssddl_jax.common.atomic import write_whole
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.records import State
from ssddl_jax.report.page import write_report
from ssddl_jax.running.checkpoints import Checkpoints
from ssddl_jax.running.loop import Prepared, recipe_of
from ssddl_jax.running.model_files import write_model
from ssddl_jax.running.sinks import Csv, Guarded, JsonLines, MetricsRow, Sink


class RunFiles:
    """The files that a run writes. `closing` closes them; `rows` are of the rounds already done."""

    def __init__(
        self,
        prepared: Prepared,
        directory: Path,
        sinks: Sequence[Sink],
        resumed_from: list[int],
        closing: ExitStack,
        rows: list[MetricsRow],
    ) -> None:
        self.directory, self.config = directory, prepared.config
        self.prepared = prepared
        self.resumed_from = resumed_from
        self.log = JsonLines()
        self.sinks: list[Sink] = [self.log, Csv(), *(Guarded(sink) for sink in sinks)]
        self.checkpoints = Checkpoints(directory, recipe_of(prepared))
        self.saved = resumed_from[-1] if resumed_from else 0  # rounds of the newest checkpoint
        for sink in self.sinks:
            sink.start(directory, self.config, rows)
            closing.callback(sink.close)

    def round(self, row: MetricsRow) -> None:
        """Writes a round's metrics."""
        for sink in self.sinks:
            sink.round(row)

    def save(self, done: int, state: State, seconds: float) -> None:
        """Writes a checkpoint after `done` rounds, unless it exists already."""
        if done != self.saved:
            tree = state.params, state.server
            self.checkpoints.save(done, tree, self.log, seconds, self.resumed_from)
            self.saved = done

    def finish(self, summary: dict[str, Any], state: State) -> None:
        """Writes the model, the summary and the report, after everything else."""
        for sink in self.sinks:
            sink.finish(summary)
        config, simulation, data, *_ = self.prepared
        if protocol_of(config).one_model:
            given = self.prepared.given
            write_model(self.directory, config, simulation.model, data, state.params, given)
        (self.directory / "report.html").unlink(missing_ok=True)  # of fewer rounds
        write_whole(self.directory / "summary.json", json.dumps(summary, indent=2) + "\n")
        write_report(self.directory)
