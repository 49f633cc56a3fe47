"""Files of models by path, name or address: fetched once, checked, converted once, and kept.

They are kept in $MTL_JAX_WEIGHTS, by default `mtl_jax/weights` in the user's cache. If
$MTL_JAX_OFFLINE is 1, nothing is downloaded. $MTL_JAX_MIRROR is the URL of a folder that replaces
that of the public weights.
"""

import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mtl_jax
from mtl_jax.convert import pretrained
from mtl_jax.convert.keras_files import require_h5py
from mtl_jax.convert.pretrained import Weights
from mtl_jax.errors import UserError
from mtl_jax.io.atomic import require_room
from mtl_jax.io.digests import check_digest, file_digest, source_digest
from mtl_jax.io.fetch import FetchError, Limits, fetch, partial_of
from mtl_jax.io.user_folders import cache_folder

FOLDER, OFFLINE, MIRROR = "MTL_JAX_WEIGHTS", "MTL_JAX_OFFLINE", "MTL_JAX_MIRROR"
RETRIES, WAIT = 2, 1.0  # seconds before the first retry
MAX_SIZE = 4e9  # bytes of a file of a stranger
_DIGEST = re.compile("[0-9A-Fa-f]{8,64}")
_HUB = re.compile(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")


def find_model(name: str, sha256: str | None = None, *, whole: bool = True) -> Path:
    """Return the run folder or the one-file model that `name` means, fetched if necessary.

    `name` is a path, the name of public weights, or the address of a one-file model: `https://...`
    or `hf://OWNER/REPO[@REVISION]/FILE`. `sha256`, or `#sha256=DIGEST` at the end of `name`, is
    compared with that of the file; 8 digits or more are required. Raises UserError if there is no
    such model, if it cannot be fetched, or, with `whole`, if public weights are those of a
    backbone, which detects nothing.
    """
    if sha256 is None and "#sha256=" in name:
        name, _, sha256 = name.partition("#sha256=")
    if sha256 is None:
        sha256 = ""
    elif not _DIGEST.fullmatch(sha256):  # an empty one would check nothing
        raise UserError(
            f"--sha256 {sha256!r}: expected 8 to 64 hexadecimal digits of the SHA-256 of {name}"
        )
    path = Path(name)
    if path.is_file():
        _check_own(path, sha256)
        return path
    if "://" in name:
        return _from_hub(name, sha256) if name.startswith("hf:") else _from_web(name, sha256)
    if sha256:
        raise UserError(f"--sha256 {sha256}: requires a file or an address, got {name}")
    if (path / "config.json").is_file() or (path / "checkpoints").is_dir():
        return path
    weights = pretrained.find(name)
    if weights is None and path.is_dir():
        raise UserError(f"{name}: not a run folder (config.json is missing)")
    if weights is None:
        raise pretrained.unknown(name)
    if whole and weights.is_backbone:
        raise UserError(
            f"{name}: a backbone trained on {weights.trained_on}, which detects nothing; train a "
            f"model from it with --config.init.checkpoint={name}"
        )
    return converted(weights)


def find_weights(name: str, form: str) -> tuple[Path, Weights | None]:
    """Return a weight file by its path, or public weights by their name, and their entry in the
    table; None for a file that is not one of them.

    `form` is that of the caller, `torchvision` or `matterport`. Raises UserError if there is none.
    """
    path = Path(name)
    if path.is_file():
        for weights in pretrained.TABLE:
            if weights.file_name == path.name and not _fault(path, weights.check):
                return path, weights
        return path, None
    weights = pretrained.find(name)
    if weights is None and path.is_dir():
        raise UserError(f"{name}: is a folder; pass a weight file or the name of public weights")
    if weights is None:
        raise pretrained.unknown(name)
    if weights.format != form:
        raise UserError(f"{name}: convert these weights with `{weights.format}`, not `{form}`")
    return fetched(weights), weights


def converted(weights: Weights) -> Path:
    """Return the one-file model made from public weights. It is made again if this library has
    another version, source or options for the weights; then older ones are removed.
    """
    described = json.dumps([source_digest(), astuple(weights)]).encode()
    key = f"{mtl_jax.__version__}-{hashlib.sha256(described).hexdigest()[:8]}"
    packed = _folder() / f"{weights.name}-{key}.npz"
    if packed.is_file():
        return packed
    file = fetched(weights)
    with _alone(packed):
        if not packed.is_file():
            _convert(weights, file, packed)
            for other in packed.parent.glob(f"{weights.name}-*.npz"):
                if other != packed:
                    other.unlink(missing_ok=True)
    return packed


def _convert(weights: Weights, file: Path, packed: Path) -> None:
    # Imported here because a model that is converted already requires none of it.
    from mtl_jax.convert import matterport, torchvision
    from mtl_jax.training.single_file import write_pack

    print(f"converting {file} to {packed}", file=sys.stderr)
    if weights.format == "torchvision":
        made = torchvision.convert(file, norm_eps=weights.norm_eps)
    else:
        made = matterport.convert(file)
    metadata = {**made.setup.metadata, "card": weights.card(file_digest(file))}
    write_pack(packed, metadata, made.variables)


def fetched(weights: Weights) -> Path:
    """Return the file of public weights, fetched if it is not there. A file that the user put there
    is checked. Raises UserError if it is another file, or cannot be fetched.
    """
    target, mirror = _folder() / weights.file_name, os.environ.get(MIRROR, "")
    if mirror and not _is_on_web(mirror):
        raise UserError(f"{MIRROR}={mirror}: must be a URL that begins with https:// or http://")
    address = f"{mirror.rstrip('/')}/{weights.file_name}" if mirror else weights.address
    if target.is_file():
        if fault := _fault(target, weights.check):
            raise UserError(f"{target}: {fault}; remove it, and it is downloaded again")
    else:
        if weights.format == "matterport":  # before the download
            require_h5py(weights.file_name)
        _fetch(address, target, weights.check, weights.size + weights.rounding)
    return target


def _from_web(address: str, sha256: str) -> Path:
    """Return a one-file model at a web address."""
    if not _is_on_web(address):
        raise UserError(f"{address}: must begin with https://, http:// or hf://")
    file = unquote(urlsplit(address).path).rpartition("/")[2]
    name = re.sub(r"[^\w.+-]+", "_", file).lstrip(".")[-100:]
    folder = _folder() / "addresses" / hashlib.sha256(address.encode()).hexdigest()[:16]
    target = folder / (name or "model.npz")
    check = partial(check_digest, sha256=sha256)
    if target.is_file() and not (sha256 and _fault(target, check)):
        return target
    _fetch(address, target, partial(_check_pack, sha256), MAX_SIZE, resume=bool(sha256))
    if not sha256:
        print(f"{address}: SHA-256 {file_digest(target)}", file=sys.stderr)
    return target


def _is_on_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:  # a bracket without its pair
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _check_pack(sha256: str, path: Path) -> None:
    """Raise ValueError if a file is not a one-file model, or has another digest."""
    from mtl_jax.training.single_file import parse_pack  # imports jax

    check_digest(path, sha256)
    parse_pack(path)


def _check_own(path: Path, sha256: str) -> None:
    if sha256 and (fault := _fault(path, partial(check_digest, sha256=sha256))):
        raise UserError(f"{path}: {fault}")


def _from_hub(address: str, sha256: str) -> Path:
    """Return a one-file model of the Hugging Face Hub, which that library keeps in its cache."""
    found = _HUB.fullmatch(address)
    if found is None:
        raise UserError(
            f"{address}: expected hf://OWNER/REPO/FILE or hf://OWNER/REPO@REVISION/FILE"
        )
    try:
        from huggingface_hub import hf_hub_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{address}: requires huggingface_hub; run `pip install huggingface_hub`, or install "
            "mtl_jax[hub]"
        ) from None
    repository, revision, file = found.groups()
    try:
        path = hf_hub_download(repository, file, revision=revision, local_files_only=_is_offline())
    except Exception as error:  # errors of several libraries
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{address}: cannot be downloaded ({reason})") from None
    _check_own(Path(path), sha256)
    return Path(path)


def _folder() -> Path:
    named, cache = os.environ.get(FOLDER, ""), cache_folder()
    if named:
        return Path(named)
    if cache is None:
        raise UserError(f"no home folder; set {FOLDER} to the folder of downloaded weights")
    return cache / "weights"


def _is_offline() -> bool:
    return os.environ.get(OFFLINE, "") not in ("", "0")


def _fetch(
    address: str, target: Path, check: Callable[[Path], None], size: float, resume: bool = True
) -> None:
    """Download a file of at most `size` bytes; of several processes, one does, and others wait."""
    is_encrypted = urlsplit(address).scheme == "https"
    mend = f"download it elsewhere and put it at {target.absolute()}"
    if _is_offline():
        raise UserError(f"{address}: {OFFLINE} is set; {mend}")
    with _alone(target):
        if target.is_file() and not _fault(target, check):  # another process was faster
            return
        print(f"downloading {address} to {target}", file=sys.stderr)
        left = int(size) if size != MAX_SIZE else 0
        limits = Limits(size=size, time=float("inf"))
        with require_room(target.parent, left, f"the download of {address}", f"set {FOLDER}"):
            try:
                fetch(
                    address,
                    target,
                    check,
                    retries=RETRIES,
                    wait=WAIT,
                    limits=limits,
                    resume=resume,
                    progress=True,
                    # Digests of eight digits, or none, do not replace the encryption.
                    redirects=("https",) if is_encrypted else ("http", "https"),
                )
            except FetchError as error:
                raise UserError(f"{address}: {error}; {mend}") from None


def _fault(path: Path, check: Callable[[Path], None]) -> str:
    try:
        check(path)
    except ValueError as error:
        return str(error)
    return ""


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Lock `target` against other processes and threads, and wait for them.

    The lock is on a file beside it, because the incomplete file is replaced and renamed; it ends
    with the process, even if it is killed. An empty incomplete file is removed.
    """
    lock, incomplete = target.with_name(f"{target.name}.lock"), partial_of(target)
    while True:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise UserError(
                f"{incomplete}: cannot be written ({error.strerror}); set {FOLDER} to another "
                "folder"
            ) from None
        try:
            _lock(descriptor, target)
            if _is_same(descriptor, lock):  # else the other process has removed it
                try:
                    yield
                finally:
                    if incomplete.is_file() and incomplete.stat().st_size == 0:
                        incomplete.unlink(missing_ok=True)
                    lock.unlink(missing_ok=True)
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process, which makes {target}", file=sys.stderr)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # file locks are not supported; what is made is checked, and put in place whole
        pass


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
