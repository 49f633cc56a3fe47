"""Logging without blocking the device, and the message on a loss that is not finite."""

import re

import numpy as np
import pytest
from mistakes import check_names, refused
from training.toy import check_non_finite, file_names, make_batch

from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.step import StepMetrics
from mtl_jax.training.step_logger import NonFiniteLossError, StepLogger


class Pages(MetricWriter):
    """A writer that records the metrics passed to it."""

    def __init__(self):
        self.lines = {}

    def write(self, step, metrics):
        self.lines[step] = dict(metrics)

    def progress(self, step, metrics):
        self.shown = step, dict(metrics)


def _metrics(loss, finite=True):
    terms = {"box": np.float32(2 * loss), "class": np.float32(0.5)}
    return StepMetrics(np.float32(loss), terms, np.float32(3), np.float32(loss / 8), finite)


def _record(losses, total, log_every, flush_at=()):
    pages = Pages()
    recorder = StepLogger(pages, file_names, total, log_every)
    for step, loss in enumerate(losses, 1):
        recorder.add(step, _metrics(loss), make_batch(0, step))
        if step in flush_at:
            recorder.flush()
    return pages, recorder


def test_a_line_has_the_means_since_the_last_line_or_checkpoint():
    losses = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 7.0]
    pages, _ = _record(losses, 20, 4, flush_at=(6,))
    assert sorted(pages.lines) == [4, 8]
    for step, window in ((4, losses[:4]), (8, losses[6:8])):
        line = pages.lines[step]
        assert line["train/loss"] == np.mean(window)
        assert line["train/box"] == 2 * np.mean(window)
        assert line["train/class"] == 0.5
        assert line["train/grad_norm"] == 3
        assert line["train/learning_rate"] == window[-1] / 8  # the last one, not the mean
    assert pages.lines[4]["train/images_per_second"] > 0


def test_a_step_is_processed_when_the_next_was_sent():
    pages, recorder = _record([1.0, 2.0], 5, 1)
    assert sorted(pages.lines) == [1]
    assert pages.shown[0] == 1
    recorder.flush()
    assert sorted(pages.lines) == [1, 2]
    recorder.flush()
    assert sorted(pages.lines) == [1, 2]


def test_the_last_step_is_logged():
    pages, recorder = _record([1.0] * 5, 5, 4)
    recorder.flush()
    assert sorted(pages.lines) == [4, 5]


@pytest.mark.parametrize("noticed_by", ["add", "flush"])
def test_the_message_names_step_term_and_images(noticed_by):
    pages, recorder = _record([1.0], 5, 1)
    bad, batch = _metrics(float("inf"), finite=False), make_batch(0, 2)
    recorder.add(2, bad, batch._replace(valid=np.array([True, False, True, False])))
    later = {
        "add": lambda: recorder.add(3, _metrics(1.0), make_batch(0, 3)),
        "flush": recorder.flush,
    }
    with pytest.raises(NonFiniteLossError) as error:
        later[noticed_by]()
    terms = {"box": "inf", "loss": "inf", "class": "0.5"}
    check_non_finite(error.value, 2, terms, file_names(batch.index[[0, 2]]))
    check_names(error.value, 3)  # the gradient's norm
    assert len(re.findall(r"\binf\b", str(error.value))) == 2
    assert sorted(pages.lines) == [1]


def test_a_statistic_is_named_if_everything_else_is_finite():
    _, recorder = _record([], 5, 1)
    batch = make_batch(0, 1)
    recorder.add(1, _metrics(1.0, finite=False), batch)
    with refused(error=NonFiniteLossError) as caught:
        recorder.flush()
    terms = {"box": "2", "loss": "1", "class": "0.5"}
    check_non_finite(caught.value, 1, terms, file_names(batch.index))
    assert not re.search(r"\b(inf|nan)\b", str(caught.value))
