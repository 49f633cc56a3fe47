import errno
import json

import pytest

from mtl_jax.io.atomic import write_json, write_whole


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
