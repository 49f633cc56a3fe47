"""Random changes of annotation files and images, for `fuzz_inputs`."""

import copy
import json
import math
import random
from pathlib import Path
from typing import Any

# Values that take the place of others.
JUNK = (
    *(None, True, -1, 0, 1, 2, 2**31, 2**32, 2**63, 2**70, 10**400, -(10**400), 0.5, 1e7, 1e308),
    *(math.nan, math.inf, -math.inf, "", "x", "\ud800", "a\nb\x1b[31m", "x" * 5000, "../../a.png"),
    *("http://[::1/x.png", "a\0b", [], {}, [[]], [None], {"a": []}, [[1, 2], [3]], "1e999", "٣"),
)
# Parts of text that take the place of others.
TOKENS = (
    *("", "[", "]", "{", "}", '"', "<", ">", "&", "-", "nan", "inf", "1e400", "9" * 5000, "\0"),
    *("null", ":", ",", "\n", "\ufeff", "é", "\U0001f600", "\x1b[31m", "=", "&a;", "<!--", "]]>"),
)


def mutate_file(path: Path, rng: random.Random) -> bytes:
    """Return the mutated content of a file."""
    data = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        value = json.loads(data)
        for _ in range(rng.randint(1, 4)):
            value = _mutate_value(value, rng)
        return json.dumps(value).encode()
    if path.suffix == ".mat" or rng.random() < 0.3:
        return mutate_bytes(data, rng)
    return _mutate_text(data, rng)


def _mutate_value(value: Any, rng: random.Random) -> Any:
    """Replace, remove, repeat or exchange a value at a random place of JSON."""
    places = list(_places(value))
    if not places:
        return copy.deepcopy(rng.choice(JUNK))
    *path, key = rng.choice(places)
    parent = value
    for step in path:
        parent = parent[step]
    kind = rng.randrange(5)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
    elif kind == 2:
        *other, last = rng.choice(places)
        found: Any = value
        for step in other:
            found = found[step]
        parent[key] = copy.deepcopy(found[last])
    elif kind == 3 and isinstance(parent[key], int | float):
        parent[key] *= rng.choice((-1, 1.5, 1000, 10**6, 10**12))
    else:
        parent[key] = copy.deepcopy(rng.choice(JUNK))
    return value


def _places(value: Any, path: tuple = ()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else []
    items = enumerate(value) if isinstance(value, list) else items
    return [p for key, item in items for p in ((*path, key), *_places(item, (*path, key)))]


def _mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Replace, repeat or insert parts of text: words, numbers and tokens."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 2, 5, 20, 200)))
        token = rng.choice(TOKENS).encode("utf-8", "surrogatepass")
        part = rng.choice((token, data[start:end] * 2, data[start:end] * 300, b""))
        data = data[:start] + part + data[end:]
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.05 else data


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change single bytes, mostly of the header, exchange parts, and truncate."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(min(len(changed), rng.choice((32, 300, len(changed)))))
        kind = rng.randrange(4)
        if kind == 0:
            changed[place] = rng.randrange(256)
        elif kind == 1:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice((0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63))
            changed[place : place + size] = value.to_bytes(8, "little")[:size]
        else:
            other = rng.randrange(len(changed))
            changed[place : place + 8] = changed[other : other + 8]
    if rng.random() < 0.1:
        changed += changed * rng.choice((1, 20))
    return bytes(changed[: rng.randrange(1, len(changed) + 1)] if rng.random() < 0.1 else changed)
