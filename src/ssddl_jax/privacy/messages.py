"""Who sees which messages of a round (docs/protocol.md, section 7), from public facts alone.

    header = header_of(transcript)            who took part
    seen = visible(header, adversary)         the messages that this adversary sees

All parties are honest but curious. Messages between participants are encrypted: a listener learns
who wrote to whom, and how much.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.rules import RULES, Rule

SERVER = -1  # the server as a sender or receiver


class Adversary(NamedTuple):
    """An adversary: any union of the server, some participants, and a listener on all links."""

    server: bool = False
    coalition: frozenset[int] = frozenset()  # participant ids
    late: bool | frozenset[int] = (
        False  # the vanished members (or these) whose uploads still arrive
    )
    links: bool = False  # sees encrypted traffic


class Header(NamedTuple):
    """Who took part in a round. Known to the server and all members; slots are positions 0..n-1."""

    group: Int32[np.ndarray, " n"]  # global ids
    finite: Bool[np.ndarray, " n"]  # dealt shares in attempt 0
    alive: Bool[np.ndarray, " n"]  # uploaded in the final attempt
    partners: tuple[Int32[np.ndarray, "n k"], ...]  # ids by attempt, padded with -1
    dropout_rule: str
    shares: str
    threshold: int
    ring_bits: int
    void: bool
    engine: str
    transport: str
    least_summed: int = 3  # members that a sum needs; if fewer could share, nothing was sent

    @property
    def rule(self) -> Rule:
        """The record of the dropout rule."""
        return RULES[self.dropout_rule]

    def slot(self, participant: int) -> int:
        """The slot of a member."""
        return int(np.flatnonzero(self.group == participant)[0])

    @property
    def sharers(self) -> list[int]:
        """Ids of the members that dealt shares in attempt 0."""
        return [int(i) for i in self.group[self.finite]]

    @property
    def survivors(self) -> list[int]:
        """Ids of the members that uploaded in the final attempt."""
        return [int(i) for i in self.group[self.alive]]

    @property
    def vanished(self) -> list[int]:
        """Ids of the members that shared in attempt 0 and did not upload."""
        return [int(i) for i in self.group[self.finite & ~self.alive]]

    @property
    def summed(self) -> list[int]:
        """Ids of the members whose updates the aggregate holds."""
        return self.sharers if self.rule.holds_sharers else self.survivors

    def counted(self, attempt: int, participant: int) -> bool:
        """Whether the member's upload of this attempt arrived and was used."""
        final = attempt == len(self.partners) - 1 and not self.void
        return final and bool(self.alive[self.slot(participant)])


class Message(NamedTuple):
    """One item of a view. `kind` is

    update     a member's own encoded update (sender = receiver)
    share      what the dealer (sender) gave the holder (receiver)
    upload     what a member sent to the server
    opened     a share whose key the survivors sent to the server (rule reveal); in secagg the
               receiver's share of one of the sender's secrets
    seed, key  in secagg a colluder's own self-mask seed, or mask key
    seed share, key share    the dealer's (sender's) share of it, held by the receiver
    aggregate  the round's sum: known to the server and, through the new parameters, to all members
    parameters the model sent to a member: only a listener's view holds it
    """

    kind: str
    attempt: int
    sender: int
    receiver: int


def header_of(transcript: dict[str, Any]) -> Header:
    """The public facts of a transcript."""
    retried = bool(transcript["attempt"]) and not transcript["void"]
    tables = [np.asarray(transcript["first_neighbours"])]
    if retried:
        tables.append(np.asarray(transcript["neighbours"]))
    return Header(
        group=np.asarray(transcript["group"]),
        finite=np.asarray(transcript["finite"]),
        alive=np.asarray(transcript["alive"]),
        partners=tuple(tables),
        dropout_rule=str(transcript["dropout_rule"]),
        shares=str(transcript["shares"]),
        threshold=int(transcript["threshold"]),
        ring_bits=int(transcript["ring_bits"]),
        void=bool(transcript["void"]),
        engine=str(transcript["engine"]),
        transport=str(transcript["transport"]),
        least_summed=int(transcript["least_summed"]),
    )


def visible(header: Header, adversary: Adversary) -> list[Message]:
    """The messages that an adversary sees.

    In a void round the server holds the survivors' uploads of attempt 0 if a member vanished, since
    that is noticed only afterwards. If too few members could share, nothing was sent. Under rule
    retry it holds the survivors' uploads of both attempts, a conservative assumption. Engine ideal
    computes the final attempt only.

    Raises `ConfigError` if the view cannot be taken: the coalition is not in the group, engine
    ideal has no shares to show, or a late member has not vanished.
    """
    strangers = sorted(adversary.coalition - {int(i) for i in header.group})
    if strangers:
        remedy = "all colluders must be members of the round's group"
        raise ConfigError("coalition", ", ".join(map(str, strangers)), remedy)
    if header.engine == "ideal" and (adversary.coalition or adversary.late or adversary.links):
        remedy = "has no shares, so only the server's view exists; use engine pairwise"
        raise ConfigError("engine", "ideal", remedy)
    late = late_ids(header, adversary)
    strangers = sorted(set(late) - set(header.vanished))
    if strangers or (late and not adversary.server):
        remedy = (
            "late uploads come from vanished members, and the adversary must include the server"
        )
        raise ConfigError("late", ", ".join(map(str, strangers or late)), remedy)
    sent = _anything_sent(header)
    seen = [Message("update", 0, i, i) for i in header.sharers if i in adversary.coalition]
    if not sent:
        return seen
    seen += _shares_seen(header, adversary.coalition)
    if adversary.server:
        seen += uploads_sent(header, late)
        if not header.void:
            seen += _opened(header)
    if (adversary.server or adversary.coalition) and not header.void:
        last = len(header.partners) - 1
        seen.append(Message("aggregate", last, SERVER, SERVER))
    return seen


def sealed(header: Header, late: list[int], width: int, dimension: int) -> dict[Message, int]:
    """The encrypted messages on the links: who writes to whom, and how many words.

    Shares are sent under transport explicit, and whenever the two ends cannot derive them (in
    secagg: a share of each of the two secrets).
    """
    found = {Message("parameters", 0, SERVER, int(i)): dimension for i in header.group}
    if not _anything_sent(header):
        return found
    secrets = header.rule.opens == "secrets"
    if secrets:
        for i, j in holders(header):
            if i != j:
                found[Message("share", 0, i, j)] = 2 * 8
    elif header.transport == "explicit" or header.rule.exchanges:
        for attempt in range(len(header.partners)):
            for i, j in pairs(header, attempt):
                if i != j:
                    found[Message("share", attempt, i, j)] = width
    found.update(dict.fromkeys(uploads_sent(header, late), width))
    if not header.void:
        alive = set(header.survivors)
        for message in _opened(header):
            by_holder = secrets or message.sender not in alive
            opener = message.receiver if by_holder else message.sender
            key = Message("opened", 0, opener, SERVER)
            found[key] = found.get(key, 0) + 8
    return found


def late_ids(header: Header, adversary: Adversary) -> list[int]:
    """Ids of the members whose uploads arrive too late."""
    return header.vanished if adversary.late is True else sorted(adversary.late or ())


def uploads_sent(header: Header, late: list[int]) -> list[Message]:
    """Uploads that reach the server; late ones belong to attempt 0."""
    last = len(header.partners) - 1
    attempts = [last] if header.engine == "ideal" else range(last + 1)
    seen = [Message("upload", a, i, SERVER) for a in attempts for i in header.survivors]
    return seen + [Message("upload", 0, i, SERVER) for i in late]


def _anything_sent(header: Header) -> bool:
    if header.engine == "ideal":
        return not header.void
    return not header.void or bool(header.vanished and len(header.sharers) >= header.least_summed)


def pairs(header: Header, attempt: int) -> list[tuple[int, int]]:
    """(dealer, holder) of every share of an attempt, as ids."""
    if header.rule.field:
        return [(i, j) for i in header.sharers for j in header.sharers]
    table = header.partners[attempt]
    directed = header.shares == "directed"
    return [
        (int(i), int(j))
        for i, row in zip(header.group, table, strict=True)
        for j in row
        if j >= 0 and (directed or i < j)
    ]


def holders(header: Header) -> list[tuple[int, int]]:
    """(owner, holder) of every share of a secret in secagg; a member also holds one of its own."""
    sharers = set(header.sharers)
    return [
        (i, j)
        for i, row in zip(header.group.tolist(), header.partners[0].tolist(), strict=True)
        for j in (i, *row)
        if j >= 0 and i in sharers
    ]


def _shares_seen(header: Header, coalition: frozenset[int]) -> list[Message]:
    if header.rule.opens == "secrets":
        own = [(i, i, "") for i in header.sharers if i in coalition]
        dealt = [(i, j, " share") for i, j in holders(header) if coalition & {i, j}]
        return [
            Message(f"{secret}{share}", 0, i, j)
            for i, j, share in own + dealt
            for secret in ("seed", "key")
        ]
    return [
        Message("share", a, i, j)
        for a in range(len(header.partners))
        for i, j in pairs(header, a)
        if i in coalition or j in coalition
    ]


def _opened(header: Header) -> list[Message]:
    """What the survivors open to the server.

    Under reveal: the shares between survivors and vanished members, whose keys cancel them. In
    secagg: each survivor's shares of the other members' self-mask seeds, or of their mask keys if
    they vanished.
    """
    gone, here = set(header.vanished), set(header.survivors)
    if header.rule.opens == "secrets":
        return [Message("opened", 0, i, j) for i, j in holders(header) if j in here]
    if not header.rule.opens:
        return []
    return [
        Message("opened", 0, i, j)
        for i, j in pairs(header, 0)
        if (i in gone and j in here) or (i in here and j in gone)
    ]
