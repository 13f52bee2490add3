"""Terminal output: progress on stderr, closing tables on stdout.

The library `rich` is imported with the first output, so a run that is refused never loads it. Text
may come from users, files and the system, so none of it is read as rich's markup. Where the output
is not a terminal, nothing is wrapped or cut.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ssddl_jax.common.text import printable
from ssddl_jax.config.config import Config
from ssddl_jax.config.dropout_schedule import schedule_notes
from ssddl_jax.config.metrics import columns
from ssddl_jax.config.protocols import protocol_of, server_learns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.table import Table

    from ssddl_jax.running.runner import RunResult, Watch
    from ssddl_jax.simulation.build import Simulation

_LINES = 20  # lines of progress where there is no terminal
_SENTENCE = 160  # a longer value is printed below its table, characters
_WIDEST = 100_000  # characters of a line where there is no terminal


class Progress:
    """Live progress of a run on stderr: a bar on a terminal, a few lines elsewhere. A process that
    is not `shown` prints nothing. The bar appears with the first message and stays until the `with`
    block ends.
    """

    def __init__(self, config: Config, shown: bool = True) -> None:
        self.config, self.shown = config, shown
        self.bytes = 0
        self.every = max(1, config.rounds // _LINES)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if "bar" in vars(self):
            self.bar.stop()

    @cached_property
    def console(self) -> "Console":
        """The console on stderr."""
        return make_console(stderr=True, quiet=not self.shown)

    @cached_property
    def bar(self) -> "Bar":
        """The bar, already started. Its one task counts rounds."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[message]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        bar.add_task("rounds", total=self.config.rounds, message="compiling ...")
        bar.start()
        return bar

    def show(self, **fields: Any) -> None:
        """Shows the bar after updating these fields of its task."""
        self.bar.update(self.bar.task_ids[0], **fields)

    @property
    def watch(self) -> "Watch":
        """The callbacks for `run` and `resume`."""
        from ssddl_jax.running.runner import Watch

        return Watch(self.start, self.round, self.warn, self.wait)

    def warn(self, text: str) -> None:
        """Prints a note."""
        self.console.print(printable(f"note: {text}"), highlight=False, soft_wrap=True)

    def wait(self, text: str) -> None:
        """Shows the progress of a long round."""
        self.show(message=text)
        if not self.console.is_terminal:
            self.console.print(text, highlight=False, soft_wrap=True)

    def start(self, simulation: "Simulation", done: int) -> None:
        """Prints what is about to run."""
        from ssddl_jax.planning.guarantees import fewest_survivors

        self.show(completed=done)
        if done:
            self.warn(f"continuing after {done} of {self.config.rounds} rounds")
        for note in simulation.notes:
            self.warn(note)
        plan, config = simulation.plan, self.config
        sharing = f"protocol {config.protocol}, no secure aggregation"
        if config.sums_securely:
            sharing = sharing_words(config, plan)
        self.console.print(
            f"{plan.participants:,} participants, {plan.size:,} per round, "
            f"{plan.dimension:,} parameters ({printable(simulation.model.name)}); {sharing}",
            highlight=False,
            soft_wrap=True,
        )
        if simulation.recipe.dropouts is not None:
            for note in schedule_notes(config, simulation.recipe.dropouts[0]):
                self.warn(note)
        if config.dropout > config.max_dropout and plan.least_alive >= fewest_survivors(config):
            self.console.print(
                f"note: dropout {config.dropout} exceeds max_dropout {config.max_dropout}: "
                "rounds with fewer survivors are void",
                highlight=False,
                soft_wrap=True,
            )

    def round(self, row: dict[str, Any]) -> None:
        """Shows one round, given its line of metrics."""
        self.bytes += row["bytes_up"] + row["bytes_down"]
        accuracy, loss = row["test_accuracy"], row["loss"]
        message = (
            f"accuracy {accuracy:.4f}  " if accuracy is not None else ""
        ) + f"loss {'-' if loss is None else f'{loss:.4f}'}  {row['seconds']:.3f} s"
        message += f"  {megabytes(self.bytes)}"
        if row["nonfinite"]:
            message += f"  {row['nonfinite']:,} left out"
        if row["void"]:
            message += "  VOID"
        self.show(advance=1, message=message)
        number = row["round"] + 1
        if not self.console.is_terminal and (number % self.every == 0 or number == 1):
            self.console.print(
                f"round {number:>4}/{self.config.rounds}  {message}",
                highlight=False,
                soft_wrap=True,
            )


def sharing_words(config: Config, plan: Any) -> str:
    """The engine, the sharing graph and the PRG in a few words."""
    graph = "complete graph" if plan.neighbours >= plan.size - 1 else f"{plan.neighbours} partners"
    how = f"engine {config.engine}" if protocol_of(config).pair_shares else config.protocol
    return f"{how}, {graph}, {config.prg}"


def megabytes(count: float) -> str:
    """A number of bytes, as text for people."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def print_summary(config: Config, result: "RunResult") -> None:
    """The closing table of a run."""
    summary = result.summary
    table = what_and_value(protocol_of(config).title or config.protocol)
    accuracy = summary["test_accuracy"]
    table.add_row("test accuracy", "-" if accuracy is None else f"{accuracy:.4f}")
    if config.sums_securely:
        exact = f"{summary['rounds_exact']} of {summary['rounds']} rounds exact"
        table.add_row("aggregate equals the sum of updates", exact)
        least, most = (pick(row["alive"] for row in result.metrics) for pick in (min, max))
        each = f"{most}" if least == most else f"{least} to {most}"
        table.add_row("the server saw", f"{each} masked uploads per round, and their sum")
        colluders = f"up to {summary['max_colluders']} with the server{_odds(config)}"
        table.add_row("colluding members tolerated", colluders)
        error = f"at most {summary['error_bound']:.2g} per coordinate"
        table.add_row("encoding error of the mean", error)
    else:
        table.add_row("the server learns", server_learns(config))
    for what, name in (("rounds shared again", "rounds_retried"), ("void rounds", "rounds_void")):
        if summary[name]:
            table.add_row(what, f"{summary[name]:,}")
    if summary["nonfinite"]:
        left = f"{summary['nonfinite']:,} (NaN or inf), over all rounds"
        table.add_row("updates left out", left)
    if summary.get("inputs"):  # version one does not record them
        table.add_row("inputs", printable(summary["inputs"]))
    table.add_row("clipped coordinates", f"{summary['clipped']:,}")
    for column in columns(config):
        found = summary[column.key]
        value = "-" if found is None else f"{found:.4g} ({column.over} over the rounds)"
        table.add_row(column.title, value)
    up, down = summary["bytes_up_per_participant"], summary["bytes_down_per_participant"]
    table.add_row("bytes per member and round", f"{megabytes(up)} up, {megabytes(down)} down")
    table.add_row("seconds per round (median)", f"{summary['seconds_per_round_median']:.3f}")
    total = f"{summary['seconds_total']:.1f} ({summary['compile_seconds']:.1f} compiling, "
    kept = "no compilation: the program was kept from an earlier run)"
    times = f"{summary['compilations']} compilation)" if summary["compilations"] else kept
    table.add_row("seconds in total", total + times)
    table.add_row("peak memory", f"{summary['peak_memory_mb']:,.0f} MB")
    table.add_row("run_sha256", summary["run_sha256"])
    table.add_row("written to", printable(result.directory))
    show(table, *(f"note: {note}" for note in summary["notes"]))


def _odds(config: Config) -> str:
    """What a sparse graph adds to the bound on colluders."""
    from ssddl_jax.planning.guarantees import guarantees_of

    found = guarantees_of(config)
    if not found.failure:
        return ""
    return f", fixed before the draw; fails with probability {found.odds(config.rounds)}"


def print_table(title: str, values: dict[str, Any]) -> None:
    """Prints a record as a table, with a row for each value inside it; long texts follow it."""
    table, sentences = what_and_value(title), []
    for name, value in _rows(values):
        if isinstance(value, str) and " " in value and len(value) > _SENTENCE:
            sentences.append(f"{name}: {value}")
            continue
        text = f"{value:,.6g}" if isinstance(value, float) else printable(value)
        table.add_row(name, f"{value:,}" if type(value) is int else text)
    show(table, *sentences)


def _rows(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The names and values inside a record."""
    nested = isinstance(value, list) and any(isinstance(part, dict) for part in value)
    if isinstance(value, dict) or nested:
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in inside:
            yield from _rows(part, f"{name}, {key}" if name else str(key))
        if name and not value:
            yield name, "none"
    else:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else value


def what_and_value(title: str) -> "Table":
    """A table of two columns; text too wide for the terminal wraps."""
    from rich.table import Table

    table = Table(title=title)
    table.add_column("what", style="bold", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    return table


def show(table: "Table", *sentences: str) -> None:
    """Prints a table, then sentences about it, on stdout."""
    stdout = make_console()
    stdout.print(table)
    for sentence in sentences:
        stdout.print(printable(sentence), highlight=False)


def make_console(**options: Any) -> "Console":
    """A rich console, without markup, that never wraps where there is no terminal."""
    from rich.console import Console

    made = Console(markup=False, emoji=False, **options)
    if not made.is_terminal:
        made.width = _WIDEST
    return made
