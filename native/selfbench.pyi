from typing import Final, NamedTuple

class Flow(NamedTuple):
    calls: int
    bytes: int
    ns: int

BURST_MAX: Final[int]
WINDOW_MAX: Final[int]
MESSAGE_MAX: Final[int]

def copy(packet_bytes: int, duration_ns: int) -> Flow: ...
def wakeup(gap_ns: int, count: int, sleeper_core: int = -1, ringer_core: int = -1) -> list[int]: ...
def exchange(
    send_fd: int, receive_fd: int, message: bytes, burst: int, duration_ns: int
) -> tuple[Flow, Flow]: ...
def echo(
    descriptor: int,
    request: bytes,
    *,
    has_ip_header: bool,
    window: int,
    duration_ns: int,
    patience_ns: int,
) -> tuple[Flow, Flow]: ...
