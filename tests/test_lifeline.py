"""Processes notice at once that one of them has ended, however it ends, and say the same line."""

import signal
import socket
import subprocess
import sys

import pytest

PROCESS = """
import os, sys, threading
from binseg.distributed.lifeline import Client, Server

rank = int(sys.argv[1])
if rank == 0:
    lifeline = Server(3, "127.0.0.1")
    print(lifeline.address, flush=True)
else:
    lifeline = Client(rank, 3, sys.argv[2])
    print("connected", flush=True)
lifeline.advice = lambda: "start again"
for order in sys.stdin:
    if order == "fork\\n":  # as a loader worker, which lives on when its parent is killed
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            sys.stdin.close()
            threading.Event().wait(20)
            os._exit(0)
        print("forked", flush=True)
    elif order == "close\\n":
        lifeline.close()
        break
    else:
        verdict = lifeline.fail(order.strip(), 3)
        print(f"binseg: error: {verdict.line}", file=sys.stderr)
        sys.exit(verdict.status)
"""


class Process:
    """One of three, which does as it is told."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said = self.process.stdout.readline().strip()

    def told(self, order: str) -> None:
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Exit status and stderr; fails if it does not end."""
        status = self.process.wait(timeout=60)
        return status, self.process.stderr.read()


@pytest.fixture
def three():
    first = Process("0")
    found = [first, Process("1", first.said), Process("2", first.said)]
    yield found
    for each in found:
        each.process.kill()


LOST = "binseg: error: process {} of 3 was lost (killed, out of memory or cut off); start again\n"


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_with_one_line(three, victim):
    three[victim].process.send_signal(signal.SIGKILL)
    for each in three:
        if each is not three[victim]:
            assert each.end() == (1, LOST.format(victim))


def test_its_own_children_do_not_hide_that_a_process_was_killed(three):
    three[1].told("fork")
    assert three[1].process.stdout.readline() == "forked\n"
    three[1].process.send_signal(signal.SIGKILL)
    assert three[0].end() == (1, LOST.format(1))
    assert three[2].end() == (1, LOST.format(1))


@pytest.mark.parametrize("failing", [0, 2])
def test_a_fault_ends_all_with_the_same_line_and_status(three, failing):
    three[failing].told("no such folder")
    for each in three:
        assert each.end() == (3, "binseg: error: no such folder\n")


def test_two_faults_at_once_end_with_one_line(three):
    three[1].told("one")
    three[2].told("two")
    ends = {each.end() for each in three}
    assert ends in ({(3, "binseg: error: one\n")}, {(3, "binseg: error: two\n")})


def test_those_that_are_done_are_no_loss(three):
    three[1].told("close")
    assert three[1].end() == (0, "")
    three[0].told("close")
    assert three[0].end() == (0, "")
    three[2].told("close")
    assert three[2].end() == (0, "")


def test_strangers_are_no_loss_and_change_nothing(three):
    host, port = three[0].said.strip("[]").split(", ")[:2]
    with socket.create_connection((host.strip('"'), int(port))) as stranger:
        stranger.sendall(b'{"token": "guessed", "end": ["gotcha", 0]}\n')
        assert stranger.recv(100) == b""  # shown the door
    with socket.create_connection((host.strip('"'), int(port))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.recv(100) == b""
    three[1].process.send_signal(signal.SIGKILL)
    assert three[0].end() == (1, LOST.format(1))
