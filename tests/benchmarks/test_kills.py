"""A training that is interrupted six times at random moments ends like an uninterrupted one."""

import json
import subprocess
import sys

import pytest
import scripts


@pytest.mark.slow
def test_six_interruptions_change_no_bit(tmp_path):
    command = ("-m", "benchmarks.kills", "--count", "6", "--workdir", tmp_path, "--limit", "200")
    done = subprocess.run(
        [sys.executable, *command], cwd=scripts.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done
    result = json.loads((tmp_path / "kills.json").read_text())
    assert len(result["interruptions"]) == 6
    assert result["faults"] == []
