"""nftables through libnftables: each M13 owns one table, put in and taken out whole."""

import ctypes
import functools
import json
from collections.abc import Sequence
from typing import Any

from m13.errors import HostError
from m13.host.journal import Facts, Journal, undoes
from m13.host.netlink_events import NetlinkEvents

OUTPUT_JSON = 1 << 4
OUTPUT_TERSE = 1 << 11
NETLINK_NETFILTER = 12  # linux/netlink.h
NFTABLES_GROUP = 1 << 6  # NFNLGRP_NFTABLES, linux/netfilter/nfnetlink.h
BARE_ENDINGS = {"drop", "reject"}


def apply_table(journal: Journal, family: str, name: str, body: str) -> int:
    """Install the table in one transaction, in place of one of the same name. Undo the token to
    remove it before the journal is closed."""
    token = journal.record("firewall.table", family=family, name=name)
    try:
        _install(family, name, body)
    except HostError:
        journal.discard(token)
        raise
    return token


def keep_table(family: str, name: str, body: str) -> bool:
    """Install a table of ours again if somebody flushed it away; true when that was so."""
    try:
        run(f"list table {family} {name}\n")
    except HostError:
        _install(family, name, body)
        return True
    return False


def _install(family: str, name: str, body: str) -> None:
    run(f"{_absent(family, name)}table {family} {name} {{\n{body}\n}}\n")


@undoes("firewall.table")
def _remove_table(facts: Facts) -> None:
    run(_absent(facts["family"], facts["name"]))


class FirewallWatch:
    """Whether anybody changed the firewall, so that nobody need look through it every time. Made as
    administrator."""

    def __init__(self) -> None:
        try:
            self._events = NetlinkEvents(NFTABLES_GROUP, NETLINK_NETFILTER)
        except OSError as error:
            raise HostError(f"the firewall cannot be watched: {error.strerror}") from error

    def close(self) -> None:
        self._events.close()

    def changed(self) -> bool:
        """Since the last call, or since the watch began; never waits."""
        return self._events.drain() != 0


def run(commands: str, output_flags: int = 0) -> str:
    """All of the commands or none. Raises HostError with what nftables said."""
    library = _library()
    context = library.nft_ctx_new(0)
    if not context:
        raise HostError("nftables cannot be started: out of memory")
    try:
        library.nft_ctx_output_set_flags(context, output_flags)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_buffer(context, commands.encode()) != 0:
            said = library.nft_ctx_get_error_buffer(context).decode("utf-8", "replace")
            raise HostError(f"nftables refused: {said.strip().splitlines()[0] if said else '?'}")
        output: bytes = library.nft_ctx_get_output_buffer(context)
        return output.decode("utf-8", "replace")
    finally:
        library.nft_ctx_free(context)


def ruleset() -> list[dict[str, Any]]:
    """Every table, chain and rule here as libnftables-json(5) objects, without set elements."""
    text = run("list ruleset", OUTPUT_JSON | OUTPUT_TERSE)
    objects: list[dict[str, Any]] = json.loads(text)["nftables"] if text else []
    return objects


def forwarding_obstacles(tun: str, families: Sequence[str] = ("ip", "inet")) -> list[str]:
    """Warnings, with the commands that mend them, for other tables that drop what we forward:
    an accept of ours cannot overrule a drop in another table."""
    objects = ruleset()
    rules = [entry["rule"] for entry in objects if "rule" in entry]
    warnings = []
    for chain in (entry["chain"] for entry in objects if "chain" in entry):
        if chain.get("hook") != "forward" or chain["family"] not in families:
            continue
        place = (chain["family"], chain["table"], chain["name"])
        own = [r for r in rules if (r["family"], r["table"], r["chain"]) == place]
        mentions_us = any(f'"{tun}"' in json.dumps(rule) for rule in own)
        if not mentions_us and (chain.get("policy") == "drop" or _ends_closed(own)):
            where = " ".join(place)
            warnings.append(
                f"the firewall chain {where} drops forwarded packets; to let the tunnel pass: "
                f'nft insert rule {where} iifname "{tun}" accept && '
                f'nft insert rule {where} oifname "{tun}" accept'
            )
    return warnings


def _ends_closed(rules: list[dict[str, Any]]) -> bool:
    """Whether the last rule drops or rejects without looking at the packet."""
    if not rules:
        return False
    words = {word for expression in rules[-1].get("expr", []) for word in expression}
    return bool(words & BARE_ENDINGS) and words <= BARE_ENDINGS | {"counter", "log"}


def _absent(family: str, name: str) -> str:
    """Adding first lets the deletion succeed when there is no such table."""
    return f"add table {family} {name}\ndelete table {family} {name}\n"


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise HostError("libnftables is missing: apt-get install libnftables1") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_free.restype = None
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_ctx_buffer_output.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    return library
