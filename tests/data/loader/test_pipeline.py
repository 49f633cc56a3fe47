"""Batches: no example is lost or repeated, resumed runs are bit-exact, and faults are reported."""

import errno
import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from faces import DECLARED
from mistakes import check_faults, check_names, refused, unnamed

from benchmarks.pipeline import resident_memory
from mtl_jax.attributes import declarations as attributes
from mtl_jax.attributes.base import parse_labels
from mtl_jax.config.options.data import AugmentOptions, DataOptions
from mtl_jax.data.datasets.cache import InMemory
from mtl_jax.data.datasets.repeat import repeat_factors, repeat_rare
from mtl_jax.data.datasets.subset import Subset
from mtl_jax.data.face_masks.apply import DrawMasks
from mtl_jax.data.loader import pipeline, sampler
from mtl_jax.data.loader.processes import in_processes
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.errors import UserError
from mtl_jax.images.resize import ResizeOptions
from mtl_jax.types import Batch

ROOT = Path(__file__).resolve().parents[3]
ATTRIBUTES = attributes.from_config(
    {
        "age": {"kind": "continuous", "range": (0, 99)},
        "eyes": {"kind": "landmarks", "points": ("l", "r"), "flip": (("l", "r"),)},
    }
)
AUGMENT = AugmentOptions(scale=(0.5, 1.5), rain=0.5, noise=0.5, blur=0.5, motion=0.5, contrast=0.5)
OPTIONS = DataOptions(
    resize=ResizeOptions("shorter", 32, 48, ((32, 48), (48, 32))),
    augment=AUGMENT,
    max_instances=3,
    mask_size=8,
)


@dataclass
class Images(Source):
    """Random images, landscape and portrait, made on each access; image i has i % 3 instances."""

    length: int
    seed: int = 0
    categories: Sequence[Category] = (Category(1, "thing"),)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> Record:
        height, width = ((32, 40), (40, 32), (24, 48))[position % 3]
        pixels = np.random.default_rng((self.seed, position)).integers(
            0, 256, (height, width, 3), np.uint8
        )
        raw = {"age": position % 99, "eyes": [(6, 7, 2), (9, 8, 1)]}
        labels = parse_labels(ATTRIBUTES, raw)
        instances = tuple(
            Instance(
                (4, 5, 20, 21 + k),
                1,
                [[4, 5, 20, 5, 20, 21 + k]],
                attributes=labels,
            )
            for k in range(position % 3)
        )
        return Record(pixels, width, height, position, f"{self.seed}/{position}.png", instances)

    def group(self, position: int) -> str:
        return str(position)


def arrays(batch: Batch) -> list[np.ndarray]:
    return jax.tree.leaves(batch)


def same(a: Batch, b: Batch) -> bool:
    pairs = zip(arrays(a), arrays(b), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def train(sources=None, weights=(1.0,), options=OPTIONS, batch_size=2, seed=1, start_step=0):
    sources = [Images(11)] if sources is None else sources
    return pipeline.train_batches(
        sources,
        weights,
        ATTRIBUTES,
        options,
        batch_size=batch_size,
        seed=seed,
        start_step=start_step,
    )


def evaluate(source, options=OPTIONS, batch_size=4) -> list[Batch]:
    return list(pipeline.eval_batches(source, ATTRIBUTES, options, batch_size=batch_size))


def test_a_batch_has_the_documented_types_and_shapes():
    shapes = {(32, 48), (48, 32)}
    found = set()
    for batch in islice(train(), 12):
        height, width = batch.images.shape[1:3]
        found.add((height, width))
        assert (batch.images.dtype, batch.images.shape) == (np.uint8, (2, height, width, 3))
        assert (batch.sizes.dtype, batch.sizes.shape) == (np.float32, (2, 2))
        assert (batch.index.dtype, batch.index.shape) == (np.int32, (2,))
        assert (batch.gt.boxes.dtype, batch.gt.boxes.shape) == (np.float32, (2, 3, 4))
        assert (batch.gt.classes.dtype, batch.gt.classes.shape) == (np.int32, (2, 3))
        assert (batch.gt.masks.dtype, batch.gt.masks.shape) == (np.uint8, (2, 3, 8, 8))
        for array in (batch.gt.valid, batch.gt.mask_valid):
            assert (array.dtype, array.shape) == (bool, (2, 3))
        assert list(batch.gt.attributes) == ["age", "eyes"]
        assert batch.gt.attributes["eyes"].values.shape == (2, 3, 6)
        assert batch.gt.attributes["age"].known.dtype == bool
        assert batch.valid.all()
        assert batch.exhaustive.all()
    assert found == shapes


def test_two_runs_are_equal_to_the_bit_and_another_seed_is_not():
    first, second = (list(islice(train(), 15)) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    other = islice(train(seed=2), 15)
    assert not any(same(a, b) for a, b in zip(first, other, strict=True))


def test_threads_do_not_change_a_bit():
    alone = islice(train(options=replace(OPTIONS, workers=1)), 15)
    many = islice(train(options=replace(OPTIONS, workers=5)), 15)
    assert all(same(a, b) for a, b in zip(alone, many, strict=True))


IN_PROCESSES = replace(OPTIONS, processes=True)


@pytest.mark.slow
def test_processes_do_not_change_a_bit():
    sources, weights = [Images(11), Images(5, seed=9)], (1.0, 0.5)
    expected = islice(train(sources, weights, start_step=3), 15)
    batches = islice(train(sources, weights, IN_PROCESSES, start_step=3), 15)
    assert all(same(a, b) for a, b in zip(expected, batches, strict=True))
    pairs = zip(evaluate(Images(9)), evaluate(Images(9), IN_PROCESSES), strict=True)
    assert all(same(a, b) for a, b in pairs)


@pytest.mark.parametrize("start", [1, 7, 13])
def test_a_run_that_starts_later_is_the_tail(start):
    sources, weights = [Images(11), Images(5, seed=9)], (1.0, 0.5)
    whole = list(islice(train(sources, weights), 18))
    tail = islice(train(sources, weights, start_step=start), 18 - start)
    assert all(same(a, b) for a, b in zip(whole[start:], tail, strict=True))


def test_no_two_examples_share_their_randomness():
    """All records are the same image, so only the augmentation makes rows differ."""

    class Same(Images):
        def __getitem__(self, position: int) -> Record:
            return super().__getitem__(3)

    options = replace(OPTIONS, augment=AugmentOptions(noise=1.0, noise_strength=60.0))
    rows = [
        row.tobytes()
        for batch in islice(train([Same(4)], options=options), 6)
        for row in batch.images
    ]
    assert len(set(rows)) == len(rows) == 12


def test_an_epoch_uses_every_image():
    source = Images(12)
    seen = Counter(
        int(i) for batch in islice(train([source], batch_size=4), 3) for i in batch.index
    )
    assert seen == Counter(range(12))


@pytest.mark.parametrize("length", [1, 4, 7, 12])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_evaluation_never_loses_or_repeats_an_example(length, batch_size):
    source = Images(length)
    batches = evaluate(source, batch_size=batch_size)
    assert all(batch.images.shape[0] == batch_size for batch in batches)
    index = np.concatenate([batch.index for batch in batches])
    valid = np.concatenate([batch.valid for batch in batches])
    assert sorted(index[valid].tolist()) == list(range(length))
    assert (index[~valid] == -1).all()
    for batch in batches:
        for row, position in enumerate(batch.index.tolist()):
            if position < 0:
                assert not batch.gt.valid[row].any()
                assert not batch.gt.mask_valid[row].any()
                assert not any(labels.known[row].any() for labels in batch.gt.attributes.values())
            else:
                record = source[position]
                assert batch.gt.valid[row].sum() == len(record.instances)
                np.testing.assert_array_equal(batch.sizes[row], batch_size_of(record))


def batch_size_of(record: Record) -> tuple[int, int]:
    scale = min(32 / min(record.height, record.width), 48 / max(record.height, record.width))
    return int(record.height * scale), int(record.width * scale)


def test_evaluation_of_no_records_has_no_batches():
    assert evaluate(Images(0)) == []


def test_evaluation_is_repeatable():
    pairs = zip(evaluate(Images(9)), evaluate(Images(9)), strict=True)
    assert all(same(a, b) for a, b in pairs)


def test_file_names_follow_the_index():
    sources = [Images(3, seed=5), Images(4, seed=6)]
    got = pipeline.file_names(sources, np.array([0, 2, 3, 6, -1]))
    assert got == ["5/0.png", "5/2.png", "6/0.png", "6/3.png", ""]
    batch = next(train(sources, (1.0, 1.0)))
    for name, row in zip(
        pipeline.file_names(sources, batch.index), batch.index.tolist(), strict=True
    ):
        assert name == (f"5/{row}.png" if row < 3 else f"6/{row - 3}.png")


class Files(Images):
    """Images on disk, one of them truncated."""

    folder: Path
    broken: int = -1

    def __getitem__(self, position: int) -> Record:
        record = super().__getitem__(position)
        path = self.folder / f"{position}.png"
        if not path.exists():
            assert cv2.imwrite(str(path), np.asarray(record.image)[..., ::-1])
            if position == self.broken:
                path.write_bytes(path.read_bytes()[:100])
        return replace(record, image=path)


@pytest.fixture
def broken(tmp_path: Path) -> Files:
    source = Files(9)
    source.folder, source.broken = tmp_path, 4
    return source


MEND = ("config.data.on_error", "skip")


def of_images(messages: Sequence[str]) -> list[str]:
    return [message for message in messages if ".png" in message]


def test_a_broken_image_stops_the_run_and_is_named(broken):
    with refused(broken.folder / "4.png", *MEND):
        evaluate(broken)
    with refused(broken.folder / "4.png", *MEND):
        list(islice(train([broken]), 20))


def test_batches_before_the_broken_one_are_returned(broken):
    batches = pipeline.eval_batches(broken, ATTRIBUTES, OPTIONS, batch_size=2)
    before = [next(batches).index.tolist() for _ in range(3)]
    with pytest.raises(UserError):
        next(batches)
    assert before == [[0, 2], [3, 5], [6, 8]]  # landscape images; 1, 4 and 7 are portrait


@pytest.mark.slow
def test_a_broken_image_in_a_process_is_named(broken, caplog):
    with refused(broken.folder / "4.png", *MEND):
        evaluate(broken, IN_PROCESSES)
    with caplog.at_level(logging.WARNING):
        evaluate(broken, replace(IN_PROCESSES, on_error="skip", max_instances=1))
    overfull, unread = broken.folder / "2.png", broken.folder / "4.png"
    check_faults(of_images(caplog.messages), (overfull, "max_instances"), (unread,))
    others = set(caplog.messages) - set(of_images(caplog.messages))
    assert any(not unnamed(message, (3, "max_instances")) for message in others)


@dataclass
class Deadly(Images):
    """Images; accessing one of them kills the process."""

    def __getitem__(self, position: int) -> Record:
        if position == 7 and multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(position)


@pytest.mark.parametrize("position", [0, 1])
def test_killing_an_idle_process_causes_no_deadlock(position):
    """One of the idle processes has the lock that the others wait for."""
    with in_processes(abs, 2) as call:
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(call, (-3, -4, -5))) == [3, 4, 5]
        child = sorted(c.pid or 0 for c in multiprocessing.active_children())[position]
        os.kill(child, signal.SIGKILL)
        time.sleep(1)  # until the pool notices
        with refused("data.workers"):
            call(-1)


def test_a_killed_process_is_a_user_error():
    with refused("data.workers"):
        evaluate(Deadly(9), IN_PROCESSES)


def test_processes_end_with_their_parent():
    """Also if the parent is killed and cannot stop them."""
    code = """
        import multiprocessing, os, signal, sys
        sys.path[:0] = ["tests/data/loader", ".", "tests"]
        from test_pipeline import IN_PROCESSES, train
        batches = train(options=IN_PROCESSES)
        next(batches)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    children = [int(pid) for pid in done.stdout.split()]
    assert children
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_missing_file_is_named(broken, tmp_path):
    class Gone(Images):
        def __getitem__(self, position: int) -> Record:
            return replace(super().__getitem__(position), image=tmp_path / "gone.png")

    with refused(tmp_path / "gone.png", os.strerror(errno.ENOENT), *MEND):
        evaluate(Gone(1))


def test_a_broken_image_read_by_a_deferred_change_is_named_or_skipped(broken, caplog):
    masked = Subset(broken, range(len(broken)), deferred=(DrawMasks(DECLARED),))
    options = replace(OPTIONS, resize=ResizeOptions("square", 48, 48, ((48, 48),)))
    with refused(broken.folder / "4.png"):
        evaluate(masked, options)
    with caplog.at_level(logging.WARNING):
        evaluate(masked, replace(options, on_error="skip"))
    check_faults(of_images(caplog.messages), [broken.folder / "4.png"])
    # Planning by image size applies no deferred changes, and so reads no image.
    kept = InMemory(masked)
    sampler.find_buckets([masked, kept, repeat_rare(kept, 0.5)], OPTIONS.resize)
    assert repeat_factors(kept, 0.5).tolist() == [1.0] * 9


def test_planning_makes_each_cached_record_only_once():
    made = []

    class Counted(Images):
        def __getitem__(self, position: int) -> Record:
            made.append(position)
            return super().__getitem__(position)

    source = InMemory(Counted(5))
    sampler.find_buckets([source], OPTIONS.resize)
    assert [source[i].image_id for i in range(5)] == list(range(5))
    assert sorted(made) == list(range(5))


def test_other_exceptions_keep_their_type():
    class Wrong(Images):
        def __getitem__(self, position: int) -> Record:
            return super().__getitem__(position // 0)

    with pytest.raises(ZeroDivisionError):
        evaluate(Wrong(1))


def test_a_skipped_image_in_evaluation_is_an_invalid_row_and_is_reported(broken, caplog):
    with caplog.at_level(logging.WARNING):
        batches = evaluate(broken, replace(OPTIONS, on_error="skip"))
    index = np.concatenate([batch.index for batch in batches])
    valid = np.concatenate([batch.valid for batch in batches])
    assert sorted(index[valid].tolist()) == [0, 1, 2, 3, 5, 6, 7, 8]
    check_faults(of_images(caplog.messages), [broken.folder / "4.png"])


def test_a_skipped_image_in_training_is_replaced_and_reported_once(broken, caplog):
    options = replace(OPTIONS, on_error="skip")
    with caplog.at_level(logging.WARNING):
        batches = list(islice(train([broken], options=options), 20))
    assert all(batch.valid.all() for batch in batches)
    assert 4 not in np.concatenate([batch.index for batch in batches])
    check_faults(of_images(caplog.messages), [broken.folder / "4.png"])
    assert all(
        same(a, b)
        for a, b in zip(batches, islice(train([broken], options=options), 20), strict=True)
    )


def test_a_source_of_weight_0_replaces_no_image(broken):
    broken.broken = 8  # the next image is the other source's first
    batches = train([broken, Images(9)], (1.0, 0.0), replace(OPTIONS, on_error="skip"))
    found = np.concatenate([batch.index for batch in islice(batches, 20)])
    assert set(found.tolist()) == set(range(8))


def test_rows_name_the_labelled_classes():
    def only(record):
        return replace(record, unlabelled=(1,))

    class Unlabelled(Images):
        def __getitem__(self, position):
            return only(super().__getitem__(position))

    batches = islice(train([Images(6), Unlabelled(6)], (1.0, 1.0)), 6)
    found = {int(i): row for b in batches for i, row in zip(b.index, b.labelled, strict=True)}
    assert {i: row.tolist() for i, row in found.items()} == {i: [True, i < 6] for i in range(12)}


def test_no_readable_images_are_reported(broken):
    broken.length = 1
    broken.broken = 0
    with refused(32, 48):  # the padded size
        next(train([broken], options=replace(OPTIONS, on_error="skip")))


def test_images_with_more_instances_than_slots_are_counted(caplog):
    options = replace(OPTIONS, max_instances=1)
    with caplog.at_level(logging.WARNING):
        evaluate(Images(9), options)  # 2, 5 and 8 have two
    first, total = caplog.messages
    check_names(first, "0/2.png", "max_instances")
    check_names(first.partition("0/2.png")[2], 2, 1)
    check_names(total, 3, "max_instances", 1)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        evaluate(Images(9), replace(OPTIONS, max_instances=2))
    assert not caplog.messages


def test_training_without_records_is_refused_at_once():
    with refused():
        train([Images(0)])


def growth(batches: Iterator[Batch], warm: int, count: int) -> int:
    """Return the growth of the process in bytes during `count` batches, after `warm` batches."""
    sizes = []
    for number in (warm, count):
        for _ in islice(batches, number):
            pass
        gc.collect()
        sizes.append(resident_memory())
    return sizes[1] - sizes[0]


def evaluations(options: DataOptions) -> Iterator[Batch]:
    while True:
        yield from evaluate(Images(4), options)


@pytest.mark.parametrize(
    ("batches", "warm", "count", "limit"),
    [
        ("train(options=square)", 30, 200, 80),
        pytest.param("evaluations(square)", 30, 90, 60, marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow(batches, warm, count, limit):
    """Runs in a separate process: memory of other tests could be released or reused meanwhile."""
    code = f"""
        import sys
        sys.path[:0] = ["tests/data/loader", ".", "tests"]
        from test_pipeline import *
        square = replace(OPTIONS, resize=ResizeOptions("square", 256, 256, ((256, 256),)))
        print(growth({batches}, {warm}, {count}))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    images = int(done.stdout) / (256 * 256 * 3)
    assert images < limit  # several hundred were made


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "batches.close()"])
@pytest.mark.parametrize(
    ("options", "dropped"),
    [("OPTIONS", 5), pytest.param("IN_PROCESSES", 1, marks=pytest.mark.slow)],
)
def test_a_run_that_ends_during_training_exits_cleanly_and_silently(end, options, dropped):
    """The interpreter exits while threads run: it must not hang, crash or print anything."""
    code = f"""
        import sys
        sys.path[:0] = ["tests/data/loader", ".", "tests"]
        from test_pipeline import *
        large = replace({options}, resize=ResizeOptions("square", 800, 800, ((800, 800),)))
        for _ in range({dropped}):  # dropped while being made
            next(train(options=large))
        batches = train(options=large)
        next(batches)
        {end}
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (3 if "3" in end else 0, "", "")


def test_tensorflow_sees_no_gpu():
    import tensorflow as tf

    assert tf.config.get_visible_devices("GPU") == []
