"""What the data path tells the control process: events, as named tuples."""

import os
from collections import namedtuple

from libc.string cimport memcpy, memset
from native.path cimport path as c

ESTABLISHED = c.M13_EVENT_ESTABLISHED
LOST = c.M13_EVENT_LOST
REFUSED = c.M13_EVENT_REFUSED
MOVED = c.M13_EVENT_MOVED
CONFIG = c.M13_EVENT_CONFIG
FRAME = c.M13_EVENT_FRAME
PATH = c.M13_EVENT_PATH
LOST_EXPELLED = c.M13_LOST_EXPELLED
LOST_GOODBYE = c.M13_LOST_GOODBYE

MTU_MIN = c.M13_TUNNEL_MTU_MIN
MTU_MAX = c.M13_TUNNEL_MTU_MAX

Event = namedtuple(
    "Event",
    "kind peer generation detail time_ns endpoint_kind address port tunnel_address hub_address"
    " prefix_bits mtu keepalive_ms handshake_version fingerprint name frame_bytes dump"
    " tunnel_address6 hub_address6 prefix6_bits",
)


cdef list drain(c.m13_path *path):
    """Takes every waiting event; the eventfd is emptied first, so none is missed."""
    cdef c.m13_event event
    try:
        os.eventfd_read(path.event_fd)
    except BlockingIOError:
        return []
    events = []
    while c.m13_ring_pop(&path.events, &event, 1):
        events.append(Event(
            event.kind, event.peer, event.generation, event.detail, event.time_ns,
            event.endpoint_kind, event.address[:16], event.port,
            event.tunnel_address[:4], event.hub_address[:4],
            event.prefix_bits, event.mtu_bytes, event.keepalive_ms, event.handshake_version,
            event.fingerprint[:32], event.name[:32].rstrip(b"\0").decode(errors="replace"),
            event.bytes, event.dump[:min(event.bytes, c.M13_EVENT_DUMP_BYTES)],
            event.tunnel_address6[:16], event.hub_address6[:16], event.prefix6_bits,
        ))
    return events


cdef object fill(c.m13_path_config *config, settings):
    """Copies the settings hub and node share; aead_backend is set by the caller, who keeps it."""
    config.accept_v1 = 1 in settings.handshake_versions
    config.accept_v2 = 2 in settings.handshake_versions
    config.handshake_version = max(settings.handshake_versions)
    config.hexdump = settings.hexdump
    config.large_udp = settings.large_udp
    config.mtu_bytes = settings.mtu
    config.keepalive_ms = settings.keepalive_ms
    config.rekey_age_ns = settings.rekey_seconds * 1000000000
    config.rekey_frames = min(settings.rekey_frames, c.M13_REKEY_FRAMES_MAX)


cdef object place_hub(c.m13_path_config *config, settings):
    """A hub's own addresses in the tunnel, by `subnet` and, where it is not None, `subnet6`; and
    whether it relays."""
    cdef const unsigned char[::1] address = settings.subnet.ip.packed
    cdef const unsigned char[::1] address6
    memcpy(config.hub_tunnel_address, &address[0], 4)
    memset(config.hub_tunnel_address6, 0, 16)
    config.prefix6_bits = 0
    config.relay = settings.relay
    if settings.subnet6 is not None:
        address6 = settings.subnet6.ip.packed
        memcpy(config.hub_tunnel_address6, &address6[0], 16)
        config.prefix6_bits = settings.subnet6.network.prefixlen
