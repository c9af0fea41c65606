"""Frames as they are on the wire, for people: header fields that are in the clear, then bytes."""

from m13 import endpoint
from native.event import Event

CLEAR_KINDS = {0x00: "registration", 0x80: "echo or keepalive", 0x83: "handshake fragment"}


def describe(event: Event) -> list[str]:
    """Lines for a FRAME event. Sealed bytes stay sealed: what is dumped never was decrypted."""
    frame = event.dump
    way = "sent to" if event.detail else "received from"
    known = any(event.address)
    place = endpoint.place(event.endpoint_kind, event.address, event.port) if known else "the hub"
    head = f"{event.frame_bytes} B {way} {place}"
    if len(frame) >= 62:
        if frame[16]:
            counter = int.from_bytes(frame[34:42], "little")
            head += f": sealed, key phase {frame[17]}, counter {counter}, direction {frame[42]}"
        else:
            head += f": clear, {CLEAR_KINDS.get(frame[54], 'unknown')}, flags 0x{frame[54]:02x}"
    lines = [head]
    for offset in range(0, len(frame), 16):
        row = frame[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"  {offset:04x}  {row.hex(' '):<47}  {text}")
    if event.frame_bytes > len(frame):
        lines.append(f"  … {event.frame_bytes - len(frame)} more bytes")
    return lines
