"""Text of users, files and the system, as it is recorded, printed and laid out: never taken for
markup, and never a reason to fail.
"""

import codecs
import os
import re
import sys

_MARKDOWN = set("\\`*_[]<>|~&$#!\n\r")  # what it reads something into
_ESCAPES = "ssddl-escapes"


def shown(value: object) -> str:
    """A value's text, with what Python could not read of a file's name in this locale; bytes that
    are no UTF-8 stand as escapes.
    """
    text = str(value)
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate of another kind
        content = text.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def printable(value: object) -> str:
    """A value's text with escapes for what would steer a terminal; lines stay lines."""
    text = shown(value)
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def literal(value: object) -> str:
    """The text itself where Markdown reads nothing into it, else a code span, which may stand in a
    table's cell, too.
    """
    text = str(value)
    if not _MARKDOWN & set(text):
        return text
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def start_in_utf8() -> None:
    """Starts this process anew, in Python's UTF-8 mode, where the locale's encoding is ASCII: names
    of the user's modules and of their files would be none that Python, or JAX, could read. What is
    printed keeps its encoding.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.environ.setdefault("PYTHONIOENCODING", getattr(sys.stdout, "encoding", "ascii"))
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def escape_what_cannot_be_printed() -> None:
    """Characters that a terminal's encoding lacks are printed as escapes, and bytes of a file's
    name as they are.
    """
    codecs.register_error(_ESCAPES, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ESCAPES)


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    pieces = [
        bytes([ord(c) - 0xDC00])
        if "\udc80" <= c <= "\udcff"
        else c.encode("ascii", "backslashreplace")
        for c in error.object[error.start : error.end]
    ]
    return b"".join(pieces), error.end
