"""Download of files: completely or not at all, within limits, with retries and resumption."""

import io
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from socket import socket
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit

from tqdm import tqdm

_CHUNK = 1 << 16  # bytes
_GONE = (400, 401, 403, 404, 410)  # HTTP status codes that a retry does not change
_PARTIAL, _NO_REST = 206, 416


class Limits(NamedTuple):
    """Limits on a download."""

    size: float = 256e6  # bytes
    rate: float = 1e3  # bytes per second, on average after the first `timeout` seconds
    time: float = 600.0  # seconds, with all retries
    timeout: float = 30.0  # seconds to wait for a response, or for more of it


DEFAULT = Limits()


class FetchError(ValueError):
    """A failed download. `limit` is the field of Limits that it exceeds, or ''."""

    def __init__(self, message: str, limit: str = ""):
        super().__init__(message)
        self.limit = limit


class _FinalError(FetchError):
    """An error that a retry does not change."""


def partial_of(target: Path) -> Path:
    """Return the path of an incomplete download of `target`."""
    return target.with_name(f"{target.name}.part")


def fetch(
    address: str,
    target: Path,
    check: Callable[[Path], None],
    *,
    retries: int = 3,
    wait: float = 1.0,
    limits: Limits = DEFAULT,
    resume: bool = False,
    progress: bool = False,
    redirects: Sequence[str] = ("http", "https"),
) -> None:
    """Download a URL to `target`, completely or not at all. Raises FetchError if it fails.

    `check` raises ValueError for a complete file that is wrong. The first retry follows after
    `wait` seconds, and each further one after twice the previous time. With `resume`, an incomplete
    file is kept as `target`.part, the next attempt or call requests only the rest, and a file that
    is wrong although it came in one piece is not requested again. With `progress`, a bar is drawn
    on stderr if that is a terminal. Redirects to URLs with other schemes than `redirects` are
    refused. Proxies are those of the environment, such as https_proxy.
    """
    end = time.monotonic() + limits.time
    partial, last = partial_of(target), FetchError("no attempt was made")
    for attempt in range(retries + 1):
        if attempt:
            pause = wait * 2 ** (attempt - 1)
            if time.monotonic() + pause > end:
                break
            time.sleep(pause)
        try:
            if not resume:
                partial.unlink(missing_ok=True)  # a link would be written through
            _attempt(address, partial, check, limits, end, progress, resume, redirects)
            partial.replace(target)
            return
        except urllib.error.HTTPError as error:
            last = FetchError(f"the server returned {error.code} {error.reason}")
            error.close()
            if error.code in _GONE:
                break
        except urllib.error.URLError as error:
            last = FetchError(str(error.reason))
        except FetchError as error:
            last = error
            if isinstance(error, _FinalError):
                break
        except (OSError, HTTPException, ValueError) as error:
            last = FetchError(str(error) or type(error).__name__)
    if not resume:
        partial.unlink(missing_ok=True)
    raise last


def _attempt(
    address: str,
    partial: Path,
    check: Callable[[Path], None],
    limits: Limits,
    end: float,
    progress: bool,
    resume: bool,
    redirects: Sequence[str],
) -> None:
    """Download the rest of `partial`, and check the file."""
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with open(descriptor, "r+b") as file:
        start = file.seek(0, os.SEEK_END)
        # As browsers do: escape spaces and non-ASCII characters, keep existing escapes.
        request = urllib.request.Request(quote(address, safe="%/:?#[]@!$&'()*+,;=~"))
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            opener = urllib.request.build_opener(
                _BoundedHandler(limits, end), _RedirectHandler(redirects)
            )
            with opener.open(request, timeout=limits.timeout) as response:
                if not isinstance(response, HTTPResponse):
                    raise _FinalError(f"{response.url} is not an address of http or https")
                start = _first_byte(response, start)
                _receive(response, file, start, limits, end, progress)
        except urllib.error.HTTPError as error:
            if error.code != _NO_REST or not start:
                raise
            error.close()  # the file may be complete
        file.flush()
        try:
            check(partial)
        except ValueError as error:
            file.truncate(0)
            wrong = _FinalError if resume and not start else FetchError
            raise wrong(str(error)) from None


class _BoundedStream(io.RawIOBase):
    """A stream that is read until a time; urllib limits each read, not the time of all headers."""

    def __init__(self, stream: io.RawIOBase, limits: Limits, end: float):
        self._stream, self._limits, self._end = stream, limits, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if time.monotonic() > self._end:
            raise FetchError(f"takes more than {self._limits.time:g} s", "time")
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _BoundedHandler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens URLs whose responses are read until a time, with their headers."""

    def __init__(self, limits: Limits, end: float):
        super().__init__()
        self._limits, self._end = limits, end

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> HTTPResponse:
        def connect(host: str, **given: Any) -> HTTPConnection:
            connection = http_class(host, **given)
            connection.response_class = self._read
            return connection

        return super().do_open(connect, req, **options)

    def _read(self, sock: socket, **options: Any) -> HTTPResponse:
        response = HTTPResponse(sock, **options)
        stream = _BoundedStream(response.fp.detach(), self._limits, self._end)
        response.fp = io.BufferedReader(stream)
        return response


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the listed schemes. urllib also follows those from https to http."""

    def __init__(self, schemes: Sequence[str]):
        self._schemes = schemes

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in self._schemes:
            fp.close()
            schemes = " or ".join(self._schemes)
            raise _FinalError(f"redirected to {newurl}, which is not an address of {schemes}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _first_byte(response: HTTPResponse, requested: int) -> int:
    """Return the position in the file at which a response starts. Raises FetchError if it is
    neither the requested one nor 0.
    """
    if response.status != _PARTIAL:
        return 0
    found = response.headers.get("Content-Range", "")
    if not found.startswith(f"bytes {requested}-"):
        raise FetchError(f"requested bytes from {requested} on, got {found or 'others'}")
    return requested


def _receive(
    response: HTTPResponse, file: BinaryIO, start: int, limits: Limits, end: float, progress: bool
) -> None:
    """Write a response to a file from byte `start` on. Raises FetchError if it exceeds a limit, is
    incomplete, or is an HTML page.
    """
    began, received = time.monotonic(), 0
    total = None if response.length is None else start + response.length
    bar = tqdm(
        total=total, initial=start, unit="B", unit_scale=True, disable=None if progress else True
    )
    with bar:
        while True:
            if start + received + (response.length or 0) > limits.size:
                raise _FinalError(f"has more than {limits.size / 1e6:g} MB", "size")
            data = response.read1(_CHUNK)
            if not received:
                if not start and data[:512].lstrip().lower().startswith(
                    (b"<!doctype html", b"<html")
                ):
                    raise FetchError(
                        "the server sent an HTML page in place of the file; open the URL in a "
                        "browser to see whether it asks for a login"
                    )
                file.truncate(start)  # only now: a page must not replace an incomplete file
                file.seek(start)
            if not data:
                break
            file.write(data)
            received += len(data)
            bar.update(len(data))
            now = time.monotonic()
            if now > end:
                raise FetchError(f"takes more than {limits.time:g} s", "time")
            if now - began > limits.timeout and received < limits.rate * (now - began):
                raise FetchError(f"comes at less than {limits.rate:g} bytes/s", "rate")
    if response.length:
        raise FetchError(f"the connection broke after {start + received} bytes")
