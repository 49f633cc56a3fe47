"""Files with the names and layouts of public weights, made here and served on this computer."""

import hashlib
from dataclasses import replace
from typing import Any

from file_server import FileServer

from mtl_jax.convert import pretrained
from mtl_jax.convert.pretrained import Weights


def plant(server: FileServer, name: str, content: bytes, monkeypatch: Any) -> Weights:
    """Serve `content` as the file of the public weights `name`, and put its address, digest and
    size in the table; all else in the table's entry is unchanged. Allow downloads.
    """
    known = pretrained.find(name)
    assert known is not None
    server.files[known.file_name] = content
    planted = replace(
        known,
        address=f"{server.address}/{known.file_name}",
        sha256=hashlib.sha256(content).hexdigest()[:8],
        size=len(content),
        rounding=0,
    )
    table = tuple(planted if each == known else each for each in pretrained.TABLE)
    monkeypatch.setattr(pretrained, "TABLE", table)
    monkeypatch.delenv("MTL_JAX_OFFLINE", raising=False)
    return planted
