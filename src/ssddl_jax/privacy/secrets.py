"""SecAgg's secrets in a view: which of them its shares reconstruct, and the masks they expand to.

    known = known_masks(header, seen)           (attempt, i, j) of every known mask
    words = SecretShares(transcript, header)    the words of shares, uploads and masks

An adversary with t shares of a secret knows it: its coalition's shares count, and so do those that
the survivors opened to the server. A self-mask seed gives the mask (0, u, u); a mask key gives the
member's masks with all its partners, (0, i, j) with i < j. The certificate needs these masks first.
"""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from ssddl_jax import reference
from ssddl_jax.core.arithmetic.rings import RINGS
from ssddl_jax.planning.plan import load_prg
from ssddl_jax.privacy.messages import Header, Message, pairs
from ssddl_jax.privacy.shares import streams
from ssddl_jax.reference.secagg import MASK_KEY, SELF_MASK, elements

_TAGS = {"seed": (SELF_MASK, b"SELF"), "key": (MASK_KEY, b"MKEY")}
Words = UInt32[np.ndarray, " W"]
Secret = tuple[str, int]  # "seed" or "key", and its owner


def secret_of(header: Header, message: Message) -> Secret:
    """The secret that a share belongs to. Opened: a survivor's seed, a vanished member's key."""
    kind = message.kind.removesuffix(" share")
    if kind == "opened":
        kind = "seed" if header.alive[header.slot(message.sender)] else "key"
    return kind, message.sender


def known_secrets(header: Header, seen: Iterable[Message]) -> dict[Secret, list[Message]]:
    """Every known secret, and the messages that give it: the secret itself, or t of its shares."""
    own: dict[Secret, list[Message]] = {}
    shares: dict[Secret, dict[int, Message]] = {}
    for message in seen:
        if message.kind in ("seed", "key"):
            own[message.kind, message.sender] = [message]
        elif message.kind in ("seed share", "key share", "opened"):
            held = shares.setdefault(secret_of(header, message), {})
            held[message.receiver] = message  # a share seen twice counts once
    enough = {
        secret: list(held.values())[: header.threshold]
        for secret, held in shares.items()
        if len(held) >= header.threshold
    }
    return enough | own


def known_masks(header: Header, seen: Iterable[Message]) -> set[tuple[int, int, int]]:
    """(0, i, j) of every mask that the messages give; i = j is member i's self-mask."""
    secrets = known_secrets(header, seen)
    own = {(0, i, i) for kind, i in secrets if kind == "seed"}
    ends = {i for kind, i in secrets if kind == "key"}
    return own | {(0, i, j) for i, j in pairs(header, 0) if i in ends or j in ends}


class SecretShares:
    """The words of a secagg round's shares, uploads and masks, recomputed from its chain."""

    def __init__(self, transcript: dict[str, Any], header: Header) -> None:
        self._header = header
        self._chain = [int(word) for word in transcript["chain"]]
        self._prg = load_prg(str(transcript["prg"]))
        self._encoded = np.asarray(transcript["encoded"], np.uint32)
        self._secrets = {
            (kind, i): elements(self._chain, i, 0, tag)
            for kind, (_, tag) in _TAGS.items()
            for i in header.sharers
        }
        self._coefficients: dict[Secret, list[list[int]]] = {}

    def expect(self, messages: Iterable[Message]) -> None:
        """Does nothing: secrets are short, and masks are computed on demand."""

    def words(self, message: Message) -> Words:
        """The words of an upload u32 [W], or of a secret or its share: eight elements of F_p."""
        if message.kind == "upload":
            return self.upload(message.sender)
        secret = secret_of(self._header, message)
        if message.kind in _TAGS:
            return np.array(self._secrets[secret], np.uint32)
        kind, owner = secret
        if secret not in self._coefficients:
            self._coefficients[secret] = [
                elements(self._chain, owner, 4 * degree + _TAGS[kind][0], b"SECA")
                for degree in range(1, self._header.threshold)
            ]
        points = [self._header.slot(message.receiver) + 1]
        rows = self._coefficients[secret]
        share = reference.shamir_shares(self._secrets[secret], rows, points, reference.PRIME)[0]
        return np.array(share, np.uint32)

    def opened(self, words: dict[Message, Words]) -> dict[Message, Words]:
        """The masks that a view's shares give, as `Message("mask", 0, i, j)`.

        Computed from the words of the shares and from what replaces the partners' public keys.
        """
        secrets = {}
        for secret, messages in known_secrets(self._header, words).items():
            rows = [words[message].tolist() for message in messages]
            if messages[0].kind not in _TAGS:
                points = [self._header.slot(message.receiver) + 1 for message in messages]
                rows = [reference.interpolate_at_zero(points, rows, reference.PRIME)]
            secrets[secret] = rows[0]
        return self._masks(secrets, known_masks(self._header, words))

    def upload(self, sender: int) -> Words:
        """The words that a member sent, or would have sent."""
        around = [(0, i, j) for i, j in pairs(self._header, 0) if sender in (i, j)]
        ring = RINGS[self._header.ring_bits]
        sent = jnp.asarray(self._encoded[self._header.slot(sender)])
        for mask, made in self._masks(self._secrets, [(0, sender, sender), *around]).items():
            words = jnp.asarray(made)
            sent = ring.add(sent, words if mask.receiver == sender else ring.negate(words))
        return np.asarray(sent)

    def _masks(
        self, secrets: dict[Secret, list[int]], masks: Iterable[tuple[int, int, int]]
    ) -> dict[Message, Words]:
        """PRG(b_i) and PRG(K_ij); the higher id adds K_ij's, the lower subtracts it."""
        wanted = sorted(masks)
        keys = [self._key(secrets, i, j) for _, i, j in wanted]
        if not keys:
            return {}
        made = streams(self._prg, np.array(keys, np.uint32), self._encoded.shape[1])
        return {Message("mask", *mask): row for mask, row in zip(wanted, made, strict=True)}

    def _key(self, secrets: dict[Secret, list[int]], i: int, j: int) -> list[int]:
        if i == j:
            return secrets["seed", i]
        mine, theirs = (i, j) if ("key", i) in secrets else (j, i)
        public = self._secrets["key", theirs]
        both = [a ^ b for a, b in zip(secrets["key", mine], public, strict=True)]
        return reference.derive_key(both, 0, i, j, b"PAIR")
