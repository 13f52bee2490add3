"""Views: exactly what an adversary of a round sees, and nothing else.

    view = view_of(transcript, adversary)

What a view determines (`certificate`) is computed from a `View` or a `Header`, never from the
transcript, which belongs to the simulator and shows everything.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt32

from ssddl_jax.common.lazily import resolve
from ssddl_jax.privacy.messages import (
    Adversary,
    Header,
    Message,
    header_of,
    late_ids,
    sealed,
    visible,
)


class View(NamedTuple):
    """What an adversary has after a round: public facts, and the words of the messages it saw."""

    header: Header
    adversary: Adversary
    words: dict[Message, UInt32[np.ndarray, " W"]]  # as sent; secagg's secrets and shares: [8]
    sealed: dict[Message, int]  # encrypted messages on the links, and how many words each has
    params: Float32[np.ndarray, " d"] | None  # the round's parameters; None for a listener alone
    fraction_bits: int


def view_of(transcript: dict[str, Any], adversary: Adversary) -> View:
    """An adversary's view of the round of a transcript.

    Updates, used uploads and the aggregate are the transcript's words. Shares and unused uploads
    are recomputed from the round's chain. In secagg the view also holds the masks that its shares
    give, as `Message("mask", 0, i, j)`. Raises `ConfigError` as `messages.visible` does.
    """
    header = header_of(transcript)
    seen = visible(header, adversary)
    rows = {int(i): slot for slot, i in enumerate(header.group)}
    made = resolve(header.rule.views)(transcript, header)
    made.expect(seen)
    words: dict[Message, np.ndarray] = {}
    for message in seen:
        slot = rows.get(message.sender, 0)
        if message.kind == "update":
            words[message] = np.asarray(transcript["encoded"])[slot]
        elif message.kind == "aggregate":
            words[message] = np.asarray(transcript["aggregate"])
        elif message.kind == "upload" and header.counted(message.attempt, message.sender):
            words[message] = np.asarray(transcript["uploads"])[slot]
        else:
            words[message] = made.words(message)
    words |= made.opened(words)
    (width, dimension) = (np.asarray(transcript[k]).shape[1] for k in ("encoded", "updates"))
    late = late_ids(header, adversary)
    links = sealed(header, late, width, dimension) if adversary.links else {}
    everybody = adversary.server or bool(adversary.coalition)
    return View(
        header=header,
        adversary=adversary,
        words=words,
        sealed=links,
        params=np.asarray(transcript["params_before"]) if everybody else None,
        fraction_bits=int(transcript["fraction_bits"]),
    )
