"""What a run withstands, in plain words: collusion, dropouts, late uploads."""

from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of, server_learns
from ssddl_jax.planning.plan import Plan
from ssddl_jax.planning.standing import RULES

_RULES = {
    "retry": "If members vanish after sharing, the others share again under fresh keys. An upload "
    "that comes late breaks it: the server's two sums then differ by exactly that member's update.",
    "reveal": "If members vanish after sharing, the others open the pair keys that they share with "
    "them. An upload that comes late breaks it: the opened keys unmask it.",
    "shamir": "A member that vanishes after sharing stays in the sum: the others hold its shares. "
    "A late upload tells the server nothing new.",
    "secagg": "If members vanish after sharing, the others open shares of their mask keys, and "
    "shares of the self-mask seeds of those who stayed, never both of one member. A late upload "
    "stays hidden under its self-mask.",
}


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
        _RULES[config.rule],
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
        opens = f": {_opens(config, plan)}" if RULES[config.rule].shares else ""
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
    if plan.standing.failure:
        fixed = ", fixed before the draw,"
        odds = (
            f"except with probability {plan.standing.odds(config.rounds)}: then the honest "
            "survivors fall apart"
        )
    opens = f"; {_opens(config, plan)}" if RULES[config.rule].shares else ""
    return (
        f"{graph} ({setting}). The server with at most {most} members{fixed} {learns}, "
        f"{odds}{opens}."
    )


def _opens(config: Config, plan: Plan) -> str:
    """What t shares open, and why that many if nobody said so."""
    secret = " secret, and both of a member's unmask it" if config.rule == "secagg" else ""
    complete = plan.neighbours >= plan.size - 1
    chosen = config.rule == "secagg" and complete and config.threshold == "auto"
    why = " (all that max_dropout leaves, so that most may collude)" if chosen else ""
    return f"any t = {plan.threshold} shares{why} open one{secret}"


def _dropouts(config: Config, plan: Plan) -> str:
    least, sharers = plan.least_alive, plan.standing.least_summed
    more = f", of {sharers} who shared" if sharers > least else ""
    parts = ", or in two parts" if _can_part(config, plan) else ""
    if config.rule == "secagg" and plan.neighbours < plan.size - 1:
        parts = ", or fewer of a member's partners, or in two parts"
    return (
        f"A round needs {least} of {plan.size} uploads{more}: {plan.size - least} may vanish; with "
        f"fewer{parts} it is void and changes nothing."
    )


def _can_part(config: Config, plan: Plan) -> bool:
    """Whether survivors of a sparse graph may be cut off from each other: retry draws a new one."""
    return config.sums_securely and config.rule == "reveal" and plan.neighbours < plan.size - 1
