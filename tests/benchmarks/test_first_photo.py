"""The benchmark of a first photo: what is measured, and the table of it."""

import sys
from pathlib import Path

import pytest

from benchmarks import first_photo


def test_the_time_of_a_command_is_that_of_its_threads():
    busy = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.3)"
    used, wall = first_photo.run([sys.executable, "-c", busy], {})
    assert 0.3 <= used < wall
    assert wall >= 0.6


def test_both_libraries_take_turns_and_only_the_first_call_has_empty_caches(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/a/cache/in/use")

    def run(command, environment):
        caches = {k: environment[k] for k in environment if k.startswith(("JAX_", "XDG_CACHE"))}
        calls.append(
            (
                "predict.py" in command,
                Path(command[command.index("-c") + 3]).name
                if "-c" in command
                else Path(command[command.index("--input") + 1]).name,
                caches,
            )
        )
        return len(calls), 10 * len(calls)

    monkeypatch.setattr(first_photo, "run", run)
    photos = [tmp_path / "first.jpg", tmp_path / "other.jpg"]
    times = first_photo.measure(tmp_path, tmp_path / "w.pth", tmp_path / "m.npz", photos, 512)
    assert [ours for ours, *_ in calls] == [True, False] * 3
    names = [name for _, name, _ in calls]
    assert names == ["first.jpg"] * 4 + ["other.jpg"] * 2
    assert [caches for *_, caches in calls] == [{"XDG_CACHE_HOME": str(tmp_path / "cache")}] * 6
    assert times["torchvision, second"] == (4, 40)


def test_the_table_has_the_ratios():
    times = {
        f"{library}, {call}": (processor, 2 * processor)
        for library, processor in (("mtl_jax", 3.0), ("torchvision", 12.0))
        for call in ("first", "second", "other")
    }
    *_, row = first_photo.format_table(times).splitlines()
    name, *cells = row.split()
    assert name == "other"
    assert list(map(float, cells)) == pytest.approx([3, 12, 0.25, 6, 24, 0.25])
