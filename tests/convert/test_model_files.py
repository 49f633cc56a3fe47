"""Models by name and address: first and later uses, broken and wrong downloads, no network."""

import hashlib
import json
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scripts
from convert.planted import plant
from file_server import serving
from mistakes import check_names, refused

import mtl_jax
from mtl_jax import commandline
from mtl_jax.convert import model_files, pretrained
from mtl_jax.convert.__main__ import main as convert
from mtl_jax.convert.model_files import find_model
from mtl_jax.convert.torch_files import write_torch
from mtl_jax.runs.loading import load_run
from mtl_jax.runs.origin import read_card
from mtl_jax.training.single_file import read_pack, write_pack

NAME, FILE = "resnet18", "resnet18-f37072fd.pth"


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the folder of weights, which is empty. The current folder is new, too."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MTL_JAX_WEIGHTS", str(tmp_path / "weights"))
    for name in ("MTL_JAX_OFFLINE", "MTL_JAX_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(model_files, "WAIT", 0.01)
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def state():
    """Torchvision's ResNet-18 with seeded weights."""
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    return {key: value.numpy() for key, value in models.resnet18().state_dict().items()}


@pytest.fixture(scope="module")
def content(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / FILE
    write_torch(path, state)
    return path.read_bytes()


@pytest.fixture
def weights(server, content, monkeypatch):
    """Public weights with the layout of torchvision's file."""
    return plant(server, NAME, content, monkeypatch)


@pytest.fixture
def short(server, monkeypatch):
    """Public weights of a few bytes, and a conversion that only packs them."""

    def pack(weights, file, packed):
        write_pack(packed, {}, {"params": {"x": np.frombuffer(file.read_bytes(), np.uint8)}})

    monkeypatch.setattr(model_files, "_convert", pack)
    return plant(server, NAME, bytes(range(256)) * 100, monkeypatch)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def forbid(name: str):
    """Return a replacement for a function that must not be called."""

    def fail(*arguments, **options):
        raise AssertionError(f"{name} is called")

    return fail


def test_the_first_use_downloads_and_converts_and_the_second_does_neither(
    weights, server, state, folder, monkeypatch, capsys
):
    packed = find_model(NAME, whole=False)
    check_names(capsys.readouterr().err, weights.address, folder / FILE, packed)
    assert files(folder) == sorted([FILE, packed.name])
    metadata, variables = read_pack(packed)
    np.testing.assert_array_equal(
        variables["params"]["backbone"]["stem"]["conv1"]["kernel"],
        state["conv1.weight"].transpose(2, 3, 1, 0),
    )
    assert set(variables["params"]) == {"backbone"}
    card = metadata["card"]
    assert card["source"]["sha256"] == hashlib.sha256(server.files[FILE]).hexdigest()
    assert card["trained_on"] == [{"name": "ImageNet-1K"}]
    assert card["licence"] == weights.licence
    assert card["metrics"] == [{"split": "ImageNet-1K val", "values": {"accuracy": 0.69758}}]
    monkeypatch.setattr(model_files, "_convert", forbid("_convert"))
    (folder / FILE).unlink()
    assert find_model(weights.entry, whole=False) == packed
    assert server.asked == [(FILE, 0)]
    assert capsys.readouterr() == ("", "")


def test_the_second_use_imports_no_conversion_code(weights, folder):
    find_model(NAME, whole=False)
    code = (
        "import sys, dataclasses\n"
        "from mtl_jax.convert import pretrained, model_files\n"
        f"known = pretrained.find({NAME!r})\n"
        f"changed = dict(address={weights.address!r}, sha256={weights.sha256!r}, "
        f"size={weights.size}, rounding=0)\n"
        "pretrained.TABLE = (dataclasses.replace(known, **changed),)\n"
        f"print(model_files.find_model({NAME!r}, whole=False))\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'jax', 'torch', 'tensorflow', 'h5py', 'orbax'}))\n"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=scripts.ROOT
    )
    assert done.returncode == 0, done.stderr
    packed, loaded = done.stdout.splitlines()
    assert Path(packed).parent == folder
    assert loaded == "[]"
    assert done.stderr == ""


def test_another_version_converts_again_and_removes_the_older_model(short, folder, monkeypatch):
    first = find_model(NAME, whole=False)
    monkeypatch.setattr(mtl_jax, "__version__", "9.9")
    second = find_model(NAME, whole=False)
    assert files(folder) == sorted([FILE, second.name])
    assert first != second


def test_a_download_that_broke_off_at_60_percent_is_continued(short, server, folder, monkeypatch):
    monkeypatch.setattr(model_files, "RETRIES", 0)
    server.faults = ["cut"]
    received = short.size * 6 // 10
    with refused(short.address, received, folder / FILE):
        find_model(NAME, whole=False)
    assert files(folder) == [f"{FILE}.part"]
    find_model(NAME, whole=False)
    assert server.asked == [(FILE, 0), (FILE, received)]


@pytest.mark.parametrize("fault", ["wrong", "short", "page", "404", "500"])
def test_another_file_is_refused_and_nothing_is_left(short, server, folder, fault):
    if fault == "wrong":
        server.files[FILE] = server.files[FILE][:-1] + b"?"
    elif fault == "short":
        server.files[FILE] = server.files[FILE][:1000]
    else:
        server.faults = [fault] * 3
    named = {"wrong": (short.sha256,), "short": ("1,000",), "page": ("HTML",)}.get(fault, (fault,))
    with refused(short.address, folder / FILE, *named):
        find_model(NAME, whole=False)
    assert files(folder) == []


def test_without_a_network_the_address_and_the_path_are_named(short, server, folder, monkeypatch):
    with serving() as closed:
        away = closed.address
    monkeypatch.setenv("MTL_JAX_MIRROR", away)
    with refused(f"{away}/{FILE}", folder / FILE):
        find_model(NAME, whole=False)
    monkeypatch.delenv("MTL_JAX_MIRROR")
    monkeypatch.setenv("MTL_JAX_OFFLINE", "1")
    with refused(short.address, "MTL_JAX_OFFLINE", folder / FILE):
        find_model(NAME, whole=False)
    assert server.asked == []
    (folder / FILE).write_bytes(server.files[FILE])  # the user puts it there
    assert find_model(NAME, whole=False).parent == folder
    assert server.asked == []


def test_a_file_that_the_user_put_there_is_checked(short, server, folder):
    folder.mkdir()
    (folder / FILE).write_bytes(b"?" * short.size)
    with refused(folder / FILE, short.sha256):
        find_model(NAME, whole=False)
    assert (folder / FILE).exists()
    assert server.asked == []


def test_a_missing_reader_is_told_before_the_download(server, folder, monkeypatch):
    plant(server, "mask_rcnn_coco", b"content", monkeypatch)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with refused("mask_rcnn_coco.h5", "pip install h5py", "mtl_jax[convert]"):
        find_model("mask_rcnn_coco")
    assert server.asked == []


def test_a_mirror_replaces_the_host(short, server, monkeypatch):
    with serving() as mirror:
        mirror.files = dict(server.files)
        monkeypatch.setenv("MTL_JAX_MIRROR", f"{mirror.address}/models/")
        find_model(NAME, whole=False)
        assert mirror.asked == [(FILE, 0)]
    assert server.asked == []


def test_several_uses_at_once_download_and_convert_once(short, server, folder, monkeypatch):
    made = []
    original = model_files._convert

    def count(*arguments):
        made.append(arguments)
        original(*arguments)

    monkeypatch.setattr(model_files, "_convert", count)
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda _: find_model(NAME, whole=False), range(4)))
    assert (len(found), len(made), server.asked) == (1, 1, [(FILE, 0)])
    assert files(folder) == sorted([FILE, found.pop().name])


def test_a_folder_that_cannot_be_written_is_one_line(short, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTL_JAX_WEIGHTS", str(tmp_path / "file/below"))
    with refused(f"{tmp_path}/file/below/{FILE}.part", "MTL_JAX_WEIGHTS"):
        find_model(NAME, whole=False)
    monkeypatch.delenv("MTL_JAX_WEIGHTS")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a home
    with refused("MTL_JAX_WEIGHTS"):
        find_model(NAME, whole=False)


def test_a_backbone_detects_nothing_and_an_unknown_name_is_told(short, tmp_path):
    done = scripts.call("predict", "--model", NAME, "--input", tmp_path, "--output", tmp_path / "o")
    scripts.mistake(done, NAME, "ImageNet-1K", f"--config.init.checkpoint={NAME}")
    done = scripts.call("predict", "--model", "maskrcnn_resnet50", "--input", "a", "--output", "o")
    scripts.mistake(done, "maskrcnn_resnet50", "maskrcnn_resnet50_fpn")
    done = scripts.call("predict", "--input", "a", "--output", "o")
    scripts.mistake(done, "runs", "--model", "--workdir")


def test_what_is_on_the_disk_wins(short, server, capsys):
    Path(NAME).write_bytes(b"a file of mine")
    assert find_model(NAME) == Path(NAME)
    Path(NAME).unlink()
    (Path(NAME) / "checkpoints").mkdir(parents=True)
    assert find_model(NAME) == Path(NAME)
    with refused("--sha256", NAME):
        find_model(NAME, "00")
    run = Path("runs/last")
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    assert commandline.choose_model(None, None) == run
    assert commandline.choose_model(None, str(run)) == run
    assert commandline.choose_model(NAME, str(run)) == Path(NAME)
    first, second, third = capsys.readouterr().out.splitlines()
    check_names(first, run, "newest")
    check_names(second, run)
    check_names(third, NAME)
    with refused("--sha256", "--model"):
        commandline.choose_model(None, str(run), "00")
    assert server.asked == []


def test_a_packed_model_is_used_by_its_address(server, folder, tmp_path, capsys):
    card = {"licence": "CC0"}
    digest = write_pack(tmp_path / "a.npz", {"card": card}, {"params": {"x": np.ones(3)}})
    server.files["a.npz"] = (tmp_path / "a.npz").read_bytes()
    address = f"{server.address}/a.npz"
    found = find_model(address)
    assert found.name == "a.npz"
    assert found.is_relative_to(folder)
    assert read_card(found) == card
    check_names(capsys.readouterr().err, digest)
    assert find_model(address, digest) == find_model(f"{address}#sha256={digest}") == found
    assert len(server.asked) == 1
    server.files["a.npz"] += b"changed"
    with refused(address, "00ff00ff"):
        find_model(address, "00ff00ff")
    assert read_card(found) == card
    with refused(tmp_path / "a.npz", "00ff00ff"):
        find_model(str(tmp_path / "a.npz"), "00ff00ff")
    assert find_model(str(tmp_path / "a.npz"), digest.upper()) == tmp_path / "a.npz"
    server.files["b.npz"] = b"no archive"
    with refused(f"{server.address}/b.npz"):
        find_model(f"{server.address}/b.npz")
    for address in ("ftp://a/b.npz", "file:///etc/passwd", "http://[::1/b.npz"):
        with refused(address, "https://"):
            find_model(address)


def test_a_model_of_the_hub_is_fetched_by_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused("hf://me/heads/a.npz", "pip install huggingface_hub", "mtl_jax[hub]"):
        find_model("hf://me/heads/a.npz")
    digest = write_pack(tmp_path / "a.npz", {}, {"params": {}})
    asked = []

    def download(repo_id, filename, *, revision, local_files_only):
        asked.append((repo_id, filename, revision, local_files_only))
        if "absent" in filename:
            raise RuntimeError("404 Client Error.\n\nEntry Not Found")
        return str(tmp_path / "a.npz")

    hub = SimpleNamespace(hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert find_model("hf://me/heads/a.npz", digest) == tmp_path / "a.npz"
    monkeypatch.setenv("MTL_JAX_OFFLINE", "1")
    assert find_model("hf://me/heads@v1/sub/a.npz") == tmp_path / "a.npz"
    assert asked == [("me/heads", "a.npz", None, False), ("me/heads", "sub/a.npz", "v1", True)]
    with refused(tmp_path / "a.npz", "00000000"):
        find_model("hf://me/heads/a.npz", "00000000")
    with refused("hf://me/heads/absent.npz"):
        find_model("hf://me/heads/absent.npz")
    with refused("hf://me"):
        find_model("hf://me")


def test_the_converter_uses_the_same_table(weights, server, folder, tmp_path, capsys):
    with refused(NAME, "torchvision", "matterport"):
        convert(["matterport", NAME, "--workdir", str(tmp_path / "run")])
    with refused("resnet19", "resnet18"):
        convert(["torchvision", "resnet19", "--workdir", str(tmp_path / "run")])
    assert server.asked == []
    assert convert(["card", NAME]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["source"]["address"] == weights.address


@pytest.mark.slow
def test_public_weights_become_a_run(weights, server, state, tmp_path, capsys):
    run = tmp_path / "run"
    assert convert(["torchvision", weights.entry, "--workdir", str(run)]) == 0
    check_names(capsys.readouterr().out, "resnet18")
    assert server.asked == [(FILE, 0)]
    np.testing.assert_array_equal(
        load_run(run).variables["params"]["backbone"]["stem"]["conv1"]["kernel"],
        state["conv1.weight"].transpose(2, 3, 1, 0),
    )
    card = read_card(run)
    assert card["source"]["address"] == weights.address
    assert convert(["pack", str(run), "--output", str(tmp_path / "a.npz"), "--licence", "X"]) == 0
    assert read_card(tmp_path / "a.npz") == {**card, "licence": "X"}


def test_weights_with_a_published_name_and_digest_have_their_epsilon(server, tmp_path, monkeypatch):
    planted = plant(server, "maskrcnn_resnet50_fpn", b"content", monkeypatch)
    file = tmp_path / planted.file_name
    file.write_bytes(b"content")
    assert model_files.find_weights(str(file), "torchvision") == (file, planted)
    file.write_bytes(b"another")
    assert model_files.find_weights(str(file), "torchvision") == (file, None)
    with refused("mask_rcnn_coco", "matterport", "torchvision"):
        model_files.find_weights("mask_rcnn_coco", "torchvision")
    assert pretrained.find("mask_rcnn_coco")


def test_several_uses_of_an_address_at_once_download_once(server, folder, tmp_path):
    write_pack(tmp_path / "a.npz", {}, {"params": {"x": np.ones(3)}})
    server.files["a.npz"] = (tmp_path / "a.npz").read_bytes()
    server.delay = 0.3  # seconds: the others begin while the first one downloads
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda _: find_model(f"{server.address}/a.npz"), range(4)))
    assert len(found) == len(server.asked) == 1
    assert files(folder) == ["a.npz"]


def test_an_edit_of_the_library_converts_again(short, folder, monkeypatch):
    first = find_model(NAME, whole=False)
    monkeypatch.setattr(model_files, "source_digest", lambda: "another")
    second = find_model(NAME, whole=False)
    assert files(folder) == sorted([FILE, second.name])
    assert first != second


def test_an_archive_that_is_no_model_is_not_kept(server, folder, tmp_path):
    address = f"{server.address}/a.npz"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "no model")
    server.files["a.npz"] = (tmp_path / "a.zip").read_bytes()
    with refused(address, "convert pack"):
        find_model(address)
    write_pack(tmp_path / "a.npz", {}, {"params": {"x": np.ones(3)}})
    server.files["a.npz"] = (tmp_path / "a.npz").read_bytes()  # the author corrects it
    assert read_pack(find_model(address))[0] == {}


@pytest.mark.parametrize("digest", ["", "00", "1234567", "0" * 65, "sha256:12345678"])
def test_a_digest_that_checks_nothing_is_refused(server, tmp_path, digest):
    write_pack(tmp_path / "a.npz", {}, {"params": {}})
    server.files["a.npz"] = (tmp_path / "a.npz").read_bytes()
    with refused("SHA-256"):
        find_model(f"{server.address}/a.npz#sha256={digest}")
    options = ("--model", tmp_path / "a.npz", "--sha256", digest)
    done = scripts.call("predict", *options, "--input", "a", "--output", "o")
    scripts.mistake(done, "SHA-256")
    assert server.asked == []


def test_a_mirror_must_be_on_the_web(short, server, folder, monkeypatch):
    for mirror in (folder, f"file://{folder}", "mirror.example.org"):
        monkeypatch.setenv("MTL_JAX_MIRROR", str(mirror))
        with refused("MTL_JAX_MIRROR", mirror, "https://"):
            find_model(NAME, whole=False)
    assert not folder.exists()


def test_a_path_that_is_no_model_is_told(tmp_path):
    with refused(tmp_path, "config.json"):
        find_model(str(tmp_path))
    with refused(tmp_path, "folder"):
        model_files.find_weights(str(tmp_path), "torchvision")
    for name in ("runs/coco", "model.npz"):
        with refused(name) as caught:
            find_model(name)
        assert "resnet" not in str(caught.value)
    with refused("--model"):
        commandline.choose_model("", None)


def test_weights_of_others_are_to_be_converted_first(tmp_path):
    for name, command in (("a.pth", "torchvision"), ("a.h5", "matterport")):
        (tmp_path / name).write_bytes(b"content")
        with refused(tmp_path / name, f"convert {command}"):
            read_pack(tmp_path / name)
    (tmp_path / "a.npz").write_bytes(b"content")
    with refused(tmp_path / "a.npz", "convert pack", "remove"):
        read_pack(tmp_path / "a.npz")


def test_only_downloads_without_encryption_may_be_redirected_to_http(folder, monkeypatch):
    found = {}

    def fetch(address, target, check, **options):
        found[address] = options["redirects"]
        raise model_files.FetchError("no network")

    monkeypatch.setattr(model_files, "fetch", fetch)
    for address in ("https://a.invalid/b.npz", "http://a.invalid/b.npz", "HTTPS://a.invalid/b.npz"):
        with refused(address):
            find_model(address)
    assert [*found.values()] == [("https",), ("http", "https"), ("https",)]
