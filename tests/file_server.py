"""A web server on this computer that serves files, also from a byte on, with faults on demand."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, TypeVar

PAGE = b"\n<!DOCTYPE html><html><body>Sign in to this network</body></html>"


class LoopbackServer(ThreadingHTTPServer):
    """A server on this computer, at a free port."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class QuietHandler(BaseHTTPRequestHandler):
    """Prints no requests."""

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


Server = TypeVar("Server", bound=LoopbackServer)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server until the block ends."""
    with server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class FileServer(LoopbackServer):
    """Serves `files` by name. Each response takes the first of `faults`:

    `cut`: the connection breaks after 60 % of the response; `page`: an HTML page; `whole`: all of
    the file, although a part was requested; `shifted`: another part than the requested one; or an
    HTTP status, of which 302 redirects to the same address. It begins after `delay` seconds.
    `asked` lists the name and the first requested byte of each request.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.delay = 0.0
        self.asked: list[tuple[str, int]] = []


class _Handler(QuietHandler):
    server: FileServer

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.server.asked.append((name, start))
        time.sleep(self.server.delay)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        file = self.server.files.get(name)
        status = 404 if file is None else int(fault) if fault.isdigit() else 200
        body = PAGE if fault == "page" or file is None else file
        if status == 200 and start and fault not in ("whole", "page"):
            status = 206 if start < len(body) else 416
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{self.server.address}{self.path}")
        if status == 206:
            start -= fault == "shifted"
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        elif status != 200:
            body = b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the client ended the connection
            self.wfile.write(body[: len(body) * 6 // 10] if fault == "cut" else body)


def serving() -> AbstractContextManager[FileServer]:
    """Run a server of files until the block ends."""
    return running(FileServer())
