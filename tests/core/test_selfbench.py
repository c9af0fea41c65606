"""The pieces of `m13 bench`: what is counted is what passed, and bad requests are refused."""

import errno
import socket
from contextlib import closing

import pytest

from m13.bench.ping import open_echo
from m13.errors import HostError
from native import selfbench

MILLISECOND_NS = 1_000_000
PATIENCE_NS = 20 * MILLISECOND_NS


def datagram_pair():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in pair:
        end.setblocking(False)
    return pair


@pytest.mark.parametrize("packet_bytes", [1, 64, 1400, 4096])
def test_copying_counts_whole_packets(packet_bytes):
    flow = selfbench.copy(packet_bytes, MILLISECOND_NS)
    assert flow.calls > 0
    assert flow.bytes == flow.calls * packet_bytes
    assert flow.ns >= MILLISECOND_NS


@pytest.mark.parametrize("packet_bytes", [0, 4097])
def test_copying_refuses_what_is_no_packet(packet_bytes):
    with pytest.raises(OSError, match="Invalid argument"):
        selfbench.copy(packet_bytes, MILLISECOND_NS)


@pytest.mark.parametrize("cores", [(-1, -1), (0, 0)])
def test_every_ring_wakes_the_sleeper_once(cores):
    samples = selfbench.wakeup(100_000, 50, *cores)
    assert len(samples) == 50
    assert min(samples) > 0


@pytest.mark.parametrize(("size", "burst"), [(1, 1), (1400, 5), (60_000, 1)])
def test_all_that_is_sent_is_received(size, burst):
    source, target = datagram_pair()
    with closing(source), closing(target):
        sent, received = selfbench.exchange(
            source.fileno(), target.fileno(), bytes(size), burst, MILLISECOND_NS
        )
    assert sent.calls == received.calls > 0
    assert sent.bytes == received.bytes == sent.calls * size
    assert sent.calls % burst == 0
    assert sent.ns > 0
    assert received.ns > 0


def test_without_a_receiver_nothing_is_received():
    with open("/dev/null", "wb") as sink:
        sent, received = selfbench.exchange(sink.fileno(), -1, bytes(9), 3, MILLISECOND_NS)
    assert sent.bytes == 9 * sent.calls > 0
    assert received == (0, 0, 0)


@pytest.mark.parametrize("burst", [0, selfbench.BURST_MAX + 1])
def test_bursts_have_a_bound(burst):
    with open("/dev/null", "wb") as sink, pytest.raises(OSError, match="Invalid argument"):
        selfbench.exchange(sink.fileno(), -1, b"x", burst, MILLISECOND_NS)


def test_a_descriptor_that_refuses_is_an_error_with_its_reason():
    with open("/dev/full", "wb") as sink, pytest.raises(OSError) as refused:  # noqa: PT011
        selfbench.exchange(sink.fileno(), -1, b"x", 1, MILLISECOND_NS)
    assert refused.value.errno == errno.ENOSPC


@pytest.mark.parametrize("window", [1, 8, 64])
@pytest.mark.parametrize("payload_bytes", [0, 56, 1372])
def test_every_echo_of_loopback_is_counted(window, payload_bytes):
    try:
        opened = open_echo("127.0.0.1")
        with opened as echo:
            request = echo.request(7, payload_bytes)
            sent, received = selfbench.echo(
                echo.socket.fileno(),
                request,
                has_ip_header=echo.is_raw,
                window=window,
                duration_ns=5 * MILLISECOND_NS,
                patience_ns=PATIENCE_NS,
            )
    except HostError as error:
        pytest.skip(str(error))
    assert sent.calls == received.calls >= window
    assert sent.bytes == received.bytes == sent.calls * len(request)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"\x08\0\0\0\0\1\0\7" + bytes(8),  # a request
        b"\0\0\0\0\0\1\0\7" + bytes(9),  # longer than what was sent
        b"\0\0\0\0\0\1\0\6" + bytes(8),  # of another sequence
    ],
)
def test_what_is_no_answer_is_not_counted(answer):
    source, target = datagram_pair()
    with closing(source), closing(target):
        if answer is not None:
            target.send(answer)
        sent, received = selfbench.echo(
            source.fileno(),
            b"\x08\0\0\0\0\1\0\7" + bytes(8),
            has_ip_header=False,
            window=4,
            duration_ns=MILLISECOND_NS,
            patience_ns=PATIENCE_NS,
        )
    assert sent.calls == 4
    assert received.calls == 0


@pytest.mark.parametrize(
    ("request_bytes", "window"), [(7, 1), (8, 0), (8, selfbench.WINDOW_MAX + 1)]
)
def test_echoes_that_cannot_be_are_refused(request_bytes, window):
    source, target = datagram_pair()
    with closing(source), closing(target), pytest.raises(OSError, match="Invalid argument"):
        selfbench.echo(
            source.fileno(),
            bytes(request_bytes),
            has_ip_header=False,
            window=window,
            duration_ns=MILLISECOND_NS,
            patience_ns=PATIENCE_NS,
        )
