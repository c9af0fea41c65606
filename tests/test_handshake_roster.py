"""A roster that changes while the worker serves: who is admitted, who is expelled, and when."""

import contextlib
import itertools
import json
import os
import signal
import time

from m13 import handshake_worker
from m13.handshake_process import HandshakeWorker, hub_configuration, node_configuration
from native import channel
from native.channel import (
    ASK_CLIENT_HELLO,
    ASK_FINISHED,
    ASK_SERVER_HELLO,
    ASK_START,
    HUB_KEY_MISMATCH,
    NO_STATE,
    NOT_ADMITTED,
    SAY_ESTABLISHED,
    SAY_SERVER_HELLO,
)
from tests.test_handshake_worker import HUB, NODE, ROSTER, ask, reason, serving, wait_until

ENTRIES = [
    {"name": f"n{number:05}", "key": "SHA256:" + f"{number:042x}A", "address": "10.13.9.9",
     "prefix": 24}
    for number in range(500)
]  # fmt: skip


def node_hello():
    with serving(node_configuration(NODE, [HUB.fingerprint])) as (link, _):
        return ask(link, ASK_START, b"\2").payload


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


attempts = itertools.count(1)


def answer(link, hello):
    return ask(link, ASK_CLIENT_HELLO, hello, generation=next(attempts))


def test_a_node_is_admitted_while_the_worker_serves():
    hello = node_hello()
    with serving(hub_configuration(HUB, [])) as (link, worker):
        assert reason(answer(link, hello)) == NOT_ADMITTED
        worker.change_roster(admit=ROSTER)
        assert answer(link, hello).kind == SAY_SERVER_HELLO
        worker.change_roster(expel=[NODE.fingerprint])
        assert reason(answer(link, hello)) == NOT_ADMITTED


def test_an_expelled_node_cannot_finish_what_it_began():
    with (
        serving(hub_configuration(HUB, ROSTER)) as (hub_link, hub_worker),
        serving(node_configuration(NODE, [HUB.fingerprint])) as (node_link, _),
    ):
        hello = ask(node_link, ASK_START, b"\2").payload
        reply = ask(hub_link, ASK_CLIENT_HELLO, hello).payload
        said = ask(node_link, ASK_SERVER_HELLO, reply)
        assert said.kind == SAY_ESTABLISHED
        finished = channel.unpack_established(said.payload).finished
        hub_worker.change_roster(expel=[NODE.fingerprint])
        assert reason(ask(hub_link, ASK_FINISHED, finished)) == NO_STATE


def test_a_restarted_worker_has_the_changed_roster():
    hello = node_hello()
    with serving(hub_configuration(HUB, [])) as (link, worker):
        worker.change_roster(admit=ROSTER)
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: worker.restarts == 1 or (worker.poll() and False))
        wait_until(worker.poll)
        assert answer(link, hello).kind == SAY_SERVER_HELLO


def test_a_large_change_waits_for_a_worker_that_is_stopped():
    hello = node_hello()
    with serving(hub_configuration(HUB, [])) as (link, worker):
        os.kill(worker.pid, signal.SIGSTOP)
        wait_until(lambda: state(worker.pid) == "T")
        try:
            begin = time.monotonic()
            for _ in range(4):
                worker.change_roster(admit=ENTRIES)
            worker.change_roster(admit=ROSTER)
            assert time.monotonic() - begin < 1  # though the pipe is full long before
            assert worker._orders
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        wait_until(lambda: (worker.poll(), not worker._orders)[1])
        assert answer(link, hello).kind == SAY_SERVER_HELLO


def test_an_order_is_obeyed_before_the_request_that_came_after_it(monkeypatch):
    """Also when both come while the worker is about to look for requests."""
    reads, writes = os.pipe()
    monkeypatch.setattr(handshake_worker, "STANDARD_INPUT", reads)
    order = json.dumps({"expel": [NODE.fingerprint], "admit": []}).encode() + b"\n"
    done = []

    class Machine:
        def expel(self, _key):
            done.append("expelled")

        def feed(self, *_message):
            done.append("answered")

    class Link:
        request_fd = reads

        def receive(self, _ring):
            if done:
                os.close(writes)  # the parent goes away
                return None
            os.write(writes, order)
            return channel.Message(ASK_CLIENT_HELLO, 5, 1, b"")

    handshake_worker.serve(Machine(), Link(), handshake_worker.Orders())
    os.close(reads)
    assert done == ["expelled", "answered"]


def test_configuration_and_change_may_come_in_any_pieces():
    # the change is written before the worker can have read its configuration
    hello = node_hello()
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(channel.Channel.create())
        worker = HandshakeWorker(link, hub_configuration(HUB, ENTRIES))
        stack.callback(worker.close)
        worker._spawn()
        worker.change_roster(admit=ROSTER)
        wait_until(worker.poll)
        assert answer(link, hello).kind == SAY_SERVER_HELLO


def test_a_node_accepts_the_keys_it_is_told_and_no_others():
    with (
        serving(hub_configuration(HUB, ROSTER)) as (hub_link, _),
        serving(node_configuration(NODE, [NODE.fingerprint])) as (node_link, node_worker),
    ):

        def shake():
            generation = next(attempts)
            hello = ask(node_link, ASK_START, b"\2", generation=generation).payload
            reply = answer(hub_link, hello).payload
            return ask(node_link, ASK_SERVER_HELLO, reply, generation=generation)

        assert reason(shake()) == HUB_KEY_MISMATCH
        node_worker.change_pins([NODE.fingerprint, HUB.fingerprint])
        assert shake().kind == SAY_ESTABLISHED
        node_worker.change_pins([NODE.fingerprint])
        assert reason(shake()) == HUB_KEY_MISMATCH
        os.kill(node_worker.pid, signal.SIGKILL)
        wait_until(lambda: node_worker.restarts == 1 or (node_worker.poll() and False))
        wait_until(node_worker.poll)
        assert reason(shake()) == HUB_KEY_MISMATCH


def test_a_change_of_a_member_is_its_expulsion_and_its_new_admission():
    hello = node_hello()
    others = [{**ENTRIES[0], "key": f"SHA256:{number:042x}A"} for number in range(40)]
    with serving(hub_configuration(HUB, [])) as (link, worker):
        # in more lines than one: none may expel what another admitted
        worker.change_roster(admit=ROSTER)
        expelled = [*(entry["key"] for entry in others), NODE.fingerprint]
        worker.change_roster(admit=ROSTER, expel=expelled)
        assert answer(link, hello).kind == SAY_SERVER_HELLO
