import errno
import json

import pytest

from mtl_jax.io.atomic import fit_name, write_json, write_whole


def test_a_file_is_renamed_to_its_path_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with write_whole(path) as draft:
        draft.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_names_its_file(tmp_path):
    def fail():
        with write_whole(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        fail()
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_other_errors_do_not_name_the_file(tmp_path):
    def fail():
        with write_whole(tmp_path / "a.txt"):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError) as caught:
        fail()
    assert caught.value.filename is None


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with write_whole(path) as draft:
            draft.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("readable", [True, False])
def test_json_is_read_back(tmp_path, readable):
    value = {"b": [1, 2.5], "a": "Å"}
    write_json(tmp_path / "a.json", value, readable)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert (text.count("\n") > 1) == readable


@pytest.mark.parametrize("name", ["x" * 240 + ".npz", "é" * 122 + ".png", "y" * 255])
def test_a_file_with_the_longest_name_is_written(tmp_path, name):
    with write_whole(tmp_path / name) as draft:
        assert draft.name.endswith((tmp_path / name).suffix)
        draft.write_text("new")
    assert (tmp_path / name).read_text() == "new"


def test_a_name_made_too_long_is_cut_to_a_name_of_its_own(tmp_path):
    first, second = (fit_name(tmp_path / ("é" * 130 + end)) for end in ("a.png", "b.png"))
    assert first != second
    assert first.suffix == ".png"
    first.write_text("a")
    assert fit_name(first) == first
    assert fit_name(tmp_path / "a.png") == tmp_path / "a.png"
