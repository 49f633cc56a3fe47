"""Tests of the cache of test runs: deletion of old files, and one folder per version."""

import os

import shared_cache


def test_the_least_recently_used_files_are_deleted(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / name / "program"
        path.parent.mkdir()
        path.write_bytes(bytes(10))
        os.utime(path, (1e9 - age, 1e9 - age))
    shared_cache.trim(limit=20, home=tmp_path)
    assert {path.parent.name for path in tmp_path.rglob("program")} == {"new", "middle"}


def test_another_version_has_another_folder(monkeypatch):
    first = shared_cache.folder("programs", "jax")
    monkeypatch.setattr(shared_cache, "version", lambda name: "0")
    assert shared_cache.folder("programs", "jax") != first
