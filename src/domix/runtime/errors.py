"""Errors that are the user's to mend: one clear sentence that names what, where and what to do."""


class DomixError(Exception):
    """A mistake in the input or the surroundings; the message is shown to the user without a stack trace."""


class ParameterError(DomixError, ValueError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


class DataError(DomixError, ValueError):
    """Data are missing, damaged, or do not fit together."""


class Interrupted(DomixError):
    """Work was cut short before its end; running it again continues."""
