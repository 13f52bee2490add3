"""`transcript`: every message of one round, in one file, as only the simulator can see it."""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.common.atomic import beside
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.paths import user_path
from ssddl_jax.config.config import Config
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Info, MemberRows, Recipe, State
from ssddl_jax.core.sharing.base import Attempt, Scheme
from ssddl_jax.core.sharing.partners import attempt_graph, partners_of
from ssddl_jax.data.loading import load_data
from ssddl_jax.planning.plan import WORD, Plan
from ssddl_jax.planning.requests import check_shown
from ssddl_jax.simulation.build import build_simulation, compile_step, place
from ssddl_jax.simulation.compiling import compile_once
from ssddl_jax.simulation.digests import flat_params

_MOST_BYTES = 4 << 30
Arrays = dict[str, Any]  # numpy arrays and scalars


def transcript(config: Config, round_: int, **parts: Any) -> Arrays:
    """The transcript of one round of the run that `config` describes (docs/design.md, section 2).

    Earlier rounds are streamed, as in `run`; the round itself keeps all rows. Returns named numpy
    arrays. `parts` are the arguments of `build_simulation`, including `data` and `model`. Raises
    `ConfigError` if there is nothing to show, or if it would not fit in memory.
    """
    return next(transcripts(config, [round_], **parts))


def transcripts(config: Config, rounds: Collection[int], **parts: Any) -> Iterator[Arrays]:
    """Transcripts of several rounds of one run, in ascending order, each as soon as it exists."""
    check_shown(config, rounds)
    host_data = parts.pop("data", None) or load_data(config)
    simulation = build_simulation(config, parts.pop("model", None), host_data, **parts)
    plan, recipe = simulation.plan, simulation.recipe
    if (size := transcript_bytes(config, plan)) > _MOST_BYTES:
        fewer = "" if config.rule_in_force.complete else ", or fewer neighbours"
        remedy = f"a transcript would take {size >> 20} MiB; use a smaller group or model{fewer}"
        raise ConfigError("group_size", plan.size, remedy)
    data = place(host_data, recipe)
    state: State = place(simulation.init(), recipe)
    last = max(rounds)
    keep = simulation.step_kept
    if simulation.compiled:
        keep = compile_once(keep, state, data, donate=False).call
    tables = partner_tables(recipe.scheme)
    streams = len(set(rounds)) <= last  # some rounds are not requested
    step = compile_step(simulation, state, data).call if streams else keep
    for round_ in range(last + 1):
        if round_ in rounds:
            after, info, rows = keep(state, data)
            yield _arrays(config, plan, recipe, data, tables, state, after, info, rows)
            state = after
        else:
            state, *_ = step(state, data)


def transcript_bytes(config: Config, plan: Plan) -> int:
    """What a transcript holds: three rows of each member, and each attempt's partners, which are
    copied once.
    """
    tables = 2 * plan.size * plan.neighbours * config.rule_in_force.attempts
    return WORD * (3 * plan.size * plan.width + tables)


def _arrays(
    config: Config,
    plan: Plan,
    recipe: Recipe,
    data: Data,
    tables: Callable[[State, Any, Any, int], np.ndarray],
    state: State,
    after: State,
    info: Info,
    rows: MemberRows,
) -> Arrays:
    """The arrays of a transcript, copied because the next round reuses the state's buffers."""
    weights = np.asarray(data.counts)[np.asarray(info.group)] if recipe.weighted else 1
    final = tables(state, info.group, info.members, int(info.attempt))
    first = final
    if int(info.attempt):
        first = tables(state, info.group, info.finite, 0)
    return {
        "round": np.int32(state.round),
        "attempt": np.int32(info.attempt),
        "chain": np.array(state.chain),
        "group": np.array(info.group, np.int32),
        "neighbours": final,
        "first_neighbours": first,
        "alive": np.array(info.alive),
        "finite": np.array(info.finite),
        "weights": np.broadcast_to(np.asarray(weights, np.uint32), plan.size).copy(),
        "updates": np.array(rows.updates),
        "encoded": np.array(rows.encoded),
        "uploads": np.array(rows.uploads),
        "aggregate": np.array(info.aggregate),
        "fraction_bits": np.int32(plan.encoding.fraction_bits),
        "clip": np.float32(config.clip),
        "prg": np.str_(config.prg),
        "prg_rounds": np.int32(plan.prg.rounds),
        "shares": np.str_(recipe.scheme.shares),
        "transport": np.str_(config.transport),
        "params_before": flat_params(state.params),
        "params_after": flat_params(after.params),
        "void": np.bool_(info.void),
        "engine": np.str_(config.engine),
        "dropout_rule": np.str_(config.rule_in_force.name),
        "ring_bits": np.int32(config.ring_bits),
        "threshold": np.int32(plan.threshold),
        "least_summed": np.int32(plan.guarantees.least_summed),
    }


def partner_tables(scheme: Scheme) -> Callable[[State, Any, Any, int], np.ndarray]:
    """A function (state, group, members, attempt) -> the global ids of each member's partners, i32
    [n, k], padded with -1. It compiles once.
    """

    @jax.jit
    def ids_of(attempt: Attempt) -> jax.Array:
        slots = jnp.arange(scheme.size, dtype=jnp.int32)
        partners, valid = partners_of(scheme, attempt, attempt_graph(scheme, attempt), slots)
        return jnp.where(valid, attempt.ids.astype(jnp.int32)[partners], -1)

    def table(state: State, group: Any, members: Any, number: int) -> np.ndarray:
        attempt = Attempt(
            chain=state.chain,
            public=state.public,
            round=state.round,
            number=jnp.uint32(number),
            ids=jnp.asarray(group, jnp.uint32),
            members=jnp.asarray(members),
            alive=jnp.asarray(members),
        )
        found = np.array(ids_of(attempt))
        for row in found:  # padding last
            kept = row[row >= 0]
            row[: len(kept)], row[len(kept) :] = kept, -1
        return found

    return table


def write_transcript(arrays: Arrays, path: str | os.PathLike[str]) -> None:
    """Writes a transcript to `path`: all of it, or nothing."""
    with beside(Path(user_path("out", path))) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
