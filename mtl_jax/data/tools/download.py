"""Download the images of a COCO file whose file names are URLs, as in MTL_MRCNN's data set."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from mtl_jax.data.readers import folders
from mtl_jax.data.readers.annotation_tools import coco_check
from mtl_jax.data.readers.coco_lists import parse_json
from mtl_jax.errors import AnnotationErrors, UserError
from mtl_jax.io.atomic import write_json
from mtl_jax.io.fetch import DEFAULT, FetchError, Limits, fetch

ADDRESSES = ".addresses.json"  # hidden, so that the COCO file is the only visible file beside it
_NAME, _UNSAFE = re.compile(r"[\w.+-]+"), re.compile(r"[^\w.+-]+")  # of a file
# The options that change the limits on the download of an image.
_CHANGE = {"size": "raise --max-size", "time": "raise --max-time", "rate": "lower --min-rate"}


class Outcome(NamedTuple):
    """Counts of downloaded and present images, and a line for each failed download."""

    fetched: int
    present: int  # downloaded by an earlier call
    failures: tuple[str, ...]


def download(
    annotations: Path,
    output: Path,
    *,
    workers: int = 8,
    retries: int = 3,
    wait: float = 1.0,
    limits: Limits = DEFAULT,
) -> Outcome:
    """Download each image to OUTPUT/images and write the COCO file, with new names, to OUTPUT.

    Images that an earlier call downloaded, for this file or another, are not downloaded again:
    OUTPUT/.addresses.json maps their URLs to file names. Incomplete files end in .part. The first
    retry follows after `wait` seconds, and each further one after twice the previous time. File
    names that are not URLs are kept. Raises UserError if the file is not a COCO file, or contains
    no URL.
    """
    data = coco_check.load(annotations)
    if output.resolve() == annotations.parent.resolve():
        raise UserError(f"{output}: contains {annotations.name} itself; choose another --output")
    folder = output / "images"
    names = choose_names(annotations, data["images"], read_addresses(output))
    if not names:
        raise UserError(f"{annotations}: no file_name is a URL; there is nothing to download")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(output / ADDRESSES, read_addresses(output) | names)
    missing = {address: name for address, name in names.items() if not (folder / name).is_file()}

    def fetch_one(address: str) -> str:
        """Download an image and return '' or the error."""
        target = folder / missing[address]
        try:
            fetch(address, target, _check, retries=retries, wait=wait, limits=limits)
        except FetchError as error:
            return f"{error}; {_CHANGE[error.limit]}" if error.limit else str(error)
        return ""

    with ThreadPoolExecutor(workers) as threads:
        answers = threads.map(fetch_one, missing)
        wrong = list(tqdm(answers, total=len(missing), unit="image", disable=None))
    images = [_renamed(image, names) for image in data["images"]]
    write_json(output / annotations.name, {**data, "images": images}, readable=False)
    failures = [f"{a}: {w}" for a, w in zip(missing, wrong, strict=True) if w]
    return Outcome(len(missing) - len(failures), len(names) - len(missing), tuple(failures))


def _renamed(image: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    address = image["file_name"]
    return {**image, "file_name": names[address], "url": address} if address in names else image


def read_addresses(output: Path) -> dict[str, str]:
    """Return the file name of each URL that was downloaded to `output` before.

    Raises UserError if the list is damaged, or a name is not that of a file in `output`/images.
    """
    path = output / ADDRESSES
    if not path.is_file():
        return {}
    mend = "remove it, and the images are downloaded again"
    try:
        found = parse_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: {error}; {mend}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: must be an object of names by URL; {mend}")
    for address, name in found.items():
        if not isinstance(name, str) or name in (".", "..") or not _NAME.fullmatch(name):
            raise UserError(f"{path}: {address!r} has {name!r}, which is no file name; {mend}")
    return found


def choose_names(
    path: Path, images: Sequence[Any], before: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a file name for each URL: the one in `before`, else the last part of the URL, with a
    number if another URL has the name.

    Raises AnnotationErrors if an image has no file name, or a URL is not http or https.
    """
    faults, names, known = [], {}, before or {}
    taken = {name.lower() for name in known.values()}
    for place, image in enumerate(images):
        address = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(address, str) or not address:
            faults.append(f"{path}: images[{place}] has no file_name; add its URL")
        elif "://" in address and address not in names:
            if not _is_web(address):
                faults.append(
                    f"{path}: images[{place}]: {address!r} must be an http or https URL; correct it"
                )
                continue
            if address in known:
                names[address] = known[address]
                continue
            name = _file_name(address)
            stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
            number = 1
            while name.lower() in taken:  # some file systems ignore case
                number += 1
                name = f"{stem}_{number}{suffix}"
            taken.add(name.lower())
            names[address] = name
    if faults:
        raise AnnotationErrors(faults)
    return names


def _is_web(address: str) -> bool:
    try:
        return urlsplit(address).scheme in ("http", "https")
    except ValueError:  # a bracket without its pair
        return False


def _file_name(address: str) -> str:
    """Return the last part of a URL's path, with unsafe characters replaced."""
    name = unquote(urlsplit(address).path).rpartition("/")[2]
    name = _UNSAFE.sub("_", name).lstrip(".")[-150:]
    return name.encode()[-200:].decode("utf-8", "ignore") or "picture"


def _check(partial: Path) -> None:
    """Raise ValueError if a downloaded file is not an image."""
    try:
        folders.look_at(partial)
    except ValueError as error:
        raise ValueError(f"the file is not a valid image ({error})") from None
