"""Downloads that break off, are resumed, or return something else than the file."""

import io

import pytest
from file_server import serving
from mistakes import refused

from mtl_jax.io.fetch import FetchError, Limits, fetch, partial_of

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def server():
    with serving() as running:
        running.files["file.bin"] = CONTENT
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file.bin"


def check(path):
    if path.read_bytes() != CONTENT:
        raise ValueError("another content")


def get(server, target, name="file.bin", **options):
    settings = dict(retries=0, wait=0.01, resume=True) | options
    fetch(f"{server.address}/{name}", target, check, **settings)


def test_a_download_that_breaks_off_is_continued_by_the_next_call(server, target):
    server.faults = ["cut"]
    with refused(len(CONTENT) * 6 // 10, error=FetchError):
        get(server, target)
    assert not target.exists()
    assert partial_of(target).stat().st_size == len(CONTENT) * 6 // 10
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert not partial_of(target).exists()
    assert server.asked == [("file.bin", 0), ("file.bin", len(CONTENT) * 6 // 10)]


def test_a_download_that_breaks_off_often_is_continued_by_its_retries(server, target):
    server.faults = ["cut", "cut", "503", "cut"]
    get(server, target, retries=5)
    assert target.read_bytes() == CONTENT
    starts = [start for _, start in server.asked]
    assert len(starts) == 5
    assert starts == sorted(starts)


@pytest.mark.parametrize("fault", ["whole", "shifted"])
def test_a_server_that_sends_another_part_does_not_damage_the_file(server, target, fault):
    server.faults = ["cut", fault]
    with refused(error=FetchError):
        get(server, target)
    if fault == "shifted":
        with refused(len(CONTENT) * 6 // 10, error=FetchError):
            get(server, target)
    get(server, target)
    assert target.read_bytes() == CONTENT


def test_a_page_does_not_replace_an_incomplete_file(server, target):
    server.faults = ["cut", "page"]
    for named in ((len(CONTENT) * 6 // 10,), ("HTML",)):
        with refused(*named, error=FetchError):
            get(server, target)
    assert partial_of(target).read_bytes() == CONTENT[: len(CONTENT) * 6 // 10]


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more", CONTENT[:-1] + b"?"])
def test_an_incomplete_file_that_is_complete_is_used_and_a_wrong_one_is_replaced(
    server, target, left
):
    partial_of(target).write_bytes(left)
    get(server, target, retries=1)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1 + (left != CONTENT)


def test_a_wrong_file_is_requested_once_and_not_kept(server, target):
    server.files["file.bin"] = CONTENT[:-1] + b"?"
    with refused("content", error=FetchError):
        get(server, target, retries=3)
    assert len(server.asked) == 1
    assert not target.exists()
    assert partial_of(target).read_bytes() == b""


def test_a_missing_file_is_requested_once_and_a_limit_is_named(server, target):
    with refused(404, error=FetchError):
        get(server, target, "absent.bin", retries=3)
    with refused(error=FetchError) as caught:
        get(server, target, limits=Limits(size=1000), retries=3)
    assert isinstance(caught.value, FetchError)
    assert caught.value.limit == "size"
    assert len(server.asked) == 2


def test_a_link_is_not_written_through(server, target):
    private = target.with_name("private")
    private.write_bytes(b"mine")
    partial_of(target).symlink_to(private)
    with refused(error=FetchError):
        get(server, target)
    assert private.read_bytes() == b"mine"
    get(server, target, resume=False)
    assert (private.read_bytes(), target.read_bytes()) == (b"mine", CONTENT)


def test_a_proxy_of_the_environment_is_used(server, target, monkeypatch):
    monkeypatch.setattr("urllib.request._opener", None)  # made once, with the proxies of then
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    fetch("http://weights.invalid/file.bin", target, check, retries=0)
    assert target.read_bytes() == CONTENT


def test_progress_is_drawn_on_a_terminal_only(server, target, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    drawn = []
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        get(server, target, progress=True)
        drawn.append(stream.getvalue())
    assert "100%" in drawn[0]
    assert drawn[1] == ""


def test_a_redirect_to_an_address_without_encryption_is_refused(server, target):
    server.faults = ["302"] * 4
    get(server, target)
    assert target.read_bytes() == CONTENT
    target.unlink()
    server.faults = ["302"]
    with refused(server.address, "https", error=FetchError):
        get(server, target, redirects=("https",), retries=3)
    assert not target.exists()
