"""Errors a person can act on: one clear line saying what is wrong and what to do."""


class M13Error(Exception):
    """Root of all of ours; the command line prints it and exits with `exit_status`."""

    exit_status = 1

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class HostError(M13Error):
    """The machine refused: permission, a missing kernel feature, somebody else in the way."""

    exit_status = 1


class UsageError(M13Error):
    """A bad argument, port, address or interface."""

    exit_status = 2


class ConfigurationError(M13Error):
    """A bad configuration, key or roster file."""

    exit_status = 3


class SessionError(M13Error):
    """No session could be made with the other side."""

    exit_status = 4
