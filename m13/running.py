"""What runs on this machine: each hub and node has a telemetry page and a control socket."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from m13.control import ask, socket_path
from m13.errors import HostError
from m13.telemetry import living_pages


@dataclass(frozen=True)
class Running:
    role: str
    tun_name: str
    namespace: str  # inode of its network namespace
    page: Path

    @property
    def socket_path(self) -> Path:
        return socket_path(self.role, self.tun_name, self.namespace)


def find(everywhere: bool = False) -> list[Running]:
    """Those of this network namespace; when there are none and it may be, those of others."""
    found = []
    for page in living_pages():
        role, _, rest = page.name.removeprefix("m13.").partition(".")
        tun_name, _, namespace = rest.rpartition(".")
        found.append(Running(role, tun_name, namespace, page))
    inode = str(os.stat("/proc/self/ns/net").st_ino)
    here = [one for one in found if one.namespace == inode]
    return here or (found if everywhere else [])


def reload(name: str | None) -> None:
    """Of all that run here, or of the one whose TUN has that name."""
    found = [one for one in find() if name in (None, one.tun_name)]
    if not found:
        wanted = f" with TUN {name}" if name else ""
        raise HostError(
            f"no hub or node{wanted} runs here: start one, or ask as root and in its namespace"
        )
    for one in found:
        say_reloaded(one, ask(one.socket_path, "reload"))


def say_reloaded(one: Running, answer: dict[str, Any]) -> None:
    said = [answer["note"]] if "note" in answer else []
    said += [
        f"{len(value)} {word} ({', '.join(value)})" if value else f"0 {word}"
        for word, value in answer.items()
        if isinstance(value, list)
    ]
    said += [f"{value} {word}" for word, value in answer.items() if isinstance(value, int)]
    click.echo(f"{one.tun_name} ({one.role}): {', '.join(said)}")
