"""What sealing and opening one tunnel packet costs in each AEAD backend: python -m bench.aead"""

from native.aead import BACKENDS, VECTOR, Aead

PACKET_BYTES = (64, 256, 1400)
OVERHEAD_BYTES = 62  # of a frame over the packet it carries
VECTORS = 500
REPEATS = 15

Costs = dict[str, dict[int, tuple[float, float]]]


def measure() -> Costs:
    """Backend -> bytes of the packet -> nanoseconds to seal and to open it, of the least disturbed
    repeat: what disturbs only ever adds. A backend this processor cannot run has no sizes."""
    return {name: _measure_backend(name) for name in BACKENDS}


def _measure_backend(name: str) -> dict[int, tuple[float, float]]:
    try:
        backend = Aead(name)
    except OSError:
        return {}
    costs = {}
    with backend:
        for packet_bytes in PACKET_BYTES:
            backend.measure(packet_bytes + OVERHEAD_BYTES, VECTORS)
            timings = [
                backend.measure(packet_bytes + OVERHEAD_BYTES, VECTORS) for _ in range(REPEATS)
            ]
            costs[packet_bytes] = (
                min(timing.seal_ns for timing in timings),
                min(timing.open_ns for timing in timings),
            )
    return costs


def main() -> None:
    # the report knows this module, so it is asked for only here
    from bench.report import Report

    Report.on_console().aead(measure(), VECTOR)


if __name__ == "__main__":
    main()
