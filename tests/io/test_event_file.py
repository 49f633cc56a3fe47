"""Event files are what TensorFlow reads, with correct checksums."""

import subprocess
import sys
import time

import numpy as np
import pytest
import scripts

from mtl_jax.io.event_file import EventFile


def read(folder):
    """Return TensorFlow's events of the only file in a folder; a wrong checksum raises an error."""
    import tensorflow as tf

    (path,) = folder.glob("events.out.tfevents.*")
    return list(tf.compat.v1.train.summary_iterator(str(path)))


def values(event):
    return {value.tag: value.simple_value for value in event.summary.value}


def test_tensorflow_reads_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    written = {
        step: {f"größe/{i}{'x' * int(n)}": float(rng.normal()) for i, n in enumerate(lengths)}
        for step, lengths in {0: [], 1: [0], 300: [100, 5000], 2**40: [1, 2, 3]}.items()
    }
    before = time.time()
    file = EventFile(tmp_path, 7)
    for step, numbers in written.items():
        file.write(step, numbers)
    first, start, *found = read(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (7, start.session_log.START)
    assert [event.step for event in found] == list(written)
    for event, numbers in zip(found, written.values(), strict=True):
        assert values(event) == {name: np.float32(number) for name, number in numbers.items()}
        assert before <= event.wall_time <= time.time()


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, 3.4e38, 1e39, -1e300])
def test_any_finite_number_is_written(tmp_path, value):
    file = EventFile(tmp_path, 0)
    file.write(1, {"a": value})
    with np.errstate(over="ignore"):
        assert values(read(tmp_path)[2]) == {"a": np.float64(value).astype(np.float32)}


def test_a_wrong_checksum_is_found(tmp_path):
    file = EventFile(tmp_path, 0)
    file.write(1, {"a": 1.0})
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match="corrupted"):
        read(tmp_path)


def test_two_files_of_a_process_do_not_overwrite_each_other(tmp_path):
    for _ in range(3):
        EventFile(tmp_path, 0)
    assert len(list(tmp_path.iterdir())) == 3


def test_training_imports_no_writer_that_loads_pytorch():
    code = "import sys, mtl_jax.training.metric_writer; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=scripts.ROOT, capture_output=True)
    assert done.stdout.split() == [b"False"], done
