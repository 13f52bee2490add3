"""Mutated command lines and files: case number c is the same for ever.

A *wild* case may say anything; if the program would serve it, it is stopped before it compiles. A
*tame* case is small and possible by construction, and really runs.
"""

import contextlib
import io
import os
import random
import re
from typing import NamedTuple

import numpy as np

from fuzz_words import BIG, LITERALS, NUMBERS, PLUGINS, WORDS
from ssddl_jax.cli import COMMANDS, main
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import PROTOCOLS

TAME_SHARE = 0.03  # of all cases
ROWS = 60
SIZE = {"--participants": "5", "--group-size": "4", "--rounds": "1", "--devices": "1"}
SIZE |= {"--tile-size": "2", "--model": "linear"}
KINDS = [(name,) for name in COMMANDS if name != "bench"]
KINDS += [("bench", "share"), ("bench", "round")] if "bench" in COMMANDS else []
ONLY_WAY = ["--weighting=uniform", "--server-optimizer=mean", "--dropout-rule=retry"]
ONLY_WAY += ["--transport=seeded", "--engine=pairwise"]  # what some rivals leave no choice of
TRAINING = {"run", "plan", "transcript", "compile"}  # take --data and --partition


class Case(NamedTuple):
    """What is typed, the files beside it, and whether it may really run."""

    number: int
    argv: list[str]
    files: dict[str, bytes]
    tame: bool
    touched: tuple[str, ...]  # what was mutated, for the record


def case(number):
    """Case `number`."""
    rng = random.Random(f"ssddl {number}")
    if rng.random() < TAME_SHARE:
        return tame(number, rng)
    makers = [wild_flags] * 6 + [wild_tokens] * 2 + [wild_toml] * 4
    makers += [wild_data] * 2 + [wild_schedule, wild_plugin, wild_sizes, wild_path]
    return rng.choice(makers)(number, rng)


def base(kind, rng):
    """A possible command line of this kind."""
    argv = [*kind]
    flags = flags_of(kind)
    for flag, value in SIZE.items():
        if flag in flags:
            argv += [flag, value]
    if "--data" in flags and kind[0] in TRAINING:
        argv += ["--data", "tiny.npz"]
    if kind == ("transcript",):
        argv += ["--out", "t.npz"]
    if kind == ("bench", "share"):
        argv += ["--dimension", "20", "--repeats", "1"]
    if kind == ("bench", "round"):
        argv += ["--examples", "3", "--repeats", "1"]
    if kind in (("resume",), ("verify",), ("report",)):
        argv.append("folder")
    if rng.random() < 0.5 and "--json" in flags:
        argv.append("--json")
    return [*argv, *quick(kind, rng)]


def quick(kind, rng):
    """Most plans time no rounds, so that they may end by themselves."""
    most = "--no-calibration" in flags_of(kind) and rng.random() < 0.9
    return ["--no-calibration"] if most else []


_FLAGS = {}


def flags_of(kind):
    """Every flag of a command, from its help."""
    if kind not in _FLAGS:
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            main([*kind, "--help"])
        _FLAGS[kind] = sorted(set(re.findall(r"--[a-z][a-z-]*", told.getvalue())) - {"--help"})
    return _FLAGS[kind]


def junk(rng):
    return rng.choice(NUMBERS if rng.random() < 0.5 else WORDS)


def wild_flags(number, rng):
    """One to three flags with odd values; later flags win."""
    kind = rng.choice([("plan",), ("run",), *KINDS])
    argv, touched = base(kind, rng), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        flag = rng.choice(flags_of(kind) or ["--json"])
        value = junk(rng)
        argv += [f"{flag}={value}"] if rng.random() < 0.7 else [flag, value]
        touched.append(flag)
    return Case(number, argv, {}, False, tuple(touched))


def wild_tokens(number, rng):
    """Tokens dropped, doubled, swapped, cut, misspelt, inserted."""
    kind = rng.choice([*KINDS, ("bench",), ()])
    argv = base(kind, rng) if kind in KINDS else [*kind, "x"]
    for _ in range(rng.randint(1, 4)):
        at, action = rng.randrange(len(argv) + 1), rng.randrange(6)
        if action == 0:
            argv.insert(at, junk(rng))
        elif action == 1:
            argv = argv[:at]
        elif at < len(argv):
            token = argv[at]
            where = rng.randrange(len(token) + 1)
            argv[at : at + 1] = {
                2: [],
                3: [token, token],
                4: [token[:where] + rng.choice("abc-=\u00e90 ") + token[where:]],
                5: [argv[rng.randrange(len(argv))]],
            }[action]
    return Case(number, argv, {}, False, ("tokens",))


def wild_sizes(number, rng):
    """Requests of any size."""
    kind = rng.choice(KINDS)
    argv = base(kind, rng)
    sized = "participants group-size rounds local-epochs batch-size dimension examples repeats"
    sized += " local-steps neighbours tile-size eval-every threshold processes seeds devices round"
    sized += " sigma eta"
    possible = [flag for name in sized.split() if (flag := f"--{name}") in flags_of(kind)]
    if "--partition" in flags_of(kind) and kind[0] in TRAINING and rng.random() < 0.6:
        argv += ["--partition", f"resample:{rng.choice((1, 20, 10**6, 2**31 - 1))}"]
    if "--neighbours" in possible and rng.random() < 0.4:
        argv += ["--neighbours", rng.choice(("auto", "4"))]
    if "--engine" in flags_of(kind) and rng.random() < 0.3:
        argv += ["--engine", "ideal"]
    touched = rng.sample(possible, min(len(possible), rng.randint(1, 3)))
    for flag in touched:
        argv += [flag, str(rng.choice([10 ** rng.randint(2, 12), *BIG]))]
    return Case(number, argv, {}, False, tuple(touched))


def wild_path(number, rng):
    """Odd places for `out` and for files that are read."""
    kind = rng.choice([("run",), ("run",), ("transcript",), ("plan",), ("scale",)])
    flags = [
        f for f in ("--out", "--config", "--data", "--dropout-schedule") if f in flags_of(kind)
    ]
    flag, odd = rng.choice(flags), rng.choice([w for w in WORDS if not w.startswith("--")])
    odd = rng.choice([odd, f"{odd}/{odd}", f"folder/{odd}", "/dev/zero", "/proc/self/mem"])
    return Case(number, [*base(kind, rng), f"{flag}={odd}"], {}, False, (flag,))


def wild_toml(number, rng):
    """A config file with wrong values, or that is hardly one."""
    names = list(Config.__dataclass_fields__)
    lines = ['data = "tiny.npz"', 'model = "linear"', "participants = 5", "group_size = 4"]
    lines += ["rounds = 1", "devices = 1", "tile_size = 2"]
    if rng.random() < 0.7:
        for _ in range(rng.choice((1, 1, 2, 3))):
            name = rng.choice([*names, *names, "grup", "", "a.b", '"\\u0000"', "environment"])
            lines.insert(rng.randrange(len(lines) + 1), f"{name} = {rng.choice(LITERALS)}")
        if rng.random() < 0.5:  # of a key written twice, the later one counts here
            table = {line.split(" = ")[0]: line for line in lines}
            lines = list(table.values())
    if rng.random() < 0.1:
        lines.insert(
            rng.randrange(len(lines)), rng.choice(["[run]", "[[a]]", "[environment]", "["])
        )
    text = spoilt("\n".join(lines).encode(errors="surrogateescape"), rng, 0.3)
    kind = (rng.choice(("run", "plan", "plan")),)
    argv = [*kind, "--config", "c.toml", *quick(kind, rng)]
    if rng.random() < 0.5:
        argv.append("--json")
    return Case(number, argv, {"c.toml": text}, False, ("config",))


def spoilt(content, rng, chance):
    """Bytes that may have been cut, flipped, doubled or replaced."""
    while rng.random() < chance:
        at, action = rng.randrange(len(content) + 1), rng.randrange(7)
        if action == 0:
            content = content[:at]
        elif action == 1 and at < len(content):
            content = (
                content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
            )
        elif action == 2:
            content = content[:at] + b"\0" + content[at:]
        elif action == 3:
            content = content + content
        elif action == 4:
            content = rng.randbytes(rng.choice((0, 1, 100, 5000)))
        elif action == 5:
            content = b"\xef\xbb\xbf" + content
        else:
            content = content.decode("latin-1").encode("utf-16")
    return content


def wild_schedule(number, rng):
    """A schedule of dropouts that is none, or of nobody."""
    cells = [
        "0",
        "1",
        "4",
        "5",
        "-1",
        "x",
        "",
        "1.5",
        " 2",
        "9" * 5000,
        '"',
        "0,0",
        "\u0663",
        str(2**31),
    ]
    rows = [
        ",".join(rng.choice(cells) for _ in range(rng.choice((1, 2, 2, 2, 3)))) for _ in range(3)
    ]
    text = rng.choice(["", "round,participant\n"]) + "\n".join(rows)
    if rng.random() < 0.1:
        text += "\n0," + "1" * 200_000
    content = spoilt(text.encode(), rng, 0.4)
    argv = base(rng.choice((("run",), ("plan",), ("transcript",))), rng)
    rule = rng.choice(("retry", "reveal", "shamir"))
    argv += ["--dropout-schedule", "s.csv", "--dropout-rule", rule]
    return Case(number, argv, {"s.csv": content}, False, ("dropout_schedule",))


def changed(value, rng):
    """An array of another kind, shape, length or content."""
    odd = value.astype(np.float32)
    odd.reshape(-1)[: rng.randint(0, 3)] = rng.choice((np.nan, np.inf, -1, 1e30, 300))
    kind = rng.choice(("f8", "f2", "i8", "u1", "S4", "U4", "c8", "M8[s]", "?", "O"))
    shapes = (value[:0], value[:1], value[:-1], value[..., None], value.reshape(-1), value[0])
    others = (odd, np.zeros((3, 0, 2), "u1"), np.array(7), value.T)
    negative = (-value.astype("i8"), value.astype("i8") * 2**40)
    return rng.choice((*shapes, *others, *negative, *[value.astype(kind)] * 4))


def wild_data(number, rng):
    """An .npz with an array missing, of another kind, shape or length, or broken off."""
    arrays = tiny_arrays()
    for _ in range(rng.randint(1, 2)):
        key = rng.choice([*arrays, "writers", "train_index"])
        with (
            contextlib.suppress(Exception),
            np.errstate(all="ignore"),
        ):  # not every change can be made twice
            arrays[key] = changed(np.atleast_1d(arrays.get(key, np.arange(ROWS))), rng)
        if rng.random() < 0.2:
            arrays.pop(key, None)
    file = io.BytesIO()
    rng.choice((np.savez, np.savez_compressed))(file, **arrays)
    content = spoilt(file.getvalue(), rng, 0.3)
    argv = base(rng.choice((("run",), ("plan",), ("transcript",))), rng)
    if rng.random() < 0.3:
        argv += ["--partition", rng.choice(("writers", "shards:2", "dirichlet:0.1"))]
    return Case(number, [*argv, "--data", "odd.npz"], {"odd.npz": content}, False, ("data",))


def wild_plugin(number, rng):
    """A plug-in that is absent, fails, or is something else."""
    field = rng.choice(("model", "prg", "local-optimizer", "server-optimizer"))
    name = rng.choice(("plugin:thing", "plugin:thing", "plugin:thing", "plugin:other", "plugin:"))
    argv = base(rng.choice((("run",), ("plan",), ("bench", "round"))), rng)
    files = {"plugin.py": rng.choice(PLUGINS).encode()}
    return Case(number, [*argv, f"--{field}", name], files, False, (field,))


def tame(number, rng):
    """A small request that is possible, and really runs."""
    kind = rng.choice((("run",), ("run",), ("run",), ("transcript",), ("bench", "share")))
    argv = base(kind, rng)
    rule = rng.choice(("retry", "reveal", "shamir"))
    choices = {
        "--shares": ("directed", "paired"),
        "--transport": ("seeded", "explicit"),
        "--ring-bits": ("32",) if rule == "shamir" else ("32", "64"),
        "--rounding": ("auto", "nearest", "stochastic"),
        "--weighting": ("uniform", "examples"),
        "--prg": ("chacha20", "chacha12", "chacha8"),
        "--dropout": ("0", "0.3", "1"),
        "--clip": ("1", "1e-30", "0.01", "1000"),
        "--learning-rate": ("0.1", "1e38", "1e-40", "1e300"),
        "--server-optimizer": ("mean", "adam", "yogi"),
        "--local-optimizer": ("sgd", "adam"),
        "--selection": ("random", "rotate"),
        "--seed": ("0", str(2**64 - 1)),
        "--engine": ("pairwise", "reference", "ideal") if rule == "retry" else ("pairwise",),
        "--partition": ("iid", "shards:2", "dirichlet:0.1", "resample:3"),
    }
    argv += ["--dropout-rule", rule, "--threshold", "2"]
    here = [flag for flag in choices if flag in flags_of(kind)]
    if kind == ("bench", "share"):
        choices["--engine"] = ("pairwise",)
    for flag in rng.sample(here, rng.randint(1, 4)):
        argv += [flag, rng.choice(choices[flag])]
    if kind == ("run",) and rng.random() < 0.2:
        name = rng.choice(("--explain", *PROTOCOLS))
        argv += ["--explain"] if name == "--explain" else [*ONLY_WAY, f"--protocol={name}"]
    return Case(number, argv, {}, True, ())


def tiny_arrays():
    """60 + 12 images u8 [8, 8] of 4 classes."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (ROWS + 12, 8, 8), np.uint8)
    labels = (np.arange(ROWS + 12) % 4).astype(np.uint8)
    return {
        "x_train": images[:ROWS],
        "y_train": labels[:ROWS],
        "x_test": images[ROWS:],
        "y_test": labels[ROWS:],
    }


def lay_out(folder, files):
    """The files of a case, and what odd paths need."""
    np.savez(folder / "tiny.npz", **tiny_arrays())
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "thing").write_text("mine")
    os.symlink("loop", folder / "loop")
    os.symlink("nowhere", folder / "dangling")
    for name, content in files.items():
        (folder / name).write_bytes(content)
