"""Zip archives whose members are stored without compression, as in PyTorch's files."""

import os
import struct
import zipfile
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

START = b"PK\x03\x04"  # of an archive
_LOCAL = struct.Struct("<4s2x2H16x2H")
_ENTRY = struct.Struct("<4s4x2H4x3L4H2x2L")
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ALIGNMENT = 64  # of contents in bytes, as PyTorch aligns them
_PADDING = struct.Struct("<2sH")  # an extra field of zeros
_ALLOWED_FLAGS = 1 << 3 | 1 << 11  # sizes also after the content; names in UTF-8
_FOLDER = 0x10  # an attribute of DOS
_MAX_ENTRY = 1024  # bytes of a directory per member, on average


class Member(NamedTuple):
    """Where the content of a member is in the file."""

    start: int
    size: int
    crc: int | None  # None if the writer did not compute it


class _Entry(NamedTuple):
    name: bytes
    offset: int  # of the local header
    size: int
    crc: int


def read_members(file: BinaryIO, most: int) -> dict[bytes, Member]:
    """Return the members of an archive by name, in the order of its directory.

    `zipfile` has no limit on the number of members, and opens archives that other programs read in
    another way. Raises ValueError if the archive has more than `most` members, compressed or
    encrypted ones, members that overlap or have equal names, or is damaged.
    """
    size = os.fstat(file.fileno()).st_size
    count, start, end = _find_directory(file, size)
    if count > most or end - start > most * _MAX_ENTRY:
        raise ValueError(f"the archive has more than {most:,} members, or long names")
    entries = _parse_directory(_read(file, start, end - start))
    if len(entries) != count:
        raise ValueError(f"the archive declares {count:,} members and has {len(entries):,}")
    if len({entry.name.lower() for entry in entries}) != count:
        raise ValueError("two members of the archive have the same name")
    members = {entry.name: _locate(file, entry, start) for entry in entries}
    limits = sorted((entry.offset, members[entry.name]) for entry in entries)
    offsets = [offset for offset, _ in limits[1:]]
    for (_, member), following in zip(limits, [*offsets, start], strict=True):
        if member.start + member.size > following:
            raise ValueError("members of the archive overlap")
    return members


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise ValueError("the archive is truncated")
    return data


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return the number of members, and where their directory starts and ends.

    The archive must end with its end record, without a comment: others could be found in the
    content of a member.
    """
    end = size - _END.size
    if end < 0:
        raise ValueError("the archive is truncated")
    name, disk, first, here, count, length, start, comment = _END.unpack(_read(file, end, 22))
    if name != b"PK\5\6" or comment or disk or first or here != count:
        raise ValueError("the archive is truncated, or has data after its end")
    locator = end - _LOCATOR.size
    if locator >= _END64.size:
        name, disk, at, disks = _LOCATOR.unpack(_read(file, locator, _LOCATOR.size))
        if name == b"PK\6\7":
            end = locator - _END64.size
            small = (count, length, start)
            name, rest, _, _, here, first, count, total, length, start = _END64.unpack(
                _read(file, end, _END64.size)
            )
            one_disk = not disk and disks in (0, 1) and not here and not first
            if name != b"PK\6\6" or at != end or rest != 44 or not one_disk or count != total:
                raise ValueError("the end of the archive is damaged")
            large = zip(
                small, (count, length, start), (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True
            )
            if any(short not in (value, most) for short, value, most in large):
                raise ValueError("the end of the archive is damaged")
    if not count or start + length != end:
        raise ValueError("the directory of the archive is missing or damaged")
    return count, start, end


def _parse_directory(data: bytes) -> list[_Entry]:
    entries, at = [], 0
    while at < len(data):
        if len(data) - at < _ENTRY.size:
            raise ValueError("the directory of the archive is damaged")
        sign, flags, method, crc, packed, size, *lengths, disk, attributes, offset = (
            _ENTRY.unpack_from(data, at)
        )
        at += _ENTRY.size
        name, extra, _ = (data[at : (at := at + length)] for length in lengths)
        if sign != b"PK\1\2" or at > len(data) or not name or b"\0" in name:
            raise ValueError("the directory of the archive is damaged")
        # Values that do not fit in 32 bits are in an extra field.
        size, packed, offset = _widen(extra, size, packed, offset)
        if method or flags & ~_ALLOWED_FLAGS or packed != size:
            raise ValueError("the archive is compressed or encrypted")
        if disk or attributes & _FOLDER or name.endswith(b"/"):  # others read nothing of a folder
            raise ValueError("the directory of the archive is damaged")
        entries.append(_Entry(name, offset, size, crc))
    return entries


def _widen(extra: bytes, *values: int) -> list[int]:
    """Replace values of 0xFFFFFFFF by those of the extra field 1."""
    found, at = b"", 0
    while at < len(extra):
        if len(extra) - at < 4:
            raise ValueError("the directory of the archive is damaged")
        kind, length = struct.unpack_from("<HH", extra, at)
        found = extra[at + 4 : at + 4 + length] if kind == 1 else found
        at += 4 + length
    wide = [value == 0xFFFFFFFF for value in values]
    if at != len(extra) or len(found) < 8 * sum(wide):
        raise ValueError("the directory of the archive is damaged")
    large = iter(struct.unpack_from(f"<{sum(wide)}Q", found))
    return [next(large) if is_wide else value for value, is_wide in zip(values, wide, strict=True)]


def _locate(file: BinaryIO, entry: _Entry, directory: int) -> Member:
    """Return where the content of a member is, which its local header tells."""
    at = entry.offset + _LOCAL.size
    if at + len(entry.name) + entry.size > directory:
        raise ValueError("a member of the archive is beyond its end")
    header = _read(file, entry.offset, _LOCAL.size + len(entry.name))
    sign, flags, method, named, extra = _LOCAL.unpack_from(header)
    if sign != START or method or flags & ~_ALLOWED_FLAGS or named != len(entry.name):
        raise ValueError("a member of the archive is damaged")
    if header[_LOCAL.size :] != entry.name:
        raise ValueError("a member of the archive has two names")
    return Member(at + named + extra, entry.size, entry.crc or None)


def write_members(file: BinaryIO, members: Iterable[tuple[str, bytes | memoryview]]) -> None:
    """Write an archive of stored members, given by name and content. Contents are aligned."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name)  # dated 1980: equal members give equal files
            start = file.tell() + _LOCAL.size + len(name.encode()) + _PADDING.size
            padding = -start % _ALIGNMENT
            member.extra = _PADDING.pack(b"FB", padding) + bytes(padding)
            archive.writestr(member, content)
