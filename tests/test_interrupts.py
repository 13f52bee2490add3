"""Signals at the worst moments, several at once: the run ends with one line on how to resume."""

import os
import signal
import sys

import pytest

from ssddl_jax import cli
from ssddl_jax.running import interrupts, runner
from ssddl_jax.running.sinks import JsonLines

INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(autouse=True)
def _handlers():
    """The command's handlers end with the process, so that the test puts them back."""
    before = {number: signal.getsignal(number) for number in (INT, TERM)}
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


def together(numbers):
    """Sends the signals so that Python finds them all at once, as after a long compilation."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def arrive(monkeypatch, owner, name, numbers):
    """They come just before that is called, once."""
    original = getattr(owner, name)

    def interrupted(*arguments, **more):
        monkeypatch.setattr(owner, name, original)
        together(numbers)
        return original(*arguments, **more)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.fixture
def command(tiny_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"run --data {tiny_file} --model linear --participants 8 --group-size 5 --tile-size 2 "
    text += "--devices 1 --rounds 4 --out run --json"
    return text.split()


def check(command, capsys, line):
    """It ends with that line and nothing else."""
    assert cli.main(command) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1] == line
    assert told.err.count("continue with") == 1


ONE_AND_TWO = pytest.mark.parametrize("numbers", [{INT}, {INT, TERM}])


@ONE_AND_TWO
def test_before_the_first_round(command, capsys, monkeypatch, numbers):
    arrive(monkeypatch, runner, "begin", numbers)
    check(command, capsys, "stopped at once; continue with: ssddl resume run")


@ONE_AND_TWO
def test_where_python_drops_exceptions(command, capsys, monkeypatch, numbers):
    """As in a callback of the garbage collector: the run must not go on as if nothing had come."""

    class Deleted:
        def __del__(self):
            together(numbers)

    original = runner.begin

    def interrupted(*arguments, **more):
        Deleted()
        return original(*arguments, **more)

    monkeypatch.setattr(runner, "begin", interrupted)
    check(command, capsys, "stopped at once; continue with: ssddl resume run")


def test_what_c_code_makes_of_one(command, capsys, monkeypatch):
    """NumPy, called back while a signal arrives, says that a result came with an exception."""

    def confused(*arguments, **more):
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    monkeypatch.setattr(runner, "begin", confused)
    check(command, capsys, "stopped at once; continue with: ssddl resume run")


@ONE_AND_TWO
def test_in_a_round(command, capsys, monkeypatch, numbers):
    arrive(monkeypatch, runner.RunFiles, "round", numbers)
    where = "at once" if len(numbers) == 2 else "after 2 of 4 rounds"
    check(command, capsys, f"stopped {where}; continue with: ssddl resume run")


@pytest.mark.parametrize("after", [False, True])
def test_the_next_one_acts_even_while_the_first_is_being_noted(monkeypatch, after):
    """Python may run the second handler inside the first: at its start, or before its end."""
    seen = interrupts.Interrupts()
    put_back = interrupts.Interrupts.__exit__

    def interrupted(self, *_):
        monkeypatch.setattr(interrupts.Interrupts, "__exit__", put_back)
        self._note(TERM, None)

    with seen:
        if after:
            monkeypatch.setattr(interrupts.Interrupts, "__exit__", interrupted)
        else:
            seen._note(TERM, None)
        with pytest.raises(KeyboardInterrupt):
            seen._note(INT, None)
    assert seen.noted


MORE = pytest.mark.parametrize("more", [{TERM}, {INT, TERM}])


@MORE
def test_one_before_the_first_round_and_more_as_it_ends(command, capsys, monkeypatch, more):
    arrive(monkeypatch, runner, "begin", {TERM})
    arrive(monkeypatch, interrupts, "go_on", more)
    check(command, capsys, "stopped at once; continue with: ssddl resume run")


@MORE
def test_one_in_a_round_and_more_as_it_ends(command, capsys, monkeypatch, more):
    arrive(monkeypatch, runner.RunFiles, "round", {INT})
    arrive(monkeypatch, JsonLines, "close", more)
    check(command, capsys, "stopped at once; continue with: ssddl resume run")


@MORE
def test_one_in_a_round_and_more_before_it_is_told(command, capsys, monkeypatch, more):
    arrive(monkeypatch, runner.RunFiles, "round", {INT})
    arrive(monkeypatch, cli, "say", more)
    check(command, capsys, "stopped after 2 of 4 rounds; continue with: ssddl resume run")


@pytest.mark.parametrize(
    ("owner", "name"), [(runner, "begin"), (runner.RunFiles, "round")], ids=["before", "in"]
)
def test_what_was_ignored_from_the_start_stays_ignored(command, monkeypatch, owner, name):
    signal.signal(INT, signal.SIG_IGN)
    arrive(monkeypatch, owner, name, {INT})
    assert cli.main(command) == 0
