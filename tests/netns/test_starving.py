"""One node sends all it can; the other still gets through, and so does a third that comes.

node  203.0.113.2   ─┐
                     router 192.0.2.254 ─── 192.0.2.1 hub ─── 198.51.100.2 internet
node2 203.0.113.130 ─┘
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator

from bench import measure, traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.namespace import DIRECTORY
from bench.tunnel import Keys, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted, laid_out

# More than a hub of one core opens, so that its queues are full all the time.
RATE, BYTES, FLOOD_MS = 2_000_000, 200, 20_000
PINGS, ANSWERED = 40, 0.5


@contextlib.contextmanager
def flooding(bed: Bed) -> Iterator[None]:
    measure.build()
    paths = [str(DIRECTORY / space.name) for space in (bed.node, bed.internet)]
    argv = [str(measure.BUILT / "udp_load"), *paths, INTERNET_ADDRESS]
    load = subprocess.Popen(
        [*argv, str(BYTES), str(RATE), str(FLOOD_MS)], stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(0.3)
        yield
        assert load.poll() is None, "the flood was over before the test was"
    finally:
        load.kill()
        load.wait()


def test_a_flooding_node_starves_no_other(keys: Keys, rx: str) -> None:
    for bed in laid_out(Bed(nodes=2)):
        hub = start_hub(bed, keys, "--rx", rx)
        first = start_node(bed, keys)
        with flooding(bed):
            second = start_node(bed, keys, name="node2")  # a handshake is not starved either
            answered = len(traffic.ping(bed.node2, INTERNET_ADDRESS, PINGS, wait_s=0.2))
            transfer = traffic.tcp(bed.node2, bed.internet, INTERNET_ADDRESS, 200_000)
        assert answered >= ANSWERED * PINGS
        assert transfer.is_intact
        assert hub.snapshot()["counters"]["sessions_lost"] == 0
        assert [program.stop() for program in (first, second, hub)] == [0, 0, 0]
        assert_all_frames_accounted(hub)
