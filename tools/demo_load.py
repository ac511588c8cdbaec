"""The demo under load: `python tools/demo_load.py --clients 32 --seconds 60`.

Starts `binseg demo` as a process of its own. Each client uploads a street scene of its own, asks
`/segment` for it, fetches the class ids, and begins anew. Counted are the answers, those that say
"queue full" (the client then waits a second), and all else, which should not happen; the server's
resident memory is noted every ten seconds. Linux only, for the memory.
"""

import argparse
import asyncio
import contextlib
import io
import json
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
from PIL import Image

from binseg.bench.machine import describe
from binseg.data.scenes import draw_scene
from binseg.errors import BinsegError

FULL = "queue full"
_SIZE = (480, 640)
_PAUSE = 1.0  # seconds, after "queue full"
_PATIENCE = 180.0  # seconds for the server to start, and for one answer
_EVERY = 10.0  # seconds between two looks at the memory


@dataclass
class Load:
    """What came of a load test.

    Attributes:
        clients: at a time.
        seconds: during which they began new requests.
        start: seconds from the command to the page.
        answers: how many ended how: "ok", "queue full", or the fault's own words.
        latency: seconds of answers that are ok, from the upload to the fetched class ids.
        memory: (seconds, resident bytes of the server).
    """

    clients: int
    seconds: float
    start: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    latency: list[float] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """Answers that are neither right nor "queue full"."""
        return self.answers.total() - self.answers["ok"] - self.answers[FULL]

    def percentiles(self) -> dict[str, float]:
        """Of the latency: median, 95 %, 99 % and the longest."""
        if len(self.latency) < 2:
            return {}
        cuts = statistics.quantiles(self.latency, n=100, method="inclusive")
        return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(self.latency)}


def measure_load(clients: int = 32, seconds: float = 60.0, models: tuple[str, ...] = ()) -> Load:
    """Start a server, let the clients at it, and stop it.

    Raises:
        BinsegError: the server did not start.
    """
    load = Load(clients, seconds)
    with _server(models, load) as (address, pid):
        asyncio.run(_run(address, pid, load))
    return load


@contextlib.contextmanager
def _server(models: tuple[str, ...], load: Load) -> Iterator[tuple[str, int]]:
    """Address and process id of a demo that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "binseg", "demo", *models, "--port", str(port)]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        while not _answers(address):
            if process.poll() is not None or time.monotonic() - began > _PATIENCE:
                raise BinsegError("the demo did not start; `binseg demo` says why")
            time.sleep(0.1)
        load.start = time.monotonic() - began
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(address).is_success
    return False


async def _run(address: str, pid: int, load: Load) -> None:
    async with httpx.AsyncClient(
        base_url=f"{address}/gradio_api",
        timeout=_PATIENCE,
        # the server closes idle connections, at times just when one is used again
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
    ) as http:
        parameters = (await http.get("/info")).json()["named_endpoints"]["/segment"]["parameters"]
        choices = [each["parameter_default"] for each in parameters[1:]]
        request = partial(_request, http, choices)
        await request(_scene(0))  # opens the model
        began = time.monotonic()
        watch = asyncio.create_task(_watch(pid, load, began))
        await asyncio.gather(*(_client(request, n, load, began) for n in range(load.clients)))
        watch.cancel()
    load.memory.append((time.monotonic() - began, _resident(pid)))


async def _watch(pid: int, load: Load, began: float) -> None:
    while True:
        load.memory.append((time.monotonic() - began, _resident(pid)))
        await asyncio.sleep(_EVERY)


async def _client(
    request: Callable[[bytes], Awaitable[str]], number: int, load: Load, began: float
) -> None:
    image = _scene(number)
    while time.monotonic() - began < load.seconds:
        sent = time.monotonic()
        try:
            answer = await request(image)
        except httpx.HTTPError as error:
            answer = f"{type(error).__name__}: {error}"
        load.answers[answer] += 1
        if answer == "ok":
            load.latency.append(time.monotonic() - sent)
        else:
            await asyncio.sleep(_PAUSE)


async def _request(http: httpx.AsyncClient, choices: list[str], image: bytes) -> str:
    """Upload, segment by (model, backend), fetch the class ids; "ok", or what went wrong."""
    uploaded = await http.post("/upload", files={"files": ("scene.jpg", image)})
    uploaded.raise_for_status()
    file = {"path": uploaded.json()[0], "meta": {"_type": "gradio.FileData"}}
    called = await http.post("/call/segment", json={"data": [file, *choices]})
    if called.status_code == httpx.codes.SERVICE_UNAVAILABLE and "full" in called.text:
        return FULL
    called.raise_for_status()
    answered = await http.get(f"/call/segment/{called.json()['event_id']}")
    events = answered.text.strip().split("\n\n")
    kind, data = (line.partition(": ")[2] for line in events[-1].splitlines()[:2])
    if kind != "complete":
        return f"{kind}: {data}"
    ids = await http.get(f"/file={json.loads(data)[0]['path']}")
    ids.raise_for_status()
    return "ok" if Image.open(io.BytesIO(ids.content)).size == _SIZE[::-1] else "another size"


def _scene(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_scene(0, number, _SIZE).image).save(buffer, "JPEG")
    return buffer.getvalue()


def _resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main() -> int:
    """Run from the command line; 1 if there was any fault but "queue full"."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("models", nargs="*", help="as for `binseg demo`")
    parser.add_argument("--clients", type=int, default=32, help="at a time (default: 32)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load (default: 60)")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    load = measure_load(options.clients, options.seconds, tuple(options.models))
    print(f"from command to page: {load.start:.1f} s")
    print("answers:", ", ".join(f"{count} {name}" for name, count in load.answers.most_common()))
    print("latency:", ", ".join(f"{k} {v:.2f} s" for k, v in load.percentiles().items()))
    print("memory:", ", ".join(f"{at:.0f} s {size / 1e6:.0f} MB" for at, size in load.memory))
    if options.out:
        counted = {"answers": dict(load.answers), "percentiles": load.percentiles()}
        figures = vars(load) | counted | describe()
        del figures["latency"]  # hundreds of numbers, of which the percentiles say enough
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if load.faults else 0


if __name__ == "__main__":
    sys.exit(main())
