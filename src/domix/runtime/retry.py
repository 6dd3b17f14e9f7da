"""How long a transfer bears with a server, and how it is told to stop."""

from __future__ import annotations

from dataclasses import dataclass


class Stopped(Exception):
    """Another thread has asked for an end; what has come is kept."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long a download bears with a server.

    Attributes:
        attempts: consecutive attempts that bring not a byte, before an address is given up.
        first_wait, longest_wait: seconds before the second attempt, doubled for each further one up to the longest.
        connect, read: seconds without an answer, and without a byte, after which a connection is given up.
    """

    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    connect: float = 15.0
    read: float = 60.0
