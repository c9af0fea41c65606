from collections.abc import Sequence

HEADER_BYTES: int
PACKETS_MAX: int
FLOWS_MAX: int

def split(data: bytes) -> list[bytes] | None: ...
def merge(packets: Sequence[bytes]) -> list[tuple[bytes, list[int]]]: ...
