"""The commands download and split: complete, truncated and missing images; split files."""

import io
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from pathlib import Path
from urllib.response import addinfourl

import cv2
import numpy as np
import pytest
from file_server import LoopbackServer, QuietHandler, running
from mistakes import check_faults, check_names, refused

from mtl_jax.data.__main__ import main
from mtl_jax.data.readers.annotation_tools.coco import CocoSource
from mtl_jax.data.tools.download import download
from mtl_jax.errors import AnnotationErrors
from mtl_jax.io.fetch import Limits

IMAGE = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()


class Server(LoopbackServer):
    """Serves IMAGE at every path; truncates the response, or fails, as listed in `faults`."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.asked: Counter[str] = Counter()
        self.faults: dict[str, list[str]] = {}


class Handler(QuietHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("%2F")[2]
        self.server.asked[name] += 1
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if faults else ""
        body = b"\n<!DOCTYPE html><html>" if fault == "page" else IMAGE
        for i in range(50 if fault == "headers" else 0):
            with suppress(OSError):  # the client ended the connection
                self.wfile.write(b"HTTP/1.0 200 OK\r\nDate: today and so on and on"[i : i + 1])
                time.sleep(0.15)
        if fault == "headers":
            return
        self.send_response(int(fault) if fault.isdigit() else 200)
        if fault != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the client ended the connection
            while fault == "endless":
                self.wfile.write(bytes(100_000))
            for i in range(len(body) if fault == "slow" else 0):
                self.wfile.write(body[i : i + 1])
                time.sleep(0.05)
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server()) as server:
        yield server


def write(folder: Path, address: str, names: list[str]) -> Path:
    """Write a COCO file with Firebase's URLs: a quoted path, followed by a token."""
    images = [
        {
            "id": i + 1,
            "file_name": f"{address}/o/set%2F{name}?alt=media&token=9f0c-{i}",
            "width": 30,
            "height": 20,
        }
        for i, name in enumerate(names)
    ]
    annotations = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": [1, 2, 10, 9], "Yaw": 90}
        for i in range(len(names))
    ]
    categories = [{"id": 1, "name": "Face"}]
    path = folder / "dataset.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


def test_images_are_downloaded_named_and_read(server: Server, tmp_path: Path):
    path = write(tmp_path, server.address, ["a.jpg", "b.jpg", "a.jpg"])
    out = tmp_path / "out"
    assert main(["download", str(path), "--output", str(out)]) == 0
    names = {p.name: p.read_bytes() for p in (out / "images").iterdir()}
    assert names == dict.fromkeys(("a.jpg", "a_2.jpg", "b.jpg"), IMAGE)
    assert {p.name for p in out.glob("[!.]*")} == {"images", "dataset.json"}
    source = CocoSource(out / "dataset.json", out / "images")
    assert [source[i].file_name for i in range(3)] == ["a.jpg", "b.jpg", "a_2.jpg"]
    assert json.loads((out / "dataset.json").read_text())["annotations"][0]["Yaw"] == 90


def test_images_of_other_urls_get_names_of_their_own(server: Server, tmp_path: Path):
    out = tmp_path / "out"
    first = write(tmp_path, server.address, ["a.jpg"])
    assert download(first, out) == (1, 0, ())
    other = write(tmp_path, f"{server.address}/others", ["a.jpg", "b c.jpg"])
    assert download(other, out) == (2, 0, ())  # a.jpg of the first file is another image
    named = [image["file_name"] for image in json.loads((out / other.name).read_text())["images"]]
    assert named == ["a_2.jpg", "b_c.jpg"]
    assert download(other, out) == (0, 2, ())


def test_truncated_and_failed_downloads_are_retried(server: Server, tmp_path: Path):
    server.faults = {"a.jpg": ["cut", "503"], "b.jpg": ["page"]}
    path = write(tmp_path, server.address, ["a.jpg", "b.jpg", "c.jpg"])
    found = download(path, tmp_path / "out", wait=0.0)
    assert found == (3, 0, ())
    assert server.asked == {"a.jpg": 3, "b.jpg": 2, "c.jpg": 1}


def test_an_interrupted_download_is_continued(server: Server, tmp_path: Path):
    server.faults = {"b.jpg": ["cut"]}
    path, out = write(tmp_path, server.address, ["a.jpg", "b.jpg"]), tmp_path / "out"
    first = download(path, out, retries=0)
    assert (first.fetched, len(first.failures)) == (1, 1)
    assert [p.name for p in (out / "images").iterdir()] == ["a.jpg"]
    (out / "images/b.jpg.part").write_bytes(IMAGE[:50])  # as a killed process leaves it
    assert download(path, out) == (1, 1, ())
    assert server.asked == {"a.jpg": 1, "b.jpg": 2}
    assert (out / "images/b.jpg").read_bytes() == IMAGE
    assert not (out / "images/b.jpg.part").exists()


ADDRESS = "http://x.org/a.jpg"


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ("[]", ()),
        ('{"http://x.org/a.jpg": "a.j', ()),
        (f'{{"{ADDRESS}": 3}}', (ADDRESS, 3)),
        (f'{{"{ADDRESS}": "/tmp/elsewhere.jpg"}}', (ADDRESS, "/tmp/elsewhere.jpg")),
        (f'{{"{ADDRESS}": "../elsewhere.jpg"}}', (ADDRESS, "../elsewhere.jpg")),
        (f'{{"{ADDRESS}": ".."}}', (ADDRESS,)),
    ],
)
def test_a_damaged_list_of_addresses_is_refused(tmp_path: Path, stored: str, named: tuple):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".addresses.json").write_text(stored)
    with refused(out / ".addresses.json", *named):
        download(write(tmp_path, "http://x.org", ["a.jpg"]), out)
    assert [path.name for path in out.iterdir()] == [".addresses.json"]


def test_a_download_is_not_written_through_a_link(server: Server, tmp_path: Path):
    private, images = tmp_path / "private", tmp_path / "out/images"
    private.write_bytes(b"mine")
    images.mkdir(parents=True)
    (images / "a.jpg.part").symlink_to(private)
    assert download(write(tmp_path, server.address, ["a.jpg"]), tmp_path / "out").fetched == 1
    assert private.read_bytes() == b"mine"
    assert not (images / "a.jpg").is_symlink()


LIMITS = {
    "endless": (Limits(size=1e6), "--max-size", 1),
    "slow": (Limits(rate=1000, timeout=0.3), "--min-rate", 2),
    "slow in all": (Limits(time=0.3), "--max-time", 1),
    "headers": (Limits(time=0.3), "--max-time", 1),
    "page": (Limits(), "HTML", 2),
}


@pytest.mark.parametrize("fault", LIMITS)
def test_a_download_beyond_a_limit_ends_and_says_so(server: Server, tmp_path: Path, fault: str):
    limits, named, asked = LIMITS[fault]
    server.faults = {"a.jpg": [fault.split()[0]] * 9}
    path = write(tmp_path, server.address, ["a.jpg"])
    start = time.monotonic()
    found = download(path, tmp_path / "out", retries=1, wait=0.05, limits=limits)
    assert time.monotonic() - start < 5
    assert named in found.failures[0]
    assert server.asked["a.jpg"] == asked
    assert list((tmp_path / "out/images").iterdir()) == []


@pytest.mark.parametrize("url", ["http://[::1/x.png", "ftp://a/x.png", "file:///etc/passwd"])
def test_a_url_that_cannot_be_opened_is_one_line(tmp_path: Path, url: str):
    path = write(tmp_path, "http://a", ["a.jpg"])
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = url
    path.write_text(json.dumps(data))
    with refused(path, "images[0]", url, error=AnnotationErrors):
        download(path, tmp_path / "out")


def test_a_redirect_to_another_protocol_is_an_error(tmp_path: Path, monkeypatch):
    """FTP, to which urllib follows a redirect, has other responses."""

    def redirected(opener: object, request: str, timeout: float) -> addinfourl:
        return addinfourl(io.BytesIO(IMAGE), Message(), "ftp://other/a.jpg")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", redirected)
    path = write(tmp_path, "http://a", ["a.jpg"])
    found = download(path, tmp_path / "out", retries=0)
    assert "ftp://other/a.jpg" in found.failures[0]


@pytest.mark.parametrize("option", ["--max-size", "--min-rate", "--max-time", "--timeout"])
def test_a_limit_must_be_a_number_above_zero(tmp_path: Path, option: str):
    for value in ("0", "-1", "nan", "inf", "much"):
        with refused(option):
            main(["download", "a.json", "--output", str(tmp_path), f"{option}={value}"])


def test_missing_images_are_listed(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    server.faults = {"gone.jpg": ["404"] * 9, "lost.jpg": ["404"] * 9}
    out = tmp_path / "out"
    path = write(tmp_path, server.address, ["a.jpg", "b.jpg", "gone.jpg"])
    assert main(["download", str(path), "--output", str(out)]) == 1
    printed = capsys.readouterr()
    check_names(printed.err, f"{server.address}/o/set%2Fgone.jpg?alt=media&token=9f0c-2", 404)
    assert printed.out.startswith(f"{out}: ")
    check_names(printed.out.removeprefix(f"{out}: "), 2, 0, 1)
    assert server.asked["gone.jpg"] == 1
    with refused(out / "dataset.json", 3, "gone.jpg", error=AnnotationErrors):
        CocoSource(out / "dataset.json", out / "images")
    path = write(tmp_path, server.address, ["lost.jpg"])
    assert main(["download", str(path), "--output", str(tmp_path / "none")]) == 2


def test_files_without_urls_are_refused(tmp_path: Path):
    path = write(tmp_path, "file://", ["a.jpg"])
    address = "file:///o/set%2Fa.jpg?alt=media&token=9f0c-0"
    with refused(path, "images[0]", address, "http", "https"):
        download(path, tmp_path / "out")
    path.write_text(path.read_text().replace("file://", "somewhere"))
    with refused(path, "file_name"):
        download(path, tmp_path / "out")
    with refused(tmp_path, path.name, "--output"):
        download(path, tmp_path)


def test_split_puts_every_image_in_one_file(tmp_path: Path):
    path = write(tmp_path, "http://x", [f"{i}.jpg" for i in range(20)])
    data = json.loads(path.read_text())
    for image in data["images"]:
        image["person"] = image["id"] % 7
    data["info"] = {"year": 2022}
    path.write_text(json.dumps(data))
    out = tmp_path / "out"
    arguments = ["split", str(path), "--output", str(out), "--group-key", "person", "--seed", "3"]
    assert main(arguments) == 0
    parts = [json.loads((out / f"{name}.json").read_text()) for name in ("train", "val", "test")]
    assert sorted(i["id"] for p in parts for i in p["images"]) == list(range(1, 21))
    assert sorted(a["id"] for p in parts for a in p["annotations"]) == list(range(1, 21))
    people = [{i["person"] for i in p["images"]} for p in parts]
    assert sum(map(len, people)) == 7
    assert all(people)
    for part in parts:
        assert {a["image_id"] for a in part["annotations"]} == {i["id"] for i in part["images"]}
        assert part["info"] == data["info"]
        assert part["categories"] == data["categories"]
    first = (out / "train.json").read_bytes()
    assert main(arguments) == 0
    assert (out / "train.json").read_bytes() == first


def test_split_names_the_records_without_a_group_and_wrong_arguments(tmp_path: Path):
    path = write(tmp_path, "http://x", ["a.jpg", "b.jpg"])
    with refused(path, "person", error=AnnotationErrors) as caught:
        main(["split", str(path), "--output", str(tmp_path / "o"), "--group-key", "person"])
    lines = [fault.removeprefix(f"{path}: ") for fault in caught.value.faults]
    check_faults(lines, (1, "person"), (2, "person"))
    with refused("fractions", "(1.0, 1.0, 1.0)", "train", "val", "test"):
        main(["split", str(path), "--output", str(tmp_path / "o"), "--fractions", "1", "1", "1"])
    with refused("split", "--output"):
        main(["split", str(path)])
    train = path.rename(tmp_path / "train.json")
    with refused(train, "--output"):
        main(["split", str(train), "--output", str(tmp_path)])


@pytest.mark.parametrize("command", [[], ["download"], ["split"]])
def test_help_shows_an_example(command: list[str]):
    line = [sys.executable, "-m", "mtl_jax.data", *command, "--help"]
    found = subprocess.run(line, capture_output=True, text=True, check=True)
    assert f"python -m mtl_jax.data {(command or ['download'])[0]} dataset.json" in found.stdout
