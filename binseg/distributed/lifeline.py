"""Connections by which the processes of one run notice at once that one of them has ended.

A collective operation waits for a process that was killed, for minutes (NCCL) or for ever (a
process that only polls). Here every process keeps a connection to process 0. The kernel closes it
when a process ends, however it ends; keep-alive probes close it when a machine is lost. No message
is needed from a living process, so that one that is merely slow, or stopped for a while, is never
taken for dead.

Whoever fails sends one line to process 0; the first line that arrives there is the verdict, goes
to all, and every process ends with it.
"""

import contextlib
import hmac
import ipaddress
import json
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

_LONGEST = 1 << 14  # bytes of a message; a line for people, not data
_PATIENCE = 5.0  # seconds to wait for a verdict that is on its way
_GRACE = 0.5  # seconds in which a process may end by itself
_LATE = 2.0  # seconds in which a process may still connect and hear why all end
_CONNECTING = 20.0  # seconds until process 0 counts as out of reach

# an unreachable machine is noticed after 4 + 4 · 2 seconds
_KEEP_ALIVE = (("TCP_KEEPIDLE", 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 4))


class Verdict(NamedTuple):
    """Why all processes end: a line for people, and the exit status."""

    line: str
    status: int


class Lifeline:
    """One process's end of the connections; see `Server` and `Client`.

    Args:
        rank: of this process.
        size: how many processes there are.

    Attributes:
        advice: gives what to do after a process was lost, in words that follow a semicolon.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.advice: Callable[[], str] = lambda: "start again"
        self._lock = threading.Lock()
        self._verdict: Verdict | None = None
        self._known = threading.Event()
        # the main thread is about to end by itself, well or not
        self._leaving = threading.Event()

    def fail(self, line: str, status: int) -> Verdict:
        """Tell all that this process fails; what they end with, perhaps another's earlier line."""
        raise NotImplementedError

    def close(self) -> None:
        """This process is done; its end is no loss."""
        raise NotImplementedError

    def wait(self, seconds: float = _PATIENCE) -> None:
        """Give a verdict time to arrive, which then ends this process."""
        if self._known.wait(seconds):
            threading.Event().wait()  # the watching thread ends the process

    def _lost(self, rank: int, host: str) -> Verdict:
        where = "" if host in ("", socket.gethostname()) else f" on {host}"
        return Verdict(
            f"process {rank} of {self.size}{where} was lost (killed, out of memory or cut off); "
            f"{self.advice()}",
            1,
        )

    def _decide(self, verdict: Verdict) -> Verdict:
        """The first verdict stands."""
        with self._lock:
            if self._verdict is None:
                self._verdict = verdict
        self._known.set()
        return self._verdict

    def _end(self, verdict: Verdict) -> None:
        """End this process from a thread: the main one may wait in a collective for ever.

        When all stop for one reason, the main thread is about to say so itself and to clean up.
        """
        if self._leaving.wait(_GRACE):
            return
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            print(f"binseg: error: {verdict.line}", file=sys.stderr, flush=True)
        os._exit(verdict.status)


class Server(Lifeline):
    """Process 0's end: listens, notices what is lost, and passes the verdict on.

    Args:
        size: how many processes there are.
        host: name or address that the others reach this process by.

    Attributes:
        address: what a `Client` needs, as text.

    Raises:
        OSError: `host` is no address of this machine.
    """

    def __init__(self, size: int, host: str) -> None:
        super().__init__(0, size)
        self._token = secrets.token_hex(16)
        self._socket = _listener(host)
        port = self._socket.getsockname()[1]
        self.address = json.dumps([host, port, self._token])
        self._peers: dict[socket.socket, _Peer] = {}
        # wakes the thread that waits for messages
        self._waker, self._woken = socket.socketpair()
        _close_in_children(self._sockets)
        self._thread = threading.Thread(target=self._watch, daemon=True, name="binseg-lifeline")
        self._thread.start()

    def fail(self, line: str, status: int) -> Verdict:
        verdict = self._decide(Verdict(line, status))
        self.close()
        return verdict

    def close(self) -> None:
        self._leaving.set()
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        self._thread.join(_PATIENCE)

    def _sockets(self) -> list[socket.socket]:
        return [self._socket, self._waker, self._woken, *self._peers]

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while self._verdict is None and not self._leaving.is_set():
                self._listen(selector, None)
            selector.unregister(self._woken)
            # processes that are about to connect must hear of a verdict, too
            until = time.monotonic() + (_LATE if self._verdict else 0)
            while len(self._connected()) < self.size - 1 and time.monotonic() < until:
                self._listen(selector, 0.1)
        for connection in self._connected():
            _send(connection, {"end": self._verdict} if self._verdict else {"bye": True})
        if self._verdict is not None:
            self._end(self._verdict)
        for each in self._sockets():
            each.close()

    def _listen(self, selector: selectors.BaseSelector, seconds: float | None) -> None:
        for key, _ in selector.select(seconds):
            if key.fileobj is self._socket:
                self._accept(selector)
            elif key.fileobj is not self._woken:
                assert isinstance(key.fileobj, socket.socket)
                self._hear(key.fileobj, selector)

    def _connected(self) -> list[socket.socket]:
        return [each for each, peer in self._peers.items() if peer.rank is not None]

    def _accept(self, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._socket.accept()
            _keep_alive(connection)
            self._peers[connection] = _Peer()
            selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        peer = self._peers[connection]
        messages = peer.messages.receive(connection)
        for message in messages or ():
            if peer.rank is None:
                if not hmac.compare_digest(str(message.get("token")), self._token):
                    messages = None  # a stranger, whose end is no loss
                    break
                peer.rank, peer.host = int(message["rank"]), str(message["host"])
            elif "end" in message:
                self._decide(_verdict_in(message))
            elif "bye" in message:
                peer.done = True
        if messages is None:
            if peer.rank is not None and not peer.done:
                self._decide(self._lost(peer.rank, peer.host))
            selector.unregister(connection)
            del self._peers[connection]
            connection.close()


class Client(Lifeline):
    """The end of any other process: waits for a verdict, or for the loss of process 0.

    Args:
        rank: of this process, from 1.
        size: how many processes there are.
        address: of the `Server`.

    Raises:
        OSError: process 0 cannot be reached.
    """

    def __init__(self, rank: int, size: int, address: str) -> None:
        super().__init__(rank, size)
        self._host, port, token = json.loads(address)
        self._socket = socket.create_connection((self._host, port), timeout=_CONNECTING)
        self._socket.settimeout(None)
        _keep_alive(self._socket)
        _send(self._socket, {"token": token, "rank": rank, "host": socket.gethostname()})
        _close_in_children(lambda: [self._socket])
        threading.Thread(target=self._watch, daemon=True, name="binseg-lifeline").start()

    def fail(self, line: str, status: int) -> Verdict:
        _send(self._socket, {"end": Verdict(line, status)})
        self._leaving.set()
        self._known.wait(_PATIENCE)
        return self._decide(Verdict(line, status))

    def close(self) -> None:
        self._leaving.set()
        _send(self._socket, {"bye": True})

    def _watch(self) -> None:
        messages, done = _Messages(), False
        while self._verdict is None and not done:
            received = messages.receive(self._socket)
            for message in received or ():
                if "end" in message:
                    self._decide(_verdict_in(message))
                done = done or "bye" in message
            if received is None and not done and not self._leaving.is_set():
                self._decide(self._lost(0, _name(self._host)))
            done = done or received is None
        if self._verdict is not None:
            self._end(self._verdict)


def _verdict_in(message: dict[str, Any]) -> Verdict:
    line, status = message["end"]
    return Verdict(str(line), int(status))


class _Messages:
    """Puts what arrives together to messages: a line of JSON each."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, connection: socket.socket) -> list[dict[str, Any]] | None:
        """Waits for something to arrive; None if the connection is closed, or talks nonsense."""
        try:
            arrived = connection.recv(_LONGEST)
        except OSError:
            return None
        *lines, self._rest = (self._rest + arrived).split(b"\n")
        if not arrived or len(self._rest) > _LONGEST:
            return None
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None
        return messages if all(isinstance(each, dict) for each in messages) else None


class _Peer:
    """What process 0 knows of another one."""

    def __init__(self) -> None:
        self.rank: int | None = None  # unknown until it has shown the token
        self.host = ""
        self.done = False
        self.messages = _Messages()


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # whoever is gone is noticed by the watching thread
        connection.sendall(json.dumps(message).encode() + b"\n")


def _listener(host: str) -> socket.socket:
    """A socket that only this machine reaches if `host` is a loopback address."""
    family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    if ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        return socket.create_server((str(address[0]), 0), family=family)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):  # macOS lacks one
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _close_in_children(sockets: Callable[[], list[socket.socket]]) -> None:
    """Forked loader workers must not keep a connection open that their parent's end closes."""

    def close() -> None:
        for each in sockets():
            with contextlib.suppress(OSError):
                each.close()

    os.register_at_fork(after_in_child=close)


def _name(host: str) -> str:
    """The host's name; empty for this machine."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return ""
    return "" if host == "localhost" else host
