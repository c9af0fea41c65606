"""python -m tests.fuzz.seeds: writes the hand-made seeds of every target to its corpus."""

import struct
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
HUB, NODE = b"\1", b"\0"
CONTROL, TUNNEL, FIN, FEEDBACK, HANDSHAKE = 0x80, 0x20, 0x08, 0x40, 0x83


def record(kind, detail, piece=b""):
    return struct.pack("<BBH", kind, detail, len(piece)) + piece


def tlv(kind, value=b""):
    return struct.pack("<BH", kind, len(value)) + value


def config(mtu=1400, keepalive=1000, prefix=24):
    return struct.pack("<4sB4sHHBB", bytes([10, 13, 0, 2]), prefix, bytes(4), mtu, keepalive, 0, 0)


def fragment(message_id, index, total, offset, chunk):
    return struct.pack("<HBBHH", message_id, index, total, offset, len(chunk)) + chunk


def inner(source, destination, payload=b"ping"):
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, 17, 0, source, destination
    )
    return header + payload


def clear_frame(flags, sequence=0, payload=b""):
    ethernet = b"\xff" * 6 + bytes([2, 0, 0, 0, 0, 2]) + b"\x88\xb5"
    return ethernet + struct.pack("<BBBB28xQBI3x", 0xD1, 1, 0, 0, sequence, flags, 0) + payload


def datagram(frame, options=b"", port=443):
    ports = struct.pack(">HHHH", 4000, port, 8 + len(frame), 0)
    length, version = 20 + len(options) + len(ports) + len(frame), 0x45 + len(options) // 4
    header = struct.pack(
        ">BBHHHBBH4s4s", version, 0, length, 0, 0x4000, 64, 17, 0, b"\n\0\0\2", b"\n\0\0\1"
    )
    return bytes(12) + b"\x08\x00" + header + options + ports + frame


def datagram6(frame, port=443, next_header=17):
    ports = struct.pack(">HHHH", 4000, port, 8 + len(frame), 0)
    network = bytes.fromhex("20010db8") + bytes(11)
    addresses = network + b"\2" + network + b"\1"
    header = struct.pack(">IHBB", 6 << 28, len(ports) + len(frame), next_header, 64) + addresses
    return bytes(12) + b"\x86\xdd" + header + ports + frame


OURS, OTHER = bytes([10, 13, 0, 2]), bytes([10, 13, 0, 7])
RAW, CLEAR, SEALED, LATER, OUTWARD, FLUSH = 0, 1, 2, 3, 4, 0x80


def flushed(kind):
    """The kind byte with its flush bit, and still this kind modulo five."""
    return next(value for value in range(FLUSH, 256) if value % 5 == kind)


def word_seeds(role, name, sealed_data):
    """What ends say to each other about their session: reports and goodbyes."""
    present = 1 if role == HUB else 0  # whose reports count
    for what, highest, missing, bits in (
        ("true", 2, 1, 1),
        ("of-the-future", 3, 0, 0),
        ("contradictory", 2, 0, 1),
    ):
        report = struct.pack("<QQIQIQ", highest, 10**9, 3 - missing, 10**8, missing, bits)
        yield (
            f"{name}-feedback-{what}",
            role
            + record(OUTWARD, 0, inner(OTHER, OURS)) * 3
            + record(flushed(SEALED), present, bytes([CONTROL | FEEDBACK]) + report) * 2
            + record(SEALED, present, sealed_data) * 33,
        )
    fin, fin_ack = bytes([CONTROL | FIN]), bytes([CONTROL | FEEDBACK | FIN])
    for key, whose in ((0, "old"), (1, "new")):
        words = [fin, sealed_data, fin, fin_ack]
        yield (
            f"{name}-goodbye-{whose}",
            role
            + b"".join(record(SEALED, key, word) for word in words)
            + record(flushed(SEALED), key, fin)
            + record(flushed(SEALED), key, sealed_data),
        )


def piece_seeds(role, name):
    large = inner(OTHER, OURS, bytes(1300)) if role == HUB else inner(OURS, OTHER, bytes(1300))
    yield f"{name}-outward-large", role + record(OUTWARD, 0, large)
    packet = inner(OURS, OTHER) if role == HUB else inner(OTHER, OURS)
    for seed, first, last in (
        ("pieces", fragment(0, 0, 2, 0, packet[:16]), fragment(0, 1, 2, 16, packet[16:])),
        ("contradiction", fragment(0, 0, 2, 0, packet[:16]), fragment(0, 1, 3, 16, b"x")),
    ):
        pieces = record(SEALED, 0, b"\x21" + first) + record(flushed(SEALED), 0, b"\x21" + last)
        yield f"{name}-{seed}", role + pieces


def parse_seeds():
    frame = clear_frame(0)
    sealed_data = bytes([TUNNEL]) + inner(OURS, OTHER)
    yield "hub-registration", HUB + record(RAW, 0, datagram(frame))
    yield "hub-options", HUB + record(RAW, 0, datagram(clear_frame(CONTROL), options=bytes(8)))
    yield "hub-other-port", HUB + record(RAW, 0, datagram(frame, port=444))
    yield "hub-registration6", HUB + record(RAW, 0, datagram6(frame))
    yield "hub-other-port6", HUB + record(RAW, 0, datagram6(frame, port=444))
    yield "hub-extension6", HUB + record(RAW, 0, datagram6(frame, next_header=44))
    yield "hub-cut6", HUB + record(RAW, 0, datagram6(frame)[:-1])
    yield "hub-l2", HUB + record(RAW, 0, frame)
    yield "hub-l2-others", HUB + record(RAW, 0, b"\2" * 6 + frame[6:])
    yield "hub-l2-from-all", HUB + record(RAW, 0, frame[:6] + b"\xff" * 6 + frame[12:])
    yield "hub-l2-cut", HUB + record(RAW, 0, frame[:13])
    yield "node-echo", NODE + record(RAW, 0, clear_frame(CONTROL))
    for role, name in ((HUB, "hub"), (NODE, "node")):
        yield f"{name}-data", role + record(SEALED, 0, sealed_data) * 2
        yield f"{name}-data-in", role + record(SEALED, 0, bytes([TUNNEL]) + inner(OTHER, OURS))
        yield f"{name}-next-key", role + record(SEALED, 1, sealed_data) + record(LATER, 60)
        yield f"{name}-roams", role + record(flushed(SEALED), 3, sealed_data)
        yield (
            f"{name}-replay",
            role + b"".join(record(SEALED, 8 * n, sealed_data) for n in range(6)),
        )
        yield f"{name}-bad-length", role + record(SEALED, 4, sealed_data)
        yield (
            f"{name}-kinds",
            role
            + b"".join(
                record(SEALED, 0, bytes([flags]))
                for flags in (0, FIN, FEEDBACK, 0x21, 0x24, HANDSHAKE)
            ),
        )
        yield (
            f"{name}-forged",
            role
            + b"".join(
                record(flushed(SEALED), detail, bytes([TUNNEL]) + bytes(victim))
                for detail in (0x40, 0x80, 0x82)
                for victim in (0, 6, 14, 17, 18, 34, 42, 44, 46, 54)
            ),
        )
        yield (
            f"{name}-control",
            role
            + record(
                flushed(SEALED), 0, bytes([CONTROL]) + tlv(0) + tlv(1, config()) + tlv(9, b"?")
            ),
        )
        yield from word_seeds(role, name, sealed_data)
        first = bytes([HANDSHAKE]) + fragment(1, 0, 2, 0, b"first")
        yield (
            f"{name}-fragments",
            role
            + record(CLEAR, 0, first)
            + record(flushed(CLEAR), 0, bytes([HANDSHAKE]) + fragment(1, 1, 2, 5, b"last")),
        )
        yield f"{name}-outward", role + record(OUTWARD, 0, inner(OTHER, OURS))
        yield from piece_seeds(role, name)


def frag_seeds():
    def feed(*pieces, flags=HANDSHAKE, later=0):
        return b"".join(record(flags, later, piece) for piece in pieces)

    whole = [fragment(1, i, 3, 10 * i, bytes([65 + i]) * 10) for i in range(3)]
    yield "in-order", b"\1" + feed(*whole)
    yield "of-the-tunnel", b"\0" + feed(*whole) + feed(*whole[::-1], flags=0x21)
    yield "reversed-and-doubled", b"\1" + feed(*whole[::-1], *whole)
    yield "sixteen", b"\1" + feed(*[fragment(2, i, 16, i, b"x") for i in range(16)])
    yield (
        "largest",
        b"\1"
        + feed(*[fragment(3, i, 7, 1402 * i, bytes(min(1402, 9216 - 1402 * i))) for i in range(7)]),
    )
    yield "nine-messages", b"\1" + feed(*[fragment(n, 0, 2, 0, b"x") for n in range(9)])
    yield "stale", b"\1" + feed(whole[0]) + feed(*whole[1:], later=51)
    false = fragment(1, 0, 3, 0, b"x" * 11), fragment(1, 2, 3, 19, b"x")
    yield "overlap", b"\1" + feed(whole[1], *false)
    yield "two-kinds", b"\1" + feed(whole[0]) + feed(whole[0], flags=0x21)


def handshake_seeds():
    fragment_, message, answer, later, echo, lose = range(6)
    hello = bytes([1, 2]) + bytes(range(32))
    hello_v1 = bytes([1, 1]) + bytes(range(32))

    def established(address=bytes([10, 13, 0, 3])):
        head = struct.pack("<BBBB4s", 2, 24, 5, 0, address)
        return head + b"f" * 32 + b"s" * 32 + b"r" * 32 + b"gamma\0\0\0"

    stranger = record(message, 3, hello) + record(answer, 1) + record(message, 3, b"\3")
    yield "hub-complete", HUB + stranger + record(answer, 2, established()) + record(later, 60)
    yield "hub-takes-address", HUB + stranger + record(answer, 2, established(OURS))
    yield (
        "hub-address-zero",
        HUB + stranger + record(answer, 2, established(bytes(4))) + record(later, 255),
    )
    finished_again = record(later, 3) + record(message, 3, b"\3\0\7")
    yield "hub-confirms-again", HUB + stranger + record(answer, 2, established()) + finished_again
    yield (
        "hub-resends",
        HUB
        + record(message, 3, hello) * 2
        + record(answer, 1)
        + record(later, 3)
        + record(message, 3, hello),
    )
    yield "hub-v1", HUB + b"".join(record(message, 0x10 + n, hello_v1) for n in range(12))
    yield (
        "hub-rekey",
        HUB
        + record(message, 0, hello)
        + record(answer, 1)
        + record(message, 0, b"\3")
        + record(answer, 2, established()),
    )
    yield "hub-refused", HUB + stranger + record(answer, 3, b"\3") + record(answer, 3, b"\2")
    yield "hub-forgotten", HUB + record(message, 3, hello) + record(later, 255) * 3
    yield "hub-fragment", HUB + record(fragment_, 1, fragment(1, 0, 2, 0, b"x"))
    begin = record(lose, 0) + record(later, 50) + record(answer, 0, hello) + record(echo, 0)
    yield "node-begins", NODE + begin + record(later, 20)
    yield (
        "node-complete",
        NODE + begin + record(message, 0, b"\2") + record(answer, 2, established()),
    )
    yield "node-refused", NODE + begin + record(message, 0, b"\2") + record(answer, 3, b"\3")
    yield "node-gives-up", NODE + begin + record(later, 255) * 2 + record(later, 60)


def control_seeds():
    for role, name in ((HUB, "hub"), (NODE, "node")):

        def piece(payload, role=role):
            return role + struct.pack("<H", len(payload)) + payload

        yield f"{name}-keepalive", piece(tlv(0))
        yield f"{name}-config", piece(tlv(1, config()) + tlv(0))
        yield f"{name}-longer-config", piece(tlv(1, config() + b"more"))
        yield f"{name}-bad-config", piece(tlv(1, config(mtu=99)) + tlv(1, config(prefix=33)))
        yield f"{name}-probe", piece(tlv(2, bytes(100)) + tlv(3) + tlv(4) + tlv(255, b"unknown"))
        acks = b"".join(tlv(3, struct.pack("<HH", n, 1462)) for n in range(3))
        yield f"{name}-probe-acknowledged", piece(acks) + piece(tlv(2, b"\7\0"))[1:]
        yield f"{name}-truncated", piece(tlv(1, config())[:-1])


def channel_seeds():
    scribble, send, receive, attach = range(4)
    for direction in (0, 1):
        kind = (2, 17)[direction]
        sent = bytes([send, direction, 100, 0])
        position = struct.pack("<BBHHI", scribble, 2 + direction, 0, 4, 70)
        head = struct.pack("<BBHHI", scribble, 2 + direction, 64, 4, 9)
        length = struct.pack("<BBHHII", scribble, 2 + direction, 128, 8, kind, 2**31)
        done = bytes([receive, direction])
        yield f"exchange-{direction}", sent * 3 + done
        yield f"false-tail-{direction}", sent + position + done
        yield f"false-head-{direction}", sent + head + sent + done
        yield f"false-slot-{direction}", sent + length + done
    yield "header", struct.pack("<BBHH4s", scribble, 0, 0, 4, b"\0\0\0\0") + bytes([attach, 0])


def transport(source_port, sequence, payload, flags=0x10, packet_id=0):
    tcp = struct.pack(">HHIIBBHHH", source_port, 80, sequence, 7, 0x50, flags, 512, 0, 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), packet_id, 0x4000, 64, 6, 0)
    return head + OURS + OTHER + tcp


def transport6(sequence, size=100, protocol=6, before=b""):
    """TCP or UDP over IPv6, behind a destination options header if one is given."""
    tcp = struct.pack(">HHIIBBHHH", 1, 80, sequence, 7, 0x50, 0x10, 512, 0, 0)
    udp = struct.pack(">HHHH", 1, 80, 8 + size, 0)
    body = before + (tcp if protocol == 6 else udp) + bytes(size)
    head = struct.pack(">LHBB", 6 << 28, len(body), 60 if before else protocol, 64)
    return head + bytes(31) + b"\1" + bytes(31) + b"\2" + body


def offload_seeds():
    def gso(kind, segment, packet, start=20, offset=16):
        return struct.pack("<BBHHHH", 1, kind, 40, segment, start, offset) + packet

    split, merge = range(2)
    yield "split-tcp", record(split, 0, gso(1, 100, transport(1, 0, bytes(350))))
    yield "split-udp", record(split, 0, gso(5, 100, inner(OURS, OTHER, bytes(308)), offset=6))
    yield "split-none", record(split, 0, bytes(10) + transport(1, 0, b"x"))
    yield "split-false", record(split, 0, gso(1, 0, transport(1, 0, bytes(99)), start=60000))
    flow = [transport(1, 100 * n, bytes(100), packet_id=n) for n in range(3)]
    other = [transport(2, 100 * n, bytes(100), packet_id=n) for n in range(2)]
    yield "merge-flow", b"".join(record(merge, 0, packet) for packet in flow)
    mixed = [flow[0], other[0], flow[1], other[1], transport(1, 200, b"end", 0x18, 2)]
    yield "merge-mixed", b"".join(record(merge, 0, packet) for packet in mixed)
    yield "merge-ipv6", b"".join(record(merge, 0, transport6(100 * n)) for n in range(3))
    yield "split-tcp6", record(split, 0, gso(4, 100, transport6(0, 350), start=40))
    yield "split-udp6", record(split, 0, gso(5, 100, transport6(0, 350, 17), start=40, offset=6))
    optioned = transport6(0, 350, before=bytes([6, 0, 1, 4, 0, 0, 0, 0]))
    yield "split-options6", record(split, 0, gso(4, 100, optioned, start=48))
    many = [transport(n, 0, b"x") for n in range(10)]
    yield "merge-many", b"".join(record(merge, 0, packet) for packet in many)


def main():
    for name, seeds in {
        "parse": parse_seeds,
        "frag": frag_seeds,
        "handshake": handshake_seeds,
        "control": control_seeds,
        "channel": channel_seeds,
        "offload": offload_seeds,
        "canary": lambda: [("almost", b"M1-padding")],
    }.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed, content in seeds():
            (folder / seed).write_bytes(content)


if __name__ == "__main__":
    main()
