"""Facts about a network interface, and the two settings steering needs changed on it."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from m13.errors import UsageError
from m13.host import link
from m13.host.journal import Facts, Journal, undoes

SIOCETHTOOL = 0x8946
ETHTOOL_GDRVINFO = 0x3
DRIVER_INFO_BYTES = 196
VLAN_STRIPPING = "rx-vlan-hw-parse"
LARGE_RECEIVE = "rx-lro"
LINK_SCOPE = 253  # RT_SCOPE_LINK, linux/rtnetlink.h
NO_MAC = bytes(6)


@dataclass(frozen=True)
class Nic:
    name: str
    index: int
    is_up: bool
    mac: bytes
    mtu: int
    addresses: tuple[str, ...]  # of both families, but for link-local ones
    driver: str
    rx_queues: int
    is_loopback: bool = False


def inspect(name: str) -> Nic:
    """Raises UsageError when there is no such interface."""
    try:
        found = link.find_name(name)
    except OSError as error:
        known = sorted(other.name for other in link.all_links())
        raise UsageError(f"no interface {name!r}; there are: {', '.join(known)}") from error
    return Nic(
        name=name,
        index=found.index,
        is_up=found.is_up,
        mac=found.mac or NO_MAC,
        mtu=found.mtu,
        addresses=tuple(a.address for a in link.addresses(found.index) if a.scope != LINK_SCOPE),
        driver=_driver(name),
        rx_queues=_rx_queues(name) or found.rx_queues,
        is_loopback=bool(found.flags & link.IFF_LOOPBACK),
    )


def prepare(journal: Journal, name: str, queues: int = 1) -> list[str]:
    """As many receive queues as there are workers, each with its socket; VLAN tags left in the
    packet, where the XDP program looks for them. Returns notes on what the driver would not do."""
    notes = [collapse_channels(journal, name, queues), stop_vlan_stripping(journal, name)]
    return [note for note in notes if note is not None]


def collapse_channels(journal: Journal, name: str, queues: int = 1) -> str | None:
    """That many combined channels, or receive channels where the driver keeps them apart."""
    try:
        with _ethtool(name) as ethtool:
            channels = ethtool.get_channels()
    except OSError as error:
        return f"{name}: channels cannot be read: {_reason(error)}"
    field = "combined_count" if channels.max_combined else "rx_count"
    old = getattr(channels, field)
    key = f"{name} {field}"
    if old <= queues and not journal.is_shared("nic.channels", key):
        return None
    token = journal.record("nic.channels", key=key, name=name, field=field, old=old)
    setattr(channels, field, queues)
    try:
        with _ethtool(name) as ethtool:
            ethtool.set_channels(channels)
    except OSError as error:
        journal.discard(token)
        return f"{name} keeps {old} receive queues: {_reason(error)}"
    return None


def stop_vlan_stripping(journal: Journal, name: str) -> str | None:
    try:
        with _ethtool(name) as ethtool:
            features = ethtool.get_features()
            for feature in (LARGE_RECEIVE, VLAN_STRIPPING):
                _keep_feature(journal, name, features, feature)
            if VLAN_STRIPPING not in features or not features[VLAN_STRIPPING]:
                return None
            features[VLAN_STRIPPING] = False
            ethtool.set_features(features)
    except OSError as error:
        return f"{name} keeps stripping VLAN tags: {_reason(error)}"
    return None


def _keep_feature(journal: Journal, name: str, features: Any, feature: str) -> None:
    """Large receive is only recorded: forwarding and XDP switch it off and never on again."""
    if feature not in features:
        return
    key = f"{name} {feature}"
    if features[feature] or journal.is_shared("nic.feature", key):
        old = bool(features[feature])
        journal.record("nic.feature", key=key, name=name, feature=feature, old=old)


def features(name: str) -> dict[str, bool]:
    """What of its driver's features is on, by ethtool's names. Raises OSError."""
    try:
        with _ethtool(name) as ethtool:
            return {feature: is_on for feature, is_on, *_ in ethtool.get_features()}
    except OSError as error:
        raise OSError(f"{name}: features cannot be read: {_reason(error)}") from error


def set_features(name: str, wanted: dict[str, bool]) -> None:
    """For an interface of our own, which nobody wants back. What its driver does not have, or has
    fixed, stays as it is. Raises OSError."""
    try:
        with _ethtool(name) as ethtool:
            found = ethtool.get_features()
            for feature, is_on in wanted.items():
                if feature in found and found[feature] != is_on:
                    found[feature] = is_on
            ethtool.set_features(found)
    except OSError as error:
        raise OSError(f"{name}: features cannot be set: {_reason(error)}") from error


@undoes("nic.channels")
def _restore_channels(facts: Facts) -> None:
    with _content_when_gone(), _ethtool(facts["name"]) as ethtool:
        channels = ethtool.get_channels()
        if getattr(channels, facts["field"]) != facts["old"]:
            setattr(channels, facts["field"], facts["old"])
            ethtool.set_channels(channels)


@undoes("nic.feature")
def _restore_feature(facts: Facts) -> None:
    with _content_when_gone(), _ethtool(facts["name"]) as ethtool:
        features = ethtool.get_features()
        if features[facts["feature"]] != facts["old"]:
            features[facts["feature"]] = facts["old"]
            ethtool.set_features(features)


@contextmanager
def _content_when_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise OSError(_reason(error)) from error


@contextmanager
def _ethtool(name: str) -> Iterator[Any]:
    """Raises OSError; without a number where the driver does not know what is asked."""
    # here and not above: it takes 100 ms to load, which a node need not wait for
    from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool, NoSuchDevice

    ethtool = IoctlEthtool(name)
    try:
        yield ethtool
    except NoSuchDevice as error:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error
    except EthtoolError as error:
        raise OSError(str(error)) from error
    finally:
        ethtool.close()


def _rx_queues(name: str) -> int:
    try:
        with _ethtool(name) as ethtool:
            channels = ethtool.get_channels()
    except OSError:
        return 0
    return int(channels.combined_count + channels.rx_count)


def _driver(name: str) -> str:
    """Asked of the driver: /sys may show another namespace than the one we are in."""
    answer = ctypes.create_string_buffer(DRIVER_INFO_BYTES)
    struct.pack_into("=I", answer, 0, ETHTOOL_GDRVINFO)
    request = struct.pack("16sP", name.encode(), ctypes.addressof(answer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, SIOCETHTOOL, request)
        except OSError:
            return "unknown"
    return answer.raw[4:36].rstrip(b"\0").decode("ascii", "replace")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "the driver does not support it"
