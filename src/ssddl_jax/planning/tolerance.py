"""What a run tolerates, in plain sentences: collusion, dropouts, late uploads."""

from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of, server_learns
from ssddl_jax.planning.plan import Plan


def tolerance(config: Config, plan: Plan) -> list[str]:
    """Sentences for people, with the numbers of the plan."""
    protocol = protocol_of(config)
    if not protocol.secure:
        learn = f"The server learns {server_learns(config)}; a participant learns "
        survives = f"Dropouts survived: {protocol.survives}."
        return [
            protocol.exposes or f"{learn}{protocol.participant}.",
            _dropouts(config, plan) if protocol.quorum else survives,
        ]
    return [
        _collusion(config, plan),
        _dropouts(config, plan),
        config.rule_in_force.tolerance,
        "The sum itself is never hidden: what it reveals about a member is not covered.",
    ]


def _collusion(config: Config, plan: Plan) -> str:
    size, most, t = plan.size, plan.max_colluders, plan.threshold
    learns = "learns only the sum of the honest members' updates"
    setting = (
        f"gamma = {config.max_corrupt:g} corrupt, delta = {config.max_dropout:g} vanished, "
        f"sigma = {config.sigma}, eta = {config.eta}"
    )
    if plan.neighbours >= size - 1:
        opens = f": {_opens(config, plan)}" if config.rule_in_force.needs_threshold else ""
        return f"The server together with at most {most} of the {size} members {learns}{opens}."
    partners = f"k = {plan.neighbours} random others"
    graph = f"In every attempt, each of the {size} members shares with {partners}"
    if config.graph == "auto":
        graph += f", and SecAgg+'s search gives the threshold t = {t}"
    if not most and config.max_corrupt * size < 1:
        return (
            f"{graph}. This guarantees nothing against collusion: max_corrupt of {size} members is "
            "less than one member."
        )
    if not most:
        return (
            f"{graph}. These are too few to guarantee anything against collusion with the server "
            f"if other members vanish ({setting}); use neighbours auto, or more neighbours."
        )
    fixed, odds = "", "for every draw of the graph"
    if plan.guarantees.failure:
        fixed = ", fixed before the draw,"
        held = config.rule_in_force.opens == "secrets" and most >= t
        caught = f", or {t} of them are partners of one member" if held else ""
        odds = (
            f"except with probability {plan.guarantees.odds(config.rounds)}, when the graph of "
            f"the honest survivors falls apart{caught}"
        )
    opens = f"; {_opens(config, plan)}" if config.rule_in_force.needs_threshold else ""
    return (
        f"{graph} ({setting}). The server together with at most {most} members{fixed} {learns}, "
        f"{odds}{opens}."
    )


def _opens(config: Config, plan: Plan) -> str:
    """What t shares open, and why t has this value if it was chosen automatically."""
    secrets = config.rule_in_force.opens == "secrets"
    opened = "secret, and both secrets of a member unmask its update" if secrets else "update"
    complete = plan.neighbours >= plan.size - 1
    chosen = secrets and complete and config.threshold == "auto"
    why = " (as many as max_dropout leaves, which tolerates the most colluders)" if chosen else ""
    return f"any t = {plan.threshold} shares{why} open one {opened}"


def _dropouts(config: Config, plan: Plan) -> str:
    least, sharers = plan.least_alive, plan.guarantees.least_summed
    more = f", and at least {sharers} members who shared" if sharers > least else ""
    return (
        f"A round needs {least} of {plan.size} uploads{more}: {plan.size - least} may vanish. With "
        f"fewer{_parts(config, plan)}, it is void and changes nothing."
    )


def _parts(config: Config, plan: Plan) -> str:
    """What else makes a round on a sparse graph void: survivors that are cut off from each other,
    if the rule opens something (retry draws a new graph instead).
    """
    if not config.sums_securely or plan.neighbours >= plan.size - 1:
        return ""
    apart = "if the survivors' graph falls apart"
    few = f"if fewer than {plan.threshold} holders of a member's shares survive"
    parts = {"": "", "keys": f", or {apart}", "secrets": f", {few}, or {apart}"}
    return parts[config.rule_in_force.opens]
