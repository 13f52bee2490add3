"""Paths and text files that a user names: read, or refused in one line."""

import os
from pathlib import Path

from ssddl_jax.errors import ConfigError


def read_text(field: str, path: str | Path, most: int) -> str:
    """A text file of at most so many bytes, as UTF-8. Raises `ConfigError` naming `field`."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        why = getattr(error, "strerror", None) or error
        raise ConfigError(field, path, f"cannot be read: {why}") from error
    if len(content) > most:  # or endless, as /dev/zero is
        raise ConfigError(field, path, f"is larger than {most >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        what = "a TOML file" if field == "config" else "text"
        raise ConfigError(field, path, f"is not {what}: {error}") from error


def check_path(field: str, path: str | Path) -> None:
    """Refuses a path at which nothing can be: too long, with a zero byte, or by a broken link."""
    try:
        for part in (Path(path), *Path(path).parents):
            if part.is_symlink() and not part.exists():
                raise ConfigError(field, path, f"{part} is a link to nowhere; remove the link")
            if len(os.fsencode(part.name)) > 255:
                raise ConfigError(field, path, "has a name of more than 255 bytes; shorten it")
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(field, path, f"can be no file or folder: {why}") from error
