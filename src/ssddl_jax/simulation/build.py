"""`build_simulation`: turns a config, a model and data into pure functions, `init` and `step`."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ssddl_jax.baselines.base import Parts, Rival, the_model
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.config import Config, check_name
from ssddl_jax.config.dropout_schedule import read_schedule
from ssddl_jax.config.metrics import METRICS, asked
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.learning.local_training import LocalSteps, TrainTile, drawn_first, train_tile
from ssddl_jax.core.learning.models import Model, Params, as_model, load_model
from ssddl_jax.core.learning.optimizers import local_optimizer, server_optimizer
from ssddl_jax.core.learning.population import Data, check_kind
from ssddl_jax.core.records import Info, Recipe, State
from ssddl_jax.core.round import Init, shared_round
from ssddl_jax.core.sharing.base import Scheme, Sharing
from ssddl_jax.planning.checks import rounding_notes
from ssddl_jax.planning.memory_limit import check_least_memory
from ssddl_jax.planning.plan import Plan, make_plan
from ssddl_jax.planning.requests import check_sampled
from ssddl_jax.simulation.compiling import Compiled, Keep, anew, compile_once, named, pinned
from ssddl_jax.simulation.jax_settings import check_jax
from ssddl_jax.simulation.own_parts import check_model, notes, optimizer_of
from ssddl_jax.simulation.padding import check_padding
from ssddl_jax.simulation.reference_engine import reference_round
from ssddl_jax.simulation.schemes import sharing_of, suited

Tree = TypeVar("Tree")


class Simulation(NamedTuple):
    """A run as functions.

    `init()` returns the first `State` for `seed`, and `init_at(seed)` that of another seed, which
    may be given as its two words u32 [2], also traced.
    `step(state, data) -> (state, info)` is one round: pure and jittable, one XLA program.
    `step_kept(state, data) -> (state, info, rows)` is the same round, and also returns every row
    that `step` only adds up. It is None for a protocol without secure sums.
    `plan`, `recipe`, `model`: the numbers and static choices from which the round was built.
    `compiled`: False for engine reference, whose step is also pure but runs on the host in Python
    integers.
    `evaluated_models(state)`: the models [m, ...] whose mean test accuracy is reported; protocol
    standalone has many.
    `notes`: remarks on the rounding, and on parts that the user supplied.
    """

    seed: int
    init: Callable[[], State]
    init_at: Callable[[int | jax.Array], State]
    step: Callable[[State, Data], tuple[State, Info]]
    step_kept: Callable[[State, Data], Any]
    plan: Plan
    recipe: Recipe
    model: Model
    compiled: bool = True
    evaluated_models: Callable[[State], Params] = the_model
    notes: tuple[str, ...] = ()


def build_simulation(
    config: Config,
    model: Any,
    data: Data,
    *,
    local: optax.GradientTransformation | None = None,
    server: optax.GradientTransformation | None = None,
    sharing: Callable[[Scheme], Sharing] | None = None,
    train: TrainTile | None = None,
    steps: LocalSteps | None = None,
    mesh: Mesh | None = None,
    sampled: tuple[int, ...] = (),
) -> Simulation:
    """Checks everything static and builds the round. Compiles nothing.

    `model`: a name, a flax module or an `(init, apply)` pair; None takes the config's model.
    `data`: from `load_data` or `make_data`. The other arguments replace what the config names:
    `local` and `server` (optax optimizers), `sharing` (a builder, see `core/sharing/base.py`),
    `train` and `steps` (see `core/learning/local_training.py`), `mesh` (one axis, see
    `core/devices.py`). `sampled`: slots whose uploads every round returns (`Info.sampled`).
    Raises `ConfigError` if the config, model, data or parts cannot work.
    """
    check_jax()
    check_kind(data)
    if data.participants != config.participants:
        remedy = f"the data has {data.participants} participants"
        raise ConfigError("participants", config.participants, remedy)
    if model is None or isinstance(model, str):
        check_name("model", model or config.model)
        model = load_model(model or config.model, data.shape, data.classes)
    model = as_model(model)
    counts = np.asarray(data.counts)
    protocol = protocol_of(config)
    mesh = mesh or make_mesh(1 if protocol.one_by_one else config.devices)
    plan = make_plan(config, model, data.shape, counts, mesh)
    check_least_memory(config, plan, data.most_rows, mesh)
    rule = config.rule_in_force
    if sharing is None:
        check_sampled(config, sampled)
    scheme = suited(config.engine, rule, plan.scheme)._replace(sampled=sampled)
    steps = steps or local_steps(config, counts, data.most_rows)
    params = check_model(model, data.shape, data.classes)
    local, server = _optimizers(config, local, server, params, steps.in_a_round(data.most_rows))
    if train is None and (steps.padded or protocol.padded):
        check_padding(model, data.shape, steps.batch_size)
    recipe = Recipe(
        scheme=scheme,
        model=model,
        train=drawn_first(train or train_tile(model, local, steps, scheme.traits)),
        server=server,
        participants=config.participants,
        selection=config.selection,
        weighted=config.weighting == "examples",
        weight_max=plan.weight_max,
        stochastic=plan.headroom.rounding == "stochastic",
        tile_size=plan.tile_size,
        precision=config.precision,
        dropouts=_scheduled_dropouts(config),
        measures={name: METRICS[name].measure for name in asked(config)},
    )
    kept: Any = None
    if protocol.own:
        rival: Rival = resolve(protocol.own.builder)(Parts(config, recipe, local, steps))
    else:
        streamed, kept = _shared_rounds(config, recipe, sharing)
        rival = Rival(streamed, server.init)

    def init_at(seed: int | jax.Array) -> State:
        state = Init(recipe, data.shape, seed)
        return state._replace(server=rival.server_state(state.params))

    return Simulation(
        seed=config.seed,
        init=lambda: init_at(config.seed),
        init_at=init_at,
        step=pinned(rival.step, config.precision),
        step_kept=kept,
        plan=plan,
        recipe=recipe,
        model=model,
        compiled=not config.in_python,
        evaluated_models=rival.evaluated_models,
        notes=(*rounding_notes(config, plan.headroom), *notes(model, data.shape, local)),
    )


def _optimizers(config: Config, local: Any, server: Any, params: Params, steps: int) -> Any:
    """The local and the server optimizer: those given, else those that the config names."""
    if local is None:
        check_name("local_optimizer", config.local_optimizer)
    if server is None:
        check_name("server_optimizer", config.server_optimizer)
    local = optimizer_of(
        *("local", "local_optimizer", config.local_optimizer, local, params),
        lambda: local_optimizer(config.local_optimizer, config.learning_rate),
        steps,
    )
    server = optimizer_of(
        *("server", "server_optimizer", config.server_optimizer, server, params),
        lambda: server_optimizer(config.server_optimizer),
    )
    return local, server


def _shared_rounds(
    config: Config, recipe: Recipe, sharing: Callable[[Scheme], Sharing] | None
) -> tuple[Callable[[State, Data], tuple[State, Info]], Callable[[State, Data], Any]]:
    """The round with secret sharing: without its rows, and with all of them."""
    if config.in_python:
        streamed = kept = reference_round(config, recipe)
    else:
        builder = sharing or sharing_of(config.engine, config.rule_in_force)
        streamed = shared_round(recipe, builder(recipe.scheme))
        keeping = shared_round(recipe, builder(recipe.scheme), keep=True)
        kept = pinned(keeping, config.precision)

    def step(state: State, data: Data) -> tuple[State, Info]:
        after, info, _ = streamed(state, data)
        return after, info

    return step, kept


def compile_step(
    simulation: Simulation,
    state: State,
    data: Data,
    traceable: bool = False,
    keep: Keep = anew,
    lowered: Callable[[], None] = lambda: None,
) -> Compiled:
    """Compiles the step once, for placed arguments with these shapes.

    A step that runs in Python is returned as is. `traceable`: a trace shows every operation. `keep`
    may give a kept program instead. `lowered` is called before XLA compiles.
    """
    if not simulation.compiled:
        return Compiled(simulation.step, 0.0, 1)
    step = named(simulation.step)
    return compile_once(step, state, data, traceable=traceable, keep=keep, lowered=lowered)


def local_steps(config: Config, counts: np.ndarray, most_rows: int) -> LocalSteps:
    """The local steps of a config, for participants with `counts` rows; the largest has most."""
    batch, ragged = min(config.batch_size, most_rows), bool(np.any(counts != most_rows))
    return LocalSteps(
        epochs=config.local_epochs,
        batch_size=batch,
        ragged=ragged,
        padded=ragged or most_rows % batch != 0,
    )


def place(tree: Tree, recipe: Recipe) -> Tree:
    """Places `Data` or a `State` on the devices of all processes; each holds a full copy."""
    if jax.process_count() > 1:  # one process cannot move its arrays to another's devices
        tree = jax.tree.map(np.asarray, tree)
    return jax.device_put(tree, _everywhere(recipe))


def placed_like(tree: Tree, recipe: Recipe) -> Tree:
    """The shapes of what `place` gives, from arrays or shapes."""
    everywhere = _everywhere(recipe)

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        weak = getattr(leaf, "weak_type", False)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere, weak_type=weak)

    return jax.tree.map(shape, tree)


def _everywhere(recipe: Recipe) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(recipe.scheme.mesh, jax.sharding.PartitionSpec())


def _scheduled_dropouts(config: Config) -> tuple[np.ndarray, np.ndarray] | None:
    if config.dropout_schedule is None:
        return None
    pairs = [(r, i) for r, ids in sorted(read_schedule(config).items()) for i in sorted(ids)]
    rounds, ids = np.array(pairs, np.int32).reshape(-1, 2).T
    return rounds, ids
