"""Text from users, files and the system: recorded and printed without being read as markup, and
without ever causing an error.
"""

import codecs
import os
import re
import sys

_MARKDOWN = set("\\`*_[]<>|~&$#!\n\r")  # characters with a meaning in Markdown
_ESCAPES = "ssddl-escapes"


def shown(value: object) -> str:
    """A value's text. Bytes of a file name that Python could not decode in this locale are decoded
    as UTF-8; bytes that are not UTF-8 become escapes.
    """
    text = str(value)
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate of another kind
        content = text.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def printable(value: object) -> str:
    """A value's text with escapes for terminal control characters; line breaks stay."""
    text = shown(value)
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def literal(value: object) -> str:
    """The text itself if it contains no Markdown, else as a code span that also fits a table."""
    text = str(value)
    if not _MARKDOWN & set(text):
        return text
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def start_in_utf8() -> None:
    """Restarts this process in Python's UTF-8 mode if the locale's encoding is ASCII, in which
    neither Python nor JAX could read all names of modules and files. Output keeps its encoding.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.environ.setdefault("PYTHONIOENCODING", getattr(sys.stdout, "encoding", "ascii"))
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def escape_what_cannot_be_printed() -> None:
    """Makes stdout and stderr print characters that the encoding lacks as escapes, and undecoded
    bytes of a file name unchanged.
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
