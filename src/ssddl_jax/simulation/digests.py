"""Digests that identify a run to the bit (docs/protocol.md, sections 5 and 9)."""

import hashlib
from typing import Any

import jax
import numpy as np

VOID = "0" * 64  # the digest of a void round


def words_sha256(words: Any) -> str:
    """SHA-256 (hex) of uint32 or float32 words, little-endian."""
    array = np.asarray(words)
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def arrays_sha256(tree: Any) -> str:
    """SHA-256 (hex) of a tree's arrays with their dtypes and shapes."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def flat_params(params: Any) -> np.ndarray:
    """Parameters f32 [d] in `ravel_pytree` order."""
    leaves = [np.asarray(leaf, np.float32).ravel() for leaf in jax.tree.leaves(params)]
    return np.concatenate(leaves)


def run_sha256(aggregate_digests: list[str], params: Any) -> str:
    """SHA-256 (hex) of the rounds' 32-byte digests in order, then the final parameters."""
    joined = b"".join(bytes.fromhex(digest) for digest in aggregate_digests)
    return hashlib.sha256(joined + flat_params(params).astype("<f4").tobytes()).hexdigest()
