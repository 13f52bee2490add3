"""Programs kept from one run for the next: the same results, never another's program, never in the
way.
"""

import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.config import enable_compilation_cache
from jax.experimental.compilation_cache.compilation_cache import reset_cache

import harness
import ssddl_jax as sd
from ssddl_jax.core import round as core_round
from ssddl_jax.running import loop, program_cache
from ssddl_jax.simulation.build import build_simulation, place
from ssddl_jax.simulation.compiling import anew

FIELDS = {"participants": 9, "group_size": 5, "model": "linear", "rounds": 2, "devices": 2}
FIELDS |= {"engine": "ideal"}
PLAIN = {**FIELDS, "engine": "pairwise", "protocol": "plain"}  # the quickest to compile


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache's folder, switched on, and JAX's own cache switched off."""
    monkeypatch.setenv(program_cache.VARIABLE, str(tmp_path / "programs"))
    reset_cache()
    with enable_compilation_cache(False):
        yield tmp_path / "programs"
    reset_cache()


def test_a_second_run_traces_and_compiles_nothing(folder, tmp_path, make_tiny_data, monkeypatch):
    """Otherwise a start is slow again unnoticed, or fast with other bits. The first run's round is
    the one that runs without a cache. Another seed and more rounds use the same programs.
    """
    data = make_tiny_data(9)

    def train(name, **fields):
        config = sd.Config(**PLAIN | fields, out=str(tmp_path / name))
        return sd.run(config, data=data)

    first = train("first")
    monkeypatch.setattr(core_round, "SelectGroup", None)  # a trace of the round would call it
    with harness.compilations() as seen:
        second = train("second")
        other = train("other", seed=7, rounds=3)
        replay = sd.verify(tmp_path / "first", data=data)
    assert not seen
    assert [r.summary["compilations"] for r in (first, second, other)] == [1, 0, 0]
    assert first.summary["run_sha256"] == second.summary["run_sha256"]
    assert [row["test_accuracy"] for row in first.metrics] == [
        row["test_accuracy"] for row in second.metrics
    ]
    assert replay.equal
    assert len(list(folder.iterdir())) == 3  # init, the round, the evaluation


@pytest.mark.optimised
@pytest.mark.parametrize(
    "fields",
    [
        {"model": "mlp"},
        {"model": "cnn"},
        {"model": "linear", "protocol": "standalone", "group_size": "all"},
    ],
    ids=str,
)
def test_the_first_state_of_one_program_has_the_same_bits(fields):
    """A cached run's initial state comes from one program, others' from several."""
    images = np.zeros((18, 8, 8) if fields["model"] != "cnn" else (18, 28, 28), np.uint8)
    data = sd.make_data(images, np.arange(18) % 3, np.arange(18) % 9)
    config = sd.Config(**{**FIELDS, **fields, "devices": 1, "seed": 2**40 + 3})
    simulation = build_simulation(config, None, data)
    several = loop.first_state(simulation, None)
    one = loop.first_state(simulation, None, lambda name, arguments, make: make())
    assert jax.tree.structure(several) == jax.tree.structure(one)
    for a, b in zip(jax.tree.leaves(several), jax.tree.leaves(one), strict=True):
        assert (a.dtype, a.weak_type) == (b.dtype, b.weak_type)
        np.testing.assert_array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


# The key


@pytest.fixture(scope="module")
def simulated():
    """A run that is never compiled, and its data."""
    data = harness.tiny_data(9)
    config = sd.Config(**FIELDS)
    return config, build_simulation(config, None, data), data


def known(simulated):
    """The text that a program's key starts with."""
    keep = program_cache.kept_programs(*simulated)
    return keep.args[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setenv("NPROC", "77"),
        lambda patch: patch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} --xla_dump_to=x"),
        lambda patch: patch.setenv("JAX_ANYTHING", "1"),
        lambda patch: patch.setattr(program_cache, "versions", lambda: {"jax": "0.0"}),
        lambda patch: patch.setattr(program_cache, "_source_sha256", lambda: "another"),
        lambda patch: patch.setattr(program_cache, "_processor", lambda: "another"),
        lambda patch: patch.setattr(program_cache, "pool", lambda: 77),
        lambda patch: patch.setattr(program_cache, "conditions", dict),
        lambda patch: patch.setattr(jax, "devices", lambda: _DEVICES[:1]),
        lambda patch: patch.setattr(
            jax,
            "devices",
            lambda: [
                SimpleNamespace(id=d.id, platform="cpu", device_kind="x", client=d.client)
                for d in _DEVICES
            ],
        ),
    ],
    ids=[
        "pool",
        "flags",
        "variable",
        "versions",
        "source",
        "processor",
        "threads",
        "conditions",
        "count",
        "kind",
    ],
)
def test_another_world_has_another_key(folder, simulated, monkeypatch, change):
    """Left out of the key, it would run a program that was compiled for something else."""
    before = known(simulated)
    assert before == known(simulated)
    change(monkeypatch)
    assert known(simulated) != before


_DEVICES = jax.devices()


def test_a_setting_of_jax_has_another_key(folder, simulated):
    """Even one that a block of code sets."""
    before = known(simulated)
    with jax.numpy_rank_promotion("allow"):
        assert known(simulated) != before


def test_the_thread_pool_is_in_the_key_whoever_sets_it(folder, simulated, monkeypatch):
    """NPROC is one way; the cores that a process may use are another."""
    monkeypatch.delenv("NPROC", raising=False)
    before = known(simulated)
    monkeypatch.setattr(
        "ssddl_jax.running.host_devices.usable_cores", lambda: 1 + os.cpu_count() + 8
    )
    assert known(simulated) != before


def test_the_processor_is_told_by_its_model_and_features(monkeypatch):
    """Two machines that share a home folder."""
    text = "processor : 0\nmodel name : {}\ncpu MHz : {}\nflags : fpu {}\n"
    told = {}
    for machine in (("A", 1, "avx2"), ("A", 2, "avx2"), ("A", 1, "avx512f"), ("B", 1, "avx2")):
        content = text.format(*machine)
        monkeypatch.setattr(program_cache.Path, "read_text", lambda *a, c=content, **_: c)
        told[machine] = program_cache._processor()
    assert told["A", 1, "avx2"] == told["A", 2, "avx2"]
    assert len(set(told.values())) == 3


@pytest.mark.parametrize(
    "fields", [{"learning_rate": 0.2}, {"clip": 0.5}, {"neighbours": 2}, {"model": "mlp-64"}]
)
def test_another_recipe_has_another_key(folder, simulated, fields):
    config, _, data = simulated
    other = replace(config, **fields)
    assert known((other, build_simulation(other, None, data), data)) != known(simulated)


def test_other_data_have_another_key(folder, simulated):
    """By how many rows each participant has, which may be static numbers of the round."""
    config, simulation, data = simulated
    other = data._replace(counts=data.counts[::-1].copy())
    assert known((config, simulation, other)) != known(simulated)


def test_no_program_depends_on_what_the_key_leaves_out(folder, simulated):
    """Seed, rounds and the like, so that a sweep over them compiles once."""
    config, simulation, data = simulated
    fields = {"seed": 9, "rounds": 77, "eval_every": 3, "checkpoint_every": 7, "out": "x"}
    other = replace(config, **fields)
    built = build_simulation(other, None, data)
    assert known((other, built, data)) == known(simulated)
    texts = [
        jax.jit(one.step).lower(*(place(x, one.recipe) for x in (one.init(), data))).as_text()
        for one in (simulation, built)
    ]
    assert texts[0] == texts[1]


def test_rounds_are_not_in_the_key_of_a_sparse_graph(folder, simulated):
    """Its chance to be cut grows with the rounds, and is a number of the plan."""
    config, _, data = simulated
    sparse = replace(config, engine="pairwise", group_size=9, neighbours=4, shares="paired")
    keys = set()
    for rounds in (2, 77):
        other = replace(sparse, rounds=rounds)
        keys.add(known((other, build_simulation(other, None, data), data)))
    assert len(keys) == 1


def test_parts_of_the_users_own_are_not_kept(folder, make_tiny_data):
    """What they compute cannot be told without tracing; nor is there a cache for other engines."""
    own = sd.Model(
        lambda key, x: {"k": jnp.zeros((12, 4))}, lambda p, x: x.reshape(-1, 12) @ p["k"]
    )
    data = make_tiny_data(9)
    config = sd.Config(**FIELDS)
    assert loop.keeper(loop.prepare(config, {"data": data, "model": own})) is anew
    assert loop.keeper(loop.prepare(replace(config, engine="reference"), {"data": data})) is anew
    prepared = loop.prepare(config, {"data": data})
    assert loop.keeper(prepared) is not anew
    assert loop.keeper(prepared._replace(sources={"sharing": "0"})) is anew


def test_source_that_changed_under_a_process_is_not_its_own(folder, simulated, monkeypatch):
    """Someone edits the package while a run starts: the new text would name the old program."""
    monkeypatch.setattr(program_cache, "_IMPORTED", 0.0)
    assert program_cache.kept_programs(*simulated) is anew


# The files


@pytest.fixture
def ask(folder):
    """Asks for a tiny program, and gives its value and whether it was compiled."""
    folder.mkdir(mode=0o700)

    def ask(name="p", known="known", at=folder):
        jitted = jax.jit(lambda x: x * jnp.uint32(3))
        argument = jax.device_put(np.arange(4, dtype=np.uint32), jax.devices()[0])
        made = []

        def make():
            made.append(1)
            return jitted.lower(argument).compile()

        value = program_cache._program(at, known, name, (argument,), make)(argument)
        np.testing.assert_array_equal(value, [0, 3, 6, 9])
        return len(made)

    return ask


def entries(folder):
    return sorted(folder.iterdir())


def test_an_entry_is_for_one_name_and_one_world(ask, folder):
    assert [ask(), ask(), ask("q"), ask(known="else"), ask()] == [1, 0, 1, 1, 0]
    assert len(entries(folder)) == 3


def broken(ask, folder, capfd):
    """That a broken entry is told in one line, and replaced by a good one."""
    assert ask() == 1
    said = capfd.readouterr().err
    assert (said.count("\n"), "compiling anew" in said) == (1, True)
    assert str(entries(folder)[0]) in said
    assert ask() == 0
    assert not capfd.readouterr().err


@pytest.mark.parametrize("left", [0, 1, 32, 40, -1])
def test_a_truncated_entry(ask, folder, capfd, left):
    ask()
    (path,) = entries(folder)
    path.write_bytes(path.read_bytes()[:left])
    broken(ask, folder, capfd)


@pytest.mark.parametrize("what", ["text", "a changed byte", "another entry", "a sealed stranger"])
def test_a_foreign_entry(ask, folder, capfd, what):
    """Nothing of it runs; one that is sealed but holds no program is removed, too."""
    ask()
    (path,) = entries(folder)
    content = bytearray(path.read_bytes())
    if what == "text":
        content = b"cos\nsystem\n(S'touch hacked'\ntR."
    elif what == "a changed byte":
        content[len(content) // 2] ^= 1
    elif what == "another entry":
        ask("q")
        (other,) = set(entries(folder)) - {path}
        content = other.read_bytes()
        other.unlink()
    else:
        content = program_cache._seal(path, b"no pickle") + b"no pickle"
    path.write_bytes(content)
    broken(ask, folder, capfd)


def test_an_entry_that_others_may_write_to(ask, folder, capfd):
    """A stranger planted it while the folder was open to all. Ours are closed by any umask."""
    before = os.umask(0)
    try:
        ask()
    finally:
        os.umask(before)
    (path,) = entries(folder)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o622)
    broken(ask, folder, capfd)


def test_an_entry_that_cannot_be_touched_is_used(ask, folder, monkeypatch, capfd):
    """A cache that was filled before and can only be read."""
    ask()

    def refuses(*_):
        raise OSError(30, "read-only")

    monkeypatch.setattr(program_cache.os, "utime", refuses)
    assert ask() == 0
    assert not capfd.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "input/output error")])
def test_an_entry_that_cannot_be_read_now_stays(ask, folder, monkeypatch, capfd, error):
    ask()

    def refuses(*_, **__):
        raise error

    monkeypatch.setattr(program_cache, "deserialize_and_load", refuses)
    assert ask() == 1
    said = capfd.readouterr().err
    assert (said.count("\n"), "removed" in said) == (1, False)
    monkeypatch.undo()
    assert ask() == 0


@pytest.mark.parametrize("at", ["deserialize_and_load", "serialize"])
def test_an_interrupt_is_no_damage(ask, folder, monkeypatch, at):
    """C code makes a `SystemError` of Ctrl-C."""
    if at != "serialize":
        ask()

    def interrupted(*_, **__):
        raise SystemError("in C") from KeyboardInterrupt()

    monkeypatch.setattr(program_cache, at, interrupted)
    with pytest.raises(SystemError):
        ask()
    assert len(entries(folder)) == (at != "serialize")


def test_two_writers_of_one_entry(ask, folder, monkeypatch, capfd):
    """The second writes all of it while the first is in the middle: no half, nothing left over."""

    def halfway(part, content):
        monkeypatch.undo()  # the second writes at once
        with part.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            other = threading.Thread(target=ask)
            other.start()
            other.join()
            assert ask() == 0  # whole, although the first is not done
            file.write(content[len(content) // 2 :])

    monkeypatch.setattr(program_cache, "write_through", halfway)
    assert ask() == 1
    assert ask() == 0
    assert len(entries(folder)) == 1
    assert not capfd.readouterr().err


def test_the_least_recently_used_go(ask, folder, monkeypatch):
    """The folder stays below its limit, and holds on to what is no program."""
    (folder / "thesis.tex").write_text("theirs")
    ask("a"), ask("b")
    size = max(path.stat().st_size for path in folder.glob("*.program"))
    for age, path in enumerate(sorted(folder.glob("*.program"), key=os.path.getmtime)):
        os.utime(path, (age, age))
    (folder / ".part-7-left.program").write_bytes(b"0" * size)
    os.utime(folder / ".part-7-left.program", (0, 0))
    assert ask("a") == 0  # used last
    monkeypatch.setattr(program_cache, "MOST_BYTES", 2 * size)
    ask("c")
    assert [ask("a"), ask("c"), len(entries(folder))] == [0, 0, 3]
    assert ask("b") == 1


def test_a_folder_that_others_may_write_to_is_not_used(folder, simulated, capfd):
    folder.mkdir()
    folder.chmod(0o777)
    assert program_cache.kept_programs(*simulated) is anew
    said = capfd.readouterr().err
    assert (said.count("\n"), "chmod go-w" in said) == (1, True)
    assert str(folder) in said
    folder.chmod(0o700)
    assert program_cache.kept_programs(*simulated) is not anew


def test_a_folder_that_cannot_be_made_stops_no_run(folder, simulated, capfd, monkeypatch):
    folder.write_text("a file")
    assert program_cache.kept_programs(*simulated) is anew
    assert capfd.readouterr().err.count("\n") == 1
    monkeypatch.setenv(program_cache.VARIABLE, "off")
    assert program_cache.kept_programs(*simulated) is anew
    assert not capfd.readouterr().err
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv(program_cache.VARIABLE, "~no-such-user/x")
    assert program_cache.kept_programs(*simulated) is anew
    assert capfd.readouterr().err.count("\n") == 1
    assert not list(folder.parent.glob("~*"))


def test_a_program_from_jaxs_own_cache_is_not_kept(ask, folder):
    """JAX 0.10 writes such a program without its functions: it loads, and fails when called."""
    with enable_compilation_cache(True):
        reset_cache()
        ask()
        for path in entries(folder):  # of the first compilation
            path.unlink()
        assert [ask(), ask(), entries(folder)] == [1, 1, []]


def test_the_users_cache_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.delenv(program_cache.VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert program_cache._folder() == tmp_path / ".cache" / "ssddl_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert program_cache._folder() == tmp_path / "x" / "ssddl_jax"
    assert (tmp_path / "x" / "ssddl_jax").stat().st_mode & 0o777 == 0o700
