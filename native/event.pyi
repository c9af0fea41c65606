from typing import NamedTuple

ESTABLISHED: int
LOST: int
REFUSED: int
MOVED: int
CONFIG: int
FRAME: int
PATH: int
LOST_EXPELLED: int
LOST_GOODBYE: int
MTU_MIN: int
MTU_MAX: int

class Event(NamedTuple):
    kind: int
    peer: int
    generation: int
    detail: int
    time_ns: int
    endpoint_kind: int
    address: bytes
    port: int
    tunnel_address: bytes
    hub_address: bytes
    prefix_bits: int
    mtu: int
    keepalive_ms: int
    handshake_version: int
    fingerprint: bytes
    name: str
    frame_bytes: int
    dump: bytes
    tunnel_address6: bytes
    hub_address6: bytes
    prefix6_bits: int
