"""Which of some known byte strings lie in the memory of a process, read through /proc."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

CHUNK_BYTES = 1 << 20
# The kernel's own pages, which say EIO or nothing of ours.
FOREIGN = ("[vvar]", "[vvar_vclock]", "[vsyscall]")
ZEROS = bytes(2 * CHUNK_BYTES)
LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ \S+\s*(.*)")


def find(pid: int, needles: Mapping[str, bytes]) -> dict[str, int]:
    """How often each is there, in every readable mapping, those that are shared too."""
    counts = dict.fromkeys(needles, 0)
    longest = max(map(len, needles.values()))
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in readable(pid):
            tail = b""
            for offset in range(start, end, CHUNK_BYTES):
                data = tail + read(memory, offset, min(CHUNK_BYTES, end - offset))
                if data == ZEROS[: len(data)]:  # never touched: most of it
                    tail = data[-(longest - 1) :]
                    continue
                for name, needle in needles.items():
                    # what lies in the kept tail as a whole was counted with the chunk before
                    counts[name] += data.count(needle) - tail.count(needle)
                tail = data[-(longest - 1) :]
    return counts


def readable(pid: int) -> list[tuple[int, int]]:
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        if match[3][0] == "r" and match[4] not in FOREIGN:
            found.append((int(match[1], 16), int(match[2], 16)))
    return found


def read(memory: io.FileIO, start: int, count: int) -> bytes:
    """Zeros where there is nothing to read, such as a device's registers."""
    try:
        memory.seek(start)
        return memory.read(count)
    except OSError:
        return bytes(count)


def _sbox() -> bytes:
    """FIPS 197, section 5.1.1: the inverse in GF(2^8), then an affine map."""
    box, p, q = bytearray(256), 1, 1
    while True:
        p ^= (p << 1) ^ (0x11B if p & 0x80 else 0)
        p &= 0xFF
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        q ^= 0x09 if q & 0x80 else 0
        spread = q
        for turn in range(1, 5):
            spread ^= (q << turn | q >> 8 - turn) & 0xFF
        box[p] = spread ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return bytes(box)


def first_expanded(key: bytes) -> bytes:
    """The first round key of AES-256 that is not the key itself (FIPS 197, section 5.2)."""
    box = _sbox()
    words = [key[index : index + 4] for index in range(0, 32, 4)]
    mixed = bytes(box[byte] for byte in words[7][1:] + words[7][:1])
    previous = bytes([mixed[0] ^ 1]) + mixed[1:]
    expanded = []
    for word in words[:4]:
        previous = bytes(a ^ b for a, b in zip(word, previous, strict=True))
        expanded.append(previous)
    return b"".join(expanded)
