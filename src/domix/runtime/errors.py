"""Errors that are the user's to mend: one clear sentence that names what is wrong, and where.

The library names the thing; which stage made it and what it is called in params.yaml, it does not know. So an error
carries the path that must be made anew (`remake`) or the argument that is wrong (`argument`). Who passed the argument
says what it is (`passing`), and stages and commands end the sentence with what to run (domix.project.remedies).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self


class DomixError(Exception):
    """A mistake in the input or the surroundings; the message is shown to the user without a stack trace."""

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        """Take the sentence.

        Args:
            message: says what is wrong.
            argument: name of the argument that was wrong or does not fit the rest, as the function that raises has it.
        """
        super().__init__(message)
        self.argument = argument

    def prefixed(self, where: str) -> Self:
        """Return this error, its sentence after `where` and a colon."""
        self.args = (f"{where}: {self}",)
        return self


class ParameterError(DomixError, ValueError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


class DataError(DomixError, ValueError):
    """Data are missing, damaged, or do not fit together."""

    def __init__(self, message: str, *, argument: str | None = None, remake: Path | None = None) -> None:
        """Take the sentence.

        Args:
            message: says what is wrong, and where.
            argument: as for all errors.
            remake: the file or folder that Domix itself made and that must be made anew, for it is missing, damaged or
                outdated; a folder that holds several such where it is not known which.
        """
        super().__init__(message, argument=argument)
        self.remake = remake


class Interrupted(DomixError):
    """Work was cut short before its end; running it again continues."""


@contextmanager
def passing(**arguments: str | Path) -> Generator[None]:
    """Say what the arguments of the calls within are: an error that names one is raised with that.

    Args:
        arguments: name -> its key in params.yaml, which is put before the sentence; or the file or folder that it was
            read from, if Domix made that: it is what must be made anew.
    """
    try:
        yield
    except DomixError as error:
        meant = arguments.get(error.argument or "")
        if meant is not None:
            error.argument = None
        if isinstance(meant, str):
            error.prefixed(meant)
        elif meant is not None and isinstance(error, DataError):
            error.remake = meant
        raise
