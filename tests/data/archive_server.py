"""A web server on the loopback that serves a folder, and can be told to misbehave."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class ArchiveServer:
    """Serves the files of a folder.

    Attributes:
        cut: bytes after which the next connections break; one is used up by each connection.
        ranges: False: as a server that knows no Range.
        asked: (file name, Range header) of each request.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cut: list[int] = []
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []
        self.url = ""


@contextmanager
def serving(folder: Path) -> Iterator[ArchiveServer]:
    state = ArchiveServer(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, wanted = self.path.lstrip("/"), self.headers.get("Range")
            state.asked.append((name, wanted))
            data = (state.folder / name).read_bytes()
            start = 0
            if wanted and state.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
                if start >= len(data):
                    self.send_error(416)
                    return
            self.send_response(206 if wanted and state.ranges else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            end = start + state.cut.pop(0) if state.cut else len(data)
            self.wfile.write(data[start:end])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
