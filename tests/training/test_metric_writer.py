"""The metrics file after kills and resumes, TensorBoard, and plain progress."""

import json
import re
import sys

import pytest
from mistakes import check_names
from tensorboardX.proto.event_pb2 import Event

from mtl_jax.training.metric_writer import MetricWriter


def _lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_after_the_restored_step_are_removed(tmp_path):
    writer = MetricWriter(tmp_path, 10)
    writer.start(0)
    for step in (2, 4, 6):
        writer.write(step, {"train/loss": step / 8})
        writer.write(step, {"box/AP": 0.5})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')  # truncated by a kill
    writer = MetricWriter(tmp_path, 10)
    writer.start(4)
    writer.write(6, {"train/loss": 9})
    writer.close()
    assert _lines(tmp_path) == [
        {"step": 2, "train/loss": 0.25},
        {"step": 2, "box/AP": 0.5},
        {"step": 4, "train/loss": 0.5},
        {"step": 4, "box/AP": 0.5},
        {"step": 6, "train/loss": 9.0},
    ]


def test_non_finite_values_become_null(tmp_path):
    writer = MetricWriter(tmp_path, 10)
    writer.start(0)
    writer.write(1, {"a": float("nan"), "b": float("inf"), "c": 1})
    writer.close()
    assert _lines(tmp_path) == [{"step": 1, "a": None, "b": None, "c": 1.0}]


def test_a_line_is_on_the_disk_when_write_returns(tmp_path):
    writer = MetricWriter(tmp_path, 10)
    writer.start(0)
    writer.write(1, {"a": 1.0})
    assert _lines(tmp_path) == [{"step": 1, "a": 1.0}]
    writer.close()


def test_tensorboard_gets_the_same_numbers(tmp_path):
    writer = MetricWriter(tmp_path, 10)
    writer.start(0)
    writer.write(3, {"box/AP": 0.25})
    writer.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    found = [(e.step, v.tag, v.simple_value) for e in _events(path) for v in e.summary.value]
    assert found == [(3, "box/AP", 0.25)]


def _events(path):
    """Read a TensorBoard file: length (8 bytes), its checksum (4), an event, its checksum (4)."""
    data = path.read_bytes()
    while data:
        length = int.from_bytes(data[:8], "little")
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_progress_in_plain_lines(tmp_path, capsys, seconds):
    writer = MetricWriter(tmp_path, 3, seconds=seconds)
    writer.start(0)
    for step in (1, 2, 3):
        writer.progress(step, {"loss": 0.5, "img/s": float("nan")})
    writer.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (3 if seconds == 0 else 1)  # the last step is always shown
    check_names(lines[-1], "3/3", "loss", 0.5, "0:00:00")
    assert "img/s" not in lines[-1]


def test_a_bar_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    writer = MetricWriter(tmp_path, 30)
    writer.start(10)
    for step in range(11, 31):
        writer.progress(step, {"loss": 0.5, "img/s": 12.0})
    writer.close()
    shown = capsys.readouterr().err
    assert "10/30" in shown
    assert "30/30" in shown
    check_names(shown, "loss", 0.5, "img/s", 12)


def test_other_hosts_write_nothing(tmp_path, capfd):
    writer = MetricWriter(tmp_path, 3, active=False)
    writer.start(0)
    writer.write(1, {"a": 1.0})
    writer.progress(1, {"a": 1.0})
    writer.print_line("step 1")
    writer.close()
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


def test_the_first_step_shows_no_remaining_time(tmp_path, capsys):
    writer = MetricWriter(tmp_path, 8, seconds=0)
    writer.start(4)
    writer.progress(5, {})
    writer.progress(7, {"loss": 0.5})
    first, later = capsys.readouterr().err.splitlines()
    check_names(first, "5/8")
    check_names(later, "7/8", "loss", 0.5)
    times = [re.findall(r"\d+:\d\d:\d\d", line) for line in (first, later)]
    assert [len(found) for found in times] == [0, 1]
    assert times[1][0].startswith("0:00:0")
