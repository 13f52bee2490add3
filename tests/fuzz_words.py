"""What mutated requests say: numbers, words, TOML values, and plug-ins that are none."""

BIG = [2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**9, 10**12, 10**30, int("9" * 400)]
NUMBERS = ["0", "-1", "-0", "1", "2", "3", "4", "7", "64", "1e3", "1.5", "0.5", "-0.1", "0.999999"]
NUMBERS += ["1e-400", "1e400", "1e-45", "3.4e38", "nan", "inf", "-inf", "1_0", "0x10", "\u0663"]
NUMBERS += ["1e-9", "+5", " 5", "05", "0.1e1", "9" * 5000, *map(str, BIG), *(f"-{b}" for b in BIG)]
WORDS = ["", " ", "all", "auto", "complete", "none", "None", "true", "False", "null", "[]", "{}"]
WORDS += ["a\nb", "a\rb", "a\tb", "a\0b", "\u00e9\u20ac", "\u202e", "\U0001f600", "\udcff", "%s"]
WORDS += ["{0}", "$(id)", "'", '"', "--json", "--", "-", "=", "a" * 5000, "../..", "/", "/dev/null"]
WORDS += ["~", "~nobody/x", ".", "..", ":", "a:", ":a", "os:getcwd", "os.path:join", "math:pi"]
WORDS += ["no_module:x", "json:none.deeper", ".x:y", "a b:c", "a:b:c", "iid", "writers", "shards:2"]
WORDS += ["shards:0", "shards:99999999999", "resample:3", "resample:2147483647", "resample:-1"]
WORDS += ["dirichlet:0.5", "dirichlet:1e-300", "dirichlet:nan", "dirichlet:0", "dirichlet:1e400"]
WORDS += ["mlp", "mlp-64", "cnn", "linear", "sgd", "adam", "mean", "yogi", "momentum", "chacha8"]
WORDS += ["chacha12", "ssddl", "plain", "secagg", "central", "pairwise", "ideal", "reference"]
WORDS += ["secagg+", "snt", "dssgd", "phong-lwe", "round-robin", "asynchronous", "largest"]
WORDS += ["retry", "reveal", "shamir", "directed", "paired", "seeded", "explicit", "rotate"]
WORDS += ["uniform", "examples", "nearest", "stochastic", "exclude", "stop", "random", "digits"]
WORDS += ["tpu", "cuda", "tpu:v5e:2x2", "tpu:v9z:0x0", "127.0.0.1:1", "slurm", "mpi4py"]
WORDS += ["file", "folder", "full", "loop", "dangling", "file/below", "new/deep/er", "n" * 300]
LITERALS = ["0", "-1", "3", "1.5", "nan", "-inf", "+inf", "true", '""', '"all"', '"3"', "[1, 2]"]
LITERALS += [
    "{a = 1}",
    "1979-05-27",
    "07:32:00",
    '"a\\u0000b"',
    '"\\n"',
    "''",
    "0x1F",
    "0b1",
    "1e999",
]
LITERALS += [
    *map(str, BIG),
    "9" * 5000,
    "0x" + "f" * 5000,
    "[" * 3000,
    "[[]]",
    '"""a\nb"""',
    "1_000",
    "3.0",
    "false",
]

PLUGINS = ["raise RuntimeError('no\\nluck')", "import sys; sys.exit(0)", "raise SystemExit('x')"]
PLUGINS += [
    "thing = 3",
    "thing = None",
    "def thing(): return 3",
    "def thing(*a): raise KeyError(a)",
]
PLUGINS += ["thing = (1, 2)", "thing = (lambda k, x: 1/0, lambda p, x: x)", "x = = 1", "\0"]
PLUGINS += ["thing = (lambda k, x: {}, lambda p, x: x)", "1/0"]
PLUGINS += ["import jax.numpy as j\nthing = (lambda k, x: j.zeros(3), lambda p, x: p)"]
PLUGINS += ["import jax.numpy as j\nthing = (lambda k, x: j.zeros(3), lambda p, x: 1/0)"]
PLUGINS += [
    "import jax.numpy as j\nthing = (lambda k, x: j.zeros(3, int), lambda p, x: p[:, None])"
]
PLUGINS += ["import optax\nthing = lambda *a: optax.GradientTransformation(None, None)"]
PLUGINS += ["import optax\nthing = lambda *a: optax.GradientTransformation(lambda p: 1/0, None)"]
PLUGINS += ["import ssddl_jax as sd\nthing = sd.PRG('x', 20, lambda *a: 1/0)"]
