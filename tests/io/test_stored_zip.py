"""Archives that are written and read by this package, by zipfile, and by nobody."""

import io
import struct
import zipfile

import pytest

from mtl_jax.io.stored_zip import read_members, write_members

CONTENTS = {"a/one": b"1" * 100, "a/two": b"", "b": bytes(range(256))}


def write(path, contents=CONTENTS):
    with open(path, "wb") as file:
        write_members(file, contents.items())
    return path


def contents(path, most=10):
    """Return what an archive contains, by name."""
    with open(path, "rb") as file:
        members = read_members(file, most)
        found = {}
        for name, member in members.items():
            file.seek(member.start)
            found[name.decode()] = file.read(member.size)
    return found


def test_written_archives_are_read_here_and_by_zipfile(tmp_path):
    path = write(tmp_path / "archive.zip")
    assert contents(path) == CONTENTS
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENTS
    with open(path, "rb") as file:
        assert all(member.start % 64 == 0 for member in read_members(file, 10).values())


def test_archives_of_zipfile_are_read(tmp_path):
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in CONTENTS.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(content)
    assert contents(path) == CONTENTS
    with open(path, "wb") as plain:

        class Pipe(io.RawIOBase):  # to which zipfile writes sizes after the contents
            def writable(self):
                return True

            def write(self, data):
                return plain.write(data)

        with zipfile.ZipFile(Pipe(), "w") as archive:
            for name, content in CONTENTS.items():
                archive.writestr(name, content)
    assert contents(path) == CONTENTS


def test_large_archives(tmp_path, monkeypatch):
    """The records for more than 65,535 members, or 4 GB, are used."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 50)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = write(tmp_path / "archive.zip")
    assert b"PK\6\6" in path.read_bytes()
    assert contents(path) == CONTENTS


def changed(data, old, new, count=1):
    assert old in data
    return data.replace(old, new, count)


def end_changed(data, position, value, form="<H"):
    """Return an archive with a value of its end record changed."""
    out = bytearray(data)
    struct.pack_into(form, out, len(out) - 22 + position, value)
    return bytes(out)


def entry_changed(data, position, value, form="<H"):
    """Return an archive with a value of the first entry of its directory changed."""
    out = bytearray(data)
    struct.pack_into(form, out, data.index(b"PK\1\2") + position, value)
    return bytes(out)


DAMAGES = {
    "empty": lambda data: b"",
    "short": lambda data: data[:20],
    "cut": lambda data: data[:-1],
    "head": lambda data: data[: len(data) // 2],
    "data after the end": lambda data: data + b"\0",
    "data before the start": lambda data: b"\0" * 10 + data,
    "comment": lambda data: end_changed(data, 20, 3) + b"abc",
    "several disks": lambda data: end_changed(data, 4, 1),
    "count": lambda data: end_changed(end_changed(data, 8, 2), 10, 2),
    "directory": lambda data: end_changed(data, 16, 0, "<L"),
    "beyond": lambda data: end_changed(data, 12, 2**31, "<L"),
    "name in the header": lambda data: changed(data, b"a/one", b"a/six"),
    "duplicate": lambda data: changed(data, b"a/two", b"a/one", 2),
    "letter case": lambda data: changed(data, b"a/two", b"A/One", 2),
    "zero in a name": lambda data: changed(data, b"a/two", b"a/t\0o", 2),
    "header": lambda data: changed(data, b"PK\3\4", b"PK\3\5"),
    "encrypted": lambda data: entry_changed(data, 8, 1),
    "compressed": lambda data: entry_changed(data, 10, 8),
    "two sizes": lambda data: entry_changed(data, 20, 99, "<L"),
    "large": lambda data: entry_changed(entry_changed(data, 20, 2**31, "<L"), 24, 2**31, "<L"),
    "wide": lambda data: entry_changed(data, 42, 2**32 - 1, "<L"),
    "long name": lambda data: entry_changed(data, 28, 65535),
    "another disk": lambda data: entry_changed(data, 34, 1),
    "folder": lambda data: entry_changed(data, 38, 0x10, "<L"),
    "entry": lambda data: changed(data, b"PK\1\2", b"PK\1\3"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_archives(tmp_path, damage):
    path = write(tmp_path / "archive.zip")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ValueError, match="archive"):
        contents(path)


def test_compressed_archives(tmp_path):
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10**6))
    with pytest.raises(ValueError, match="compressed"):
        contents(path)


def test_members_that_share_bytes(tmp_path):
    """A second entry of the directory refers to the content of the first."""
    one = write(tmp_path / "one.zip", {"a/one": bytes(1000)}).read_bytes()
    directory = one.index(b"PK\1\2")
    entry = one[directory:-22]
    data = one[:directory] + entry + entry + one[-22:]
    data = end_changed(end_changed(data, 8, 2), 10, 2)
    data = end_changed(data, 12, 2 * len(entry), "<L")
    path = tmp_path / "two.zip"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="same name"):
        contents(path)
    inner = one.index(b"PK\3\4") + 30
    other = bytearray(data)
    at = directory + len(entry)
    other[at + 46 : at + 51] = b"a/two"
    # The second member's header is inside the content of the first.
    content = other.index(bytes(64), inner)
    header = bytearray(one[:35])
    header[28:30] = b"\0\0"
    header[30:35] = b"a/two"
    other[content : content + 35] = header
    struct.pack_into("<L", other, at + 42, content)
    struct.pack_into("<2L", other, at + 20, 100, 100)
    path.write_bytes(other)
    with pytest.raises(ValueError, match="overlap"):
        contents(path)


def test_members_are_counted_before_the_directory_is_read(tmp_path):
    path = write(tmp_path / "archive.zip", {f"{i}": b"" for i in range(11)})
    assert len(contents(path, most=11)) == 11
    with pytest.raises(ValueError, match="more than 10"):
        contents(path)
