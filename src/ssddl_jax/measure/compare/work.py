"""What a round costs each role: seconds of the real computation here, words, operations, waiting.

A participant's and the server's parts are run by themselves, each as the code of the round or of
the rival does it, on one participant's sizes, compiled, warm, and timed; where a part is too large
to run whole, a slice is run and scaled, and the row says so. Nothing is quoted from a paper.
"""

import functools
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.baselines import lwe, paillier
from ssddl_jax.baselines.selecting import largest
from ssddl_jax.baselines.traffic import chosen
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.config import Config
from ssddl_jax.core.arithmetic.chacha import CHACHA20
from ssddl_jax.core.arithmetic.encoding import decode_words, encode_rows
from ssddl_jax.core.arithmetic.field import MERSENNE31, combine, horner, lagrange_at_zero
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.sharing.base import Attempt, Scheme
from ssddl_jax.core.sharing.schedules.kernels import LANES, key_sums, lanes_of, written
from ssddl_jax.core.sharing.secagg import interpolate, open_shares
from ssddl_jax.measure.compare import lwe_cost
from ssddl_jax.planning.network import messages
from ssddl_jax.planning.plan import Plan
from ssddl_jax.simulation.build import Simulation, place

_SECONDS = 0.4  # spent on timing a part, once it is warm
_ROWS = 32  # uploads added to time the adding of all
LWE_SLICE, PAILLIER_SLICE = 256, 130


class Cost(NamedTuple):
    """One role's part of a round."""

    train_seconds: float = 0.0
    protect_seconds: float = 0.0  # everything that is not training: masks, sums, ciphertexts
    prg_words: int = 0
    operations: int = 0  # multiplications in a field, modulo q, or of big integers

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.train_seconds + self.protect_seconds


class Work(NamedTuple):
    """A round by roles. `depth` participants work one after another; `exchanges`: messages that
    wait for one another; `exact`: ciphertexts of a slice decrypted to the sum; `renewal`: seconds
    in which one of the participants encrypts the whole model anew, once a round.
    """

    participant: Cost
    server: Cost
    depth: int
    exchanges: int
    note: str = ""
    exact: bool | None = None
    renewal: float = 0.0

    @property
    def seconds(self) -> float:
        """A round's computation from end to end: participants side by side unless in turn."""
        return self.depth * self.participant.seconds + self.renewal + self.server.seconds


def measure(config: Config, simulation: Simulation, data: Data) -> Work:
    """One round's work under this config's protocol. Raises `ConfigError` where an extra that the
    protocol needs is not installed.
    """
    train = _training(simulation, data)
    if config.sums_securely:
        return _secure(config, simulation, train)
    return _OTHERS[config.protocol](config, simulation, train)


def timed(call: Callable[..., Any], *arguments: Any) -> float:
    """Median seconds of a compiled call, warm."""
    compiled = jax.jit(call).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < 20 and sum(seconds) < _SECONDS):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def _training(simulation: Simulation, data: Data) -> float:
    """Seconds of one participant's local training."""
    recipe, width = simulation.recipe, simulation.plan.tile_size
    here, state = place(data, recipe), place(simulation.init(), recipe)
    ids = jnp.asarray(np.arange(width) % recipe.participants, jnp.int32)
    return timed(recipe.train, state.params, here, state.public, state.round, ids) / width


def _keys(count: int) -> jax.Array:
    """Keys of a measurement: any words do."""
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(0, 2**32, (max(count, 1), 8), dtype=np.uint32))


def _masks(scheme: Scheme, count: int) -> float:
    """Seconds of making and adding so many masks."""
    if not count:
        return 0.0
    some = min(count, 1024)
    call = partial(key_sums, scheme.prg, scheme.ring, scheme.width)
    return timed(call, _keys(some), jnp.ones(some, bool)) * count / some


def _encoding(scheme: Scheme) -> float:
    row = jnp.linspace(-1, 1, scheme.dimension, dtype=jnp.float32)[None]
    return timed(lambda x: encode_rows(x, jnp.ones(1, jnp.uint32), scheme.encoding), row)


def _adding(scheme: Scheme, count: int) -> float:
    """Seconds of adding so many uploads, and of decoding their sum."""
    rows = jnp.zeros((min(count, _ROWS), scheme.width), jnp.uint32)
    add = timed(scheme.ring.sum, rows) * count / len(rows)
    return add + timed(lambda total: decode_words(total, scheme.encoding), rows[0])


def _secure(config: Config, simulation: Simulation, train: float) -> Work:
    """Secure sums: masks at the members; sums, and what dropouts cost, at the server."""
    scheme = simulation.recipe.scheme._replace(prg=simulation.plan.prg)  # its form for many words
    member, server = resolve(config.rule_in_force.work)(config, simulation.plan, scheme)
    protect = member.protect_seconds + _encoding(scheme)
    member = member._replace(train_seconds=train, protect_seconds=protect)
    return Work(member, server, 1, messages(config, lost=simulation.plan.vanishing > 0))


def pair_work(config: Config, plan: Plan, scheme: Scheme) -> tuple[Cost, Cost]:
    """What pads of pairs cost a member, its encoding left out, and the server."""
    rule, gone, alive = config.rule_in_force, plan.vanishing, plan.size - plan.vanishing
    ends = 1 if config.paired else 2
    per_attempt = ends * plan.neighbours if config.engine != "ideal" else 1
    attempts = rule.attempts if gone else 1
    opened = ends * gone * min(plan.neighbours, alive) if rule.opens else 0
    seconds = attempts * _adding(scheme, alive) + _masks(scheme, opened)
    protect = attempts * _masks(scheme, per_attempt)
    member = Cost(0.0, protect, attempts * per_attempt * plan.width)
    return member, Cost(0.0, seconds, opened * plan.width)


def field_work(config: Config, plan: Plan, scheme: Scheme) -> tuple[Cost, Cost]:
    """The same of Shamir's shares of the update itself."""
    t, width = plan.threshold, plan.width
    seconds, operations = _dealing(scheme)
    uploads = jnp.zeros((min(_ROWS, t), width), jnp.uint32)
    opening = timed(partial(_interpolating, scheme), uploads) * t / len(uploads)
    return Cost(0.0, seconds, (t - 1) * width, operations), Cost(0.0, opening, 0, t * width)


def secagg_work(config: Config, plan: Plan, scheme: Scheme) -> tuple[Cost, Cost]:
    """The same of SecAgg's masks and shared secrets."""
    k, t, gone, alive = plan.neighbours, plan.threshold, plan.vanishing, plan.size - plan.vanishing
    masks, lost = k + 1, gone * min(k, alive)
    dealing, recovering = _secrets(scheme, gone)
    protect = _masks(scheme, masks) + dealing
    seconds = _adding(scheme, alive) + _masks(scheme, alive + lost) + recovering
    member = Cost(0.0, protect, masks * plan.width, 16 * k * (t - 1))
    return member, Cost(0.0, seconds, (alive + lost) * plan.width, plan.size * 8 * t)


def _dealing(scheme: Scheme) -> tuple[float, int]:
    """Seconds of dealing Shamir shares of one update to everybody, timed at some of the points."""
    points = min(scheme.size, _ROWS)
    at = jnp.arange(1, points + 1, dtype=jnp.uint32)[:, None, None]

    def deal(keys: jax.Array) -> jax.Array:
        ones = jnp.ones(len(keys), jnp.uint32)
        words = written(scheme.prg, list(keys.T), ones, jnp.uint32(0), scheme.num_blocks)
        coefficients = jnp.swapaxes(lanes_of(words), 0, 1) & jnp.uint32(MERSENNE31.prime)

        def lower(value: jax.Array, coefficient: jax.Array) -> tuple[jax.Array, None]:
            return horner(MERSENNE31, value, coefficient[None], at), None

        start = jnp.zeros((points, 16, scheme.num_blocks), jnp.uint32)
        return jax.lax.scan(lower, start, coefficients[: scheme.threshold - 1])[0]

    drawn = max(4, scheme.threshold - 1)  # words of fewer keys compile badly
    seconds = timed(deal, _keys(drawn)) * scheme.size / points
    return seconds, scheme.size * (scheme.threshold - 1) * scheme.width


def _interpolating(scheme: Scheme, uploads: jax.Array) -> jax.Array:
    weights = jnp.arange(1, len(uploads) + 1, dtype=jnp.uint32)
    return combine(MERSENNE31, lagrange_at_zero(MERSENNE31, weights), uploads)


def _secrets(scheme: Scheme, gone: int) -> tuple[float, float]:
    """Seconds of one member's dealing shares of its two secrets to all its holders, from the time
    of those that are opened; and of the server's interpolating one secret of every member.
    """
    slots = jnp.arange(scheme.size, dtype=jnp.int32)
    attempt = Attempt(
        chain=_keys(1)[0],
        public=_keys(1)[0],
        round=jnp.uint32(0),
        number=jnp.uint32(0),
        ids=slots.astype(jnp.uint32),
        members=slots >= 0,
        alive=slots >= gone,
    )
    opening = partial(open_shares, scheme)
    opened = jax.jit(opening)(attempt)
    ratio = 2 * (scheme.neighbours + 1) / scheme.threshold
    dealing = timed(opening, attempt) / scheme.size * ratio
    return dealing, timed(interpolate, opened.points, opened.shares)


def _plain(config: Config, simulation: Simulation, train: float) -> Work:
    plan = simulation.plan
    rows = tuple(jnp.zeros((min(plan.size, _ROWS), plan.dimension), jnp.float32))
    add = timed(lambda x: functools.reduce(jnp.add, x), rows) * plan.size / len(rows)
    return Work(Cost(train), Cost(0.0, add), 1, 2)


def _dssgd(config: Config, simulation: Simulation, train: float) -> Work:
    plan = simulation.plan
    count = chosen(config.dssgd_theta_u, plan.dimension)
    change = jnp.linspace(-1, 1, plan.dimension, dtype=jnp.float32)
    index = jnp.arange(count, dtype=jnp.int32)
    choose = timed(lambda x: largest(x, count), change)
    add = timed(lambda w, i: w.at[i].add(w[i]), change, index)
    return Work(Cost(train, choose), Cost(0.0, plan.size * add), plan.size, 2 * plan.size)


def _snt(config: Config, simulation: Simulation, train: float) -> Work:
    plan, blocks = simulation.plan, -(-simulation.plan.dimension // 16)

    def streams(keys: jax.Array) -> Any:
        ones = jnp.ones(len(keys), jnp.uint32)
        return written(CHACHA20, list(keys.T), ones, jnp.uint32(0), blocks)

    one = timed(streams, _keys(LANES)) / LANES  # some side by side: one alone compiles badly
    member = Cost(train, 2 * one, 2 * plan.dimension)  # decrypted, and encrypted again
    return Work(member, Cost(), plan.size, 2 * plan.size)


def _lwe(config: Config, simulation: Simulation, train: float) -> Work:
    plan = simulation.plan
    width = min(LWE_SLICE, plan.dimension)
    found = lwe_cost.measure(width)
    d, n = plan.dimension, plan.size
    fixed = found["encrypt_fixed_seconds"]
    encrypt = fixed + d * found["encrypt_seconds_per_coordinate"]
    decrypt = d * found["decrypt_seconds_per_coordinate"]
    add = (d + lwe.PHONG.dimension) * found["add_seconds_per_coordinate"]
    operations = (2 * d + lwe.PHONG.dimension) * lwe.PHONG.dimension
    member = Cost(train, encrypt + decrypt, 0, operations)
    return _encrypted(member, Cost(0.0, n * add), plan, width, encrypt, bool(found["exact"]))


def _paillier(config: Config, simulation: Simulation, train: float) -> Work:
    plan = simulation.plan
    width = min(PAILLIER_SLICE, plan.dimension)
    found = paillier.measure(width)
    d, n = plan.dimension, plan.size
    encrypt, decrypt, add = (
        d * found[f"{what}_seconds_per_coordinate"] for what in ("encrypt", "decrypt", "add")
    )
    member = Cost(train, encrypt + decrypt, 0, 2 * paillier.ciphertexts(d))
    return _encrypted(member, Cost(0.0, n * add), plan, width, encrypt, bool(found["exact"]))


def _encrypted(
    member: Cost, server: Cost, plan: Plan, width: int, encrypt: float, exact: bool
) -> Work:
    """A round under encryption: visits in turn, and the model encrypted anew by one of them, sent
    once more (`rivals.phong`).
    """
    note = (
        f"ciphertexts made on {width:,} of {plan.dimension:,} coordinates, seconds scaled; once a "
        "round a member encrypts the model anew: in the round's seconds and messages, not in the "
        "bytes of a member"
    )
    return Work(member, server, plan.size, 2 * plan.size + 1, note, exact, encrypt)


def _central(config: Config, simulation: Simulation, train: float) -> Work:
    return Work(Cost(), Cost(simulation.plan.size * train), 1, 0)


def _standalone(config: Config, simulation: Simulation, train: float) -> Work:
    return Work(Cost(train), Cost(), 1, 0)


_OTHERS: dict[str, Callable[[Config, Simulation, float], Work]] = {
    "plain": _plain,
    "dssgd": _dssgd,
    "snt": _snt,
    "phong-lwe": _lwe,
    "phong-paillier": _paillier,
    "central": _central,
    "standalone": _standalone,
}
