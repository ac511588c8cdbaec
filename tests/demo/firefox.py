"""Firefox as Debian and others ship it, driven by WebDriver BiDi, which it speaks by itself.

https://w3c.github.io/webdriver-bidi/
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from websockets.sync.client import ClientConnection, connect

_LARGEST = 2**26  # bytes of an answer


def find_firefox() -> str | None:
    """The path of Firefox; None where there is none."""
    return next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)


class FirefoxPage:
    """One tab.

    Args:
        socket: connection to the browser.
        seconds: that an answer may take.
    """

    def __init__(self, socket: ClientConnection, seconds: float) -> None:
        self._socket, self._seconds = socket, seconds
        self._numbers = count(1)
        self._ask("session.new", capabilities={})
        self._tab = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def goto(self, address: str) -> None:
        """Open an address and wait until it has loaded."""
        self._ask("browsingContext.navigate", context=self._tab, url=address, wait="complete")

    def set_files(self, selector: str, *paths: Path) -> None:
        """Choose files, as a person does."""
        [node] = self._ask(
            "browsingContext.locateNodes",
            context=self._tab,
            locator={"type": "css", "value": selector},
        )["nodes"]
        self._ask(
            "input.setFiles",
            context=self._tab,
            element={"sharedId": node["sharedId"]},
            files=[str(path.resolve()) for path in paths],
        )

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + self._seconds
        while not self.evaluate(f"!!({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.05)

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression, awaited; it is passed as JSON.

        Raises:
            RuntimeError: it threw.
        """
        answer = self._ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self._tab},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def _ask(self, method: str, **parameters: object) -> dict:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (told := json.loads(self._socket.recv(self._seconds))).get("id") != number:
            pass  # an event
        if told["type"] == "error":
            raise RuntimeError(f"{method}: {told['message']}")
        return told["result"]


@contextmanager
def firefox_page(path: str, seconds: float = 120) -> Iterator[FirefoxPage]:
    """Firefox at `path` without a window, in a profile of its own."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [path, "--headless", "--no-remote", "--profile", profile]
        browser = subprocess.Popen(
            [*command, "--remote-debugging-port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_address(Path(profile), seconds), max_size=_LARGEST) as socket:
                yield FirefoxPage(socket, seconds)
        finally:
            browser.kill()
            browser.wait()


def _address(profile: Path, seconds: float) -> str:
    """Where the browser listens, which it writes into its profile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            told = json.loads((profile / "WebDriverBiDiServer.json").read_text())
            return f"ws://{told['ws_host']}:{told['ws_port']}/session"
        except (OSError, ValueError):
            time.sleep(0.05)
    raise TimeoutError("Firefox does not listen")
