"""Logging of the command lines: plain lines on stderr, coloured on a terminal only."""

import logging
import os
import sys

RESET = "\x1b[0m"
COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}


class _ColourFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        colour = COLOURS.get(record.levelno)
        return f"{colour}{line}{RESET}" if colour else line


def setup() -> None:
    """Send what the loggers below "m13" say to stderr as `HH:MM:SS name message`.

    M13_DEBUG=1 in the environment makes every command tell more.
    """
    coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    formatter = (_ColourFormatter if coloured else logging.Formatter)(
        "%(asctime)s %(name)s %(message)s", "%H:%M:%S"
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logger = logging.getLogger("m13")
    logger.handlers = [handler]
    debugging = os.environ.get("M13_DEBUG", "0") not in ("", "0")
    logger.setLevel(logging.DEBUG if debugging else logging.INFO)
