"""Tests of train.py --hosts with two hosts that differ, or of which one fails."""

import os
import signal
import socket
import subprocess
import sys
import time

import cv2
import jax
import numpy as np
import pytest
import scripts
from mistakes import check_faults, check_names

from mtl_jax.data.synthetic.head_scenes import SyntheticSource

CONFIG = str(scripts.ROOT / "configs/utkface_age.py:tiny")
ARGUMENTS = ("--hosts", "--config.data.path=faces", "--config.train.batch_size=4")


@pytest.fixture
def data(tmp_path):
    """Write the faces of two hosts, of which the last one differs, and return their folders."""
    folders = []
    for host in range(2):
        folder = tmp_path / f"data{host}"
        (folder / "faces").mkdir(parents=True)
        for i in range(20):
            name = f"{20 + i + (host if i == 19 else 0)}_{i % 2}_0_{i:017}.jpg"
            image = np.asarray(SyntheticSource(20, seed=5)[i].image)
            cv2.imwrite(str(folder / "faces" / name), cv2.resize(image, (100, 100)))
        folders.append(folder)
    return folders


def start(workdirs, data, own=((), ())):
    """Start the hosts, each with its run folder, data and own arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    paths = os.pathsep.join([str(scripts.ROOT), str(scripts.ROOT / "tests")])
    given = ("--config", CONFIG, *ARGUMENTS)
    return [
        subprocess.Popen(
            [
                *(sys.executable, scripts.ROOT / "tests/one_host.py", address, str(host)),
                *(*given, "--workdir", workdirs[host], *own[host]),
            ],
            env={**os.environ, "PYTHONPATH": paths, "MTL_JAX_DATA": str(data[host])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in range(2)
    ]


def check_refused(hosts, *parts):
    """Assert that each host exits with code 2 and a last line that names all `parts`."""
    for host in hosts:
        _, err = host.communicate(timeout=200)
        assert host.returncode == 2, err
        check_names(err.splitlines()[-1], *parts)
        assert "Traceback" not in err


@pytest.mark.slow
def test_hosts_with_different_configs_are_refused(tmp_path, data):
    own = (("--config.train.seed=1",), ("--config.train.seed=2",))
    run = tmp_path / "run"
    check_refused(start([run, run], [data[0]] * 2, own), run, "config.train.seed", 1, 2)
    assert not run.exists()


@pytest.mark.slow
def test_hosts_with_different_data_are_refused(tmp_path, data):
    run = tmp_path / "run"
    check_refused(start([run, run], data), run, "records")
    assert not list(run.glob("*.json"))


@pytest.mark.slow
def test_a_mistake_on_one_host_ends_both(tmp_path, data):
    run = tmp_path / "run"
    check_refused(start([run, run], [data[0], tmp_path / "none"]), tmp_path / "none/faces")
    hosts = start([run, run], [data[0]] * 2, ((), ("--config.trian.seed=2",)))
    check_refused(hosts, "config.trian.seed")
    hosts = start([run, run], [data[0]] * 2, ((), ("--confg.train.seed=2",)))
    check_refused(hosts, "confg.train.seed")


@pytest.mark.parametrize("mistake", ["--config.trian.seed=2", "--confg.train.seed=2"])
def test_a_mistake_without_a_cluster_is_printed(monkeypatch, mistake):
    def find_none():
        raise ValueError("coordinator_address should be defined.")  # as jax

    monkeypatch.setattr(jax.distributed, "initialize", find_none)
    done = scripts.call("train", "--config", CONFIG, "--hosts", mistake)
    assert done.code == 2
    check_faults(done.err.splitlines(), [mistake.removeprefix("--").partition("=")[0]], ["--hosts"])


@pytest.mark.slow
def test_run_folders_that_are_not_shared_are_refused(tmp_path, data):
    runs = [tmp_path / "a", tmp_path / "b"]
    for host in start(runs, [data[0]] * 2):
        _, err = host.communicate(timeout=200)
        assert host.returncode == 2, err
        check_names(err.splitlines()[-1], "--workdir")


@pytest.mark.slow
def test_a_signal_ends_a_host(tmp_path, data):
    run = tmp_path / "run"
    hosts = start([run, run], [data[0]] * 2)
    try:
        while not (run / "metrics.jsonl").exists() and hosts[0].poll() is None:
            time.sleep(0.1)
        for host in hosts:
            host.send_signal(signal.SIGTERM)
        began = time.monotonic()
        for host in hosts:
            _, err = host.communicate(timeout=60)
            assert host.returncode == 128 + signal.SIGTERM, err
        assert time.monotonic() - began < 30
    finally:
        for host in hosts:
            host.kill()
