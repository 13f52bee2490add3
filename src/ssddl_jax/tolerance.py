"""What a run withstands, in plain words: collusion, dropouts, late uploads."""

from ssddl_jax.config import Config
from ssddl_jax.plan import Plan
from ssddl_jax.protocols import facts_of

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
    if config.protocol == "plain":
        return ["The server sees every member's update in the clear.", _dropouts(config, plan)]
    if not config.sums_securely:
        facts = facts_of(config)
        return [
            f"The server learns {facts.server}; a participant learns {facts.participant}.",
            f"Dropouts survived: {facts.survives}.",
        ]
    return [
        _collusion(config, plan),
        _dropouts(config, plan),
        _RULES[config.rule],
        "The sum itself is never hidden: what it tells of a member is not covered.",
    ]


def least_uploads(config: Config, plan: Plan) -> int:
    """Uploads without which a round is void."""
    if not config.sums_securely:
        return plan.least_alive if config.protocol == "plain" else 1
    if config.rule == "shamir":
        return plan.threshold
    return max(3, plan.threshold) if config.rule == "secagg" else plan.least_alive


def _collusion(config: Config, plan: Plan) -> str:
    size, most = plan.size, plan.max_colluders
    secret = " secret, and both of a member's unmask it" if config.rule == "secagg" else ""
    learns = "learns only the sum of the honest members' updates"
    if config.rule == "shamir" or (config.rule == "secagg" and plan.neighbours >= size - 1):
        return (
            f"The server with at most {most} of the {size} members {learns}: "
            f"any t = {plan.threshold} shares open one{secret}."
        )
    if plan.neighbours >= size - 1:
        return f"The server with at most {most} of the {size} members {learns}."
    graph = f"Each of the {size} members shares with k = {plan.neighbours} others, drawn anew"
    setting = (
        f"gamma = {config.max_corrupt:g} corrupt, delta = {config.max_dropout:g} vanished, "
        f"sigma = {config.sigma}, eta = {config.eta}"
    )
    found = ""
    if config.graph == "auto":
        found = f"; with threshold t = {plan.threshold} among them, SecAgg+'s, chosen likewise"
    if not most:
        return (
            f"{graph}: too few to promise anything against collusion with the server if "
            f"others vanish ({setting}); neighbours auto, or more of them, would."
        )
    return (
        f"{graph}{found}. The server with at most {most} members, fixed before the draw, {learns}, "
        f"but for a chance below 2^-{config.sigma} that the honest survivors fall apart "
        f"({setting})."
    )


def _dropouts(config: Config, plan: Plan) -> str:
    least = least_uploads(config, plan)
    spare = plan.size - least
    parts = ", or in two parts" if _can_part(config, plan) else ""
    if config.rule == "secagg" and plan.neighbours < plan.size - 1:
        parts = ", or fewer of a member's partners,"
    return (
        f"A round needs {least} of {plan.size} uploads: {spare} may vanish; with fewer{parts} it "
        "is void and changes nothing."
    )


def _can_part(config: Config, plan: Plan) -> bool:
    """Whether survivors of a sparse graph may be cut off from each other: retry draws a new one."""
    return config.sums_securely and config.rule == "reveal" and plan.neighbours < plan.size - 1
