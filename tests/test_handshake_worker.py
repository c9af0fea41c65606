"""Two real worker processes on real channels: the handshake, their privileges, their deaths."""

import base64
import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from m13 import handshake_process, pqc
from m13.errors import HostError
from m13.handshake_process import HandshakeWorker, hub_configuration, node_configuration
from m13.identity import Identity, fingerprint
from native import channel
from native.channel import (
    ANSWERS,
    ASK_CLIENT_HELLO,
    ASK_FINISHED,
    ASK_FORGET,
    ASK_SERVER_HELLO,
    ASK_START,
    REQUESTS,
    SAY_REFUSED,
    Channel,
)
from tests.sanitized import normal_build_only

WAIT_SECONDS = 5.0


def make_identity(number):
    seed = bytes([number]) * 32
    _, public_key = pqc.choose().sign_load(seed)
    return Identity(seed, public_key, fingerprint(public_key))


HUB, NODE = make_identity(1), make_identity(2)
ROSTER = [{"name": "alpha", "key": NODE.fingerprint, "address": "10.13.0.2", "prefix": 24}]


@contextlib.contextmanager
def serving(configuration):
    with Channel.create() as link, HandshakeWorker(link, configuration) as worker:
        yield link, worker


@pytest.fixture
def hub():
    with serving(hub_configuration(HUB, ROSTER)) as pair:
        yield pair


def receive(link):
    deadline = time.monotonic() + WAIT_SECONDS
    while not (message := link.receive(ANSWERS)):
        assert time.monotonic() < deadline, "the worker does not answer"
        if select.select([link.answer_fd], [], [], 0.1)[0]:
            os.eventfd_read(link.answer_fd)
    return message


def ask(link, kind, payload, peer=5, generation=9):
    assert link.send(REQUESTS, kind, peer, generation, payload)
    message = receive(link)
    assert (message.peer, message.generation) == (peer, generation)
    return message


def reason(message):
    assert message.kind == SAY_REFUSED
    return channel.unpack_refused(message.payload).reason


def establish(hub_link, node_link, version=2):
    """(node's, hub's) ESTABLISHED."""
    hello = ask(node_link, ASK_START, bytes([version])).payload
    reply = ask(hub_link, ASK_CLIENT_HELLO, hello).payload
    ours = channel.unpack_established(ask(node_link, ASK_SERVER_HELLO, reply).payload)
    theirs = channel.unpack_established(ask(hub_link, ASK_FINISHED, ours.finished).payload)
    return ours, theirs


def wait_until(happened):
    deadline = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("version", "v1_profile", "provider"),
    [(2, "v1", "auto"), (1, "v1", "auto"), (1, "v1-full", "auto"), (2, "v1", "pqcrypto")],
)
def test_two_workers_agree_on_keys(version, v1_profile, provider):
    hub_half = hub_configuration(HUB, ROSTER, v1_profile=v1_profile, provider=provider)
    node_half = node_configuration(NODE, [HUB.fingerprint], version, v1_profile)
    with serving(hub_half) as (hub_link, _), serving(node_half) as (node_link, _):
        ours, theirs = establish(hub_link, node_link, version)
    assert (ours.send_key, ours.receive_key) == (theirs.receive_key, theirs.send_key)
    assert (theirs.name, theirs.address, theirs.prefix_bits) == ("alpha", b"\x0a\x0d\0\2", 24)
    assert ours.handshake_version == theirs.handshake_version == version


@normal_build_only
def test_a_round_takes_less_than_ten_milliseconds(hub):
    hub_link, _ = hub
    with serving(node_configuration(NODE, [HUB.fingerprint])) as (node_link, _):
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            establish(hub_link, node_link)
            times.append(time.perf_counter() - begin)
            for link in (hub_link, node_link):
                link.send(REQUESTS, ASK_FORGET, 5, 9, b"")
    assert sorted(times)[10] < 0.010


@pytest.mark.skipif(os.geteuid() != 0, reason="dropping root's privileges needs root")
def test_worker_has_no_privileges(hub):
    _, worker = hub
    with open(f"/proc/{worker.pid}/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].strip() == ""
    capabilities = {name: int(status[name], 16) for name in status if name.startswith("Cap")}
    assert set(capabilities.values()) == {0}
    assert len(capabilities) == 5
    assert status["NoNewPrivs"] == "1"
    assert status["Threads"] == "1"
    with open(f"/proc/{worker.pid}/limits") as file:
        limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max open files"] == ["3", "3"]
    assert limits["Max processes"] == ["0", "0"]
    # not dumpable: /proc belongs to root, so not even another process of nobody may look inside
    assert os.stat(f"/proc/{worker.pid}/mem").st_uid == 0


def test_secrets_are_neither_in_arguments_nor_environment(hub):
    _, worker = hub
    forms = (HUB.seed, HUB.seed.hex().encode(), base64.b64encode(HUB.seed))
    for name in ("cmdline", "environ"):
        with open(f"/proc/{worker.pid}/{name}", "rb") as file:
            content = file.read()
        assert not any(form in content for form in forms)


def test_idle_worker_sleeps(hub):
    _, worker = hub

    def ticks():
        with open(f"/proc/{worker.pid}/stat") as file:
            return [int(field) for field in file.read().rpartition(")")[2].split()[11:13]]

    before = ticks()
    time.sleep(0.3)
    assert ticks() == before


def test_refusals_come_back_with_their_reason(hub):
    link, _ = hub
    table = [
        (ASK_CLIENT_HELLO, b"", channel.MALFORMED),
        (ASK_CLIENT_HELLO, b"\1\2" + bytes(4192), channel.NOT_ADMITTED),
        (ASK_CLIENT_HELLO, b"\1\7" + bytes(4192), channel.VERSION_REFUSED),
        (ASK_CLIENT_HELLO, bytes(channel.PAYLOAD_BYTES), channel.MALFORMED),
        (ASK_FINISHED, b"\3" + bytes(4627), channel.NO_STATE),
        (ASK_START, b"\2", channel.MALFORMED),
    ]
    assert [reason(ask(link, kind, payload)) for kind, payload, _ in table] == [
        expected for *_, expected in table
    ]


def test_duplicate_client_hello_gets_the_same_server_hello(hub):
    link, _ = hub
    with serving(node_configuration(NODE, [HUB.fingerprint])) as (node_link, _):
        hello = ask(node_link, ASK_START, b"\2").payload
    assert ask(link, ASK_CLIENT_HELLO, hello) == ask(link, ASK_CLIENT_HELLO, hello)
    assert ask(link, ASK_CLIENT_HELLO, hello) != ask(link, ASK_CLIENT_HELLO, hello, generation=10)


def test_full_answer_ring_stalls_the_worker_and_loses_nothing(hub):
    link, _ = hub
    total = 3 * channel.SLOTS
    sent = 0
    while sent < total - channel.SLOTS:  # nobody reads: answers fill up, then requests do
        if link.send(REQUESTS, ASK_FINISHED, 1, sent, b""):
            sent += 1
        elif sent > channel.SLOTS:
            break
        else:
            time.sleep(0.001)
    assert [receive(link).generation for _ in range(sent)] == list(range(sent))


def test_killed_worker_is_replaced_on_the_same_channel_and_takes_what_waited(hub):
    link, worker = hub
    first = worker.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not worker.poll())
    assert link.send(REQUESTS, ASK_FINISHED, 5, 9, b"waiting")
    wait_until(worker.poll)
    assert worker.pid != first
    assert worker.restarts == 1
    assert reason(receive(link)) == channel.MALFORMED
    with serving(node_configuration(NODE, [HUB.fingerprint])) as (node_link, _):
        establish(link, node_link)


def test_worker_that_keeps_dying_is_restarted_with_growing_pauses(hub):
    _, worker = hub
    times = []
    for number in range(3):
        os.kill(worker.pid, signal.SIGKILL)
        begin = time.monotonic()
        wait_until(lambda expected=number + 1: worker.poll() and worker.restarts == expected)
        times.append(time.monotonic() - begin)
    # lower bounds, which no load can break: a pause is waited out before the next start
    assert all(took >= pause for took, pause in zip(times, (0.1, 0.2, 0.4), strict=True))


def test_a_death_is_told_with_its_cause_and_when_the_next_start_is(hub, caplog):
    _, worker = hub
    with caplog.at_level(logging.WARNING, "m13.handshake"):
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: not worker.poll())
        # the next one dies before it serves, and without a word
        wait_until(lambda: worker.poll() or worker.restarts == 1)
        os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: len(caplog.messages) == 2 or worker.poll())
    assert caplog.messages == [
        "handshake worker was killed by SIGKILL: restarting in 0.1 s",
        "handshake worker was killed by SIGTERM before it served: restarting in 0.2 s",
    ]


def test_worker_that_takes_no_request_is_killed_and_replaced(hub, caplog, monkeypatch):
    link, worker = hub
    monkeypatch.setattr(handshake_process, "HUNG_SECONDS", 0.3)
    first = worker.pid
    os.kill(first, signal.SIGSTOP)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:  # nothing waits: silence is no fault
        assert worker.poll()
        time.sleep(0.02)
    assert link.send(REQUESTS, ASK_FINISHED, 5, 9, b"waiting")
    begin = time.monotonic()
    wait_until(lambda: not worker.poll())
    assert time.monotonic() - begin >= 0.3
    monkeypatch.undo()
    wait_until(lambda: worker.poll() and worker.pid != first)
    assert reason(receive(link)) == channel.MALFORMED
    assert caplog.messages[-2:] == [
        "handshake worker took no request for 0 s: killing it",
        "handshake worker was killed by SIGKILL: restarting in 0.1 s",
    ]


def test_answering_worker_is_left_alone_however_long_it_is_asked(hub, monkeypatch):
    link, worker = hub
    monkeypatch.setattr(handshake_process, "HUNG_SECONDS", 0.05)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        ask(link, ASK_FINISHED, b"")
        assert worker.poll()
    assert worker.restarts == 0


def test_close_ends_the_worker_and_leaves_no_descriptor():
    before = set(os.listdir("/proc/self/fd"))
    with serving(node_configuration(NODE, [])) as (_, worker):
        pid = worker.pid
        worker.close()
        worker.close()
    assert not os.path.exists(f"/proc/{pid}")
    assert set(os.listdir("/proc/self/fd")) == before


PARENT = """
import time
from m13.handshake_process import HandshakeWorker, node_configuration
from m13.identity import Identity
from native.channel import Channel
worker = HandshakeWorker(Channel.create(), node_configuration(Identity(bytes(32), b"", ""), []))
worker.start()
print(worker.pid, flush=True)
time.sleep(60)
"""


def test_worker_ends_with_its_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    assert os.path.exists(f"/proc/{pid}")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}") or "Z (" in open_status(pid))


def open_status(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        return file.read()
    return "Z ("


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"roster": [{"name": "alpha"}]}, "configuration is wrong"),
        ({"accept": [3]}, "configuration is wrong"),
        ({"v1_profile": "v0"}, "configuration is wrong"),
        ({"provider": "none"}, "unknown PQC provider"),
        ({"role": "node"}, "configuration is wrong"),
    ],
)
def test_start_says_what_is_wrong_and_does_not_quote_the_seed(change, said):
    configuration = hub_configuration(HUB, ROSTER) | change
    with Channel.create() as link, pytest.raises(HostError, match=said) as caught:
        HandshakeWorker(link, configuration).start()
    assert base64.b64encode(HUB.seed).decode() not in str(caught.value)
