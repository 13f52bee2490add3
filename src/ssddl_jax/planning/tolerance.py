"""What a run withstands, in plain words: collusion, dropouts, late uploads."""

from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of, server_learns
from ssddl_jax.planning.plan import Plan


def tolerance(config: Config, plan: Plan) -> list[str]:
    """Sentences for people; the numbers are those of the plan."""
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
        "The sum itself is never hidden: what it tells of a member is not covered.",
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
        return f"The server with at most {most} of the {size} members {learns}{opens}."
    graph = f"Each of the {size} members shares with k = {plan.neighbours} others, drawn anew"
    if config.graph == "auto":
        graph += f"; with threshold t = {t} among them, SecAgg+'s, chosen likewise"
    if not most and config.max_corrupt * size < 1:
        return f"{graph}: nothing is promised against collusion, max_corrupt of them is nobody."
    if not most:
        return (
            f"{graph}: too few to promise anything against collusion with the server if "
            f"others vanish ({setting}); neighbours auto, or more of them, would."
        )
    fixed, odds = "", "whatever the draw"
    if plan.guarantees.failure:
        fixed = ", fixed before the draw,"
        odds = (
            f"except with probability {plan.guarantees.odds(config.rounds)}: then the honest "
            "survivors fall apart"
        )
    opens = f"; {_opens(config, plan)}" if config.rule_in_force.needs_threshold else ""
    return (
        f"{graph} ({setting}). The server with at most {most} members{fixed} {learns}, "
        f"{odds}{opens}."
    )


def _opens(config: Config, plan: Plan) -> str:
    """What t shares open, and why that many if nobody said so."""
    secrets = config.rule_in_force.opens == "secrets"
    secret = " secret, and both of a member's unmask it" if secrets else ""
    complete = plan.neighbours >= plan.size - 1
    chosen = secrets and complete and config.threshold == "auto"
    why = " (all that max_dropout leaves, so that most may collude)" if chosen else ""
    return f"any t = {plan.threshold} shares{why} open one{secret}"


def _dropouts(config: Config, plan: Plan) -> str:
    least, sharers = plan.least_alive, plan.guarantees.least_summed
    more = f", of {sharers} who shared" if sharers > least else ""
    return (
        f"A round needs {least} of {plan.size} uploads{more}: {plan.size - least} may vanish; with "
        f"fewer{_parts(config, plan)} it is void and changes nothing."
    )


def _parts(config: Config, plan: Plan) -> str:
    """What else voids a round on a sparse graph: survivors that are cut off from each other, where
    something is opened between them (retry draws a new graph).
    """
    if not config.sums_securely or plan.neighbours >= plan.size - 1:
        return ""
    few = ", or fewer of a member's partners"
    parts = {"": "", "keys": ", or in two parts", "secrets": f"{few}, or in two parts"}
    return parts[config.rule_in_force.opens]
