from collections.abc import Sequence

HEADER_BYTES: int
PACKETS_MAX: int
FLOWS_MAX: int

def split(data: bytes) -> list[bytes] | None: ...
def merge(
    packets: Sequence[bytes], udp_stays_alone: bool = False
) -> list[tuple[bytes, list[int]]]: ...
