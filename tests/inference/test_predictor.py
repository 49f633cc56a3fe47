import cv2
import numpy as np
from inference.fake_run import FakeRun, picture
from mistakes import refused

from mtl_jax import Predictor as Exported
from mtl_jax.images.resize import ResizeOptions
from mtl_jax.inference.predictor import Predictor
from mtl_jax.visualize.drawing.draw import draw

# Heights, widths and boxes whose edges lie between pixels when resized to 64 or 128.
SCENES = [
    (64, 128, (20, 10, 60, 50)),
    (128, 256, (20, 10, 60, 50)),
    (32, 32, (4, 8, 20, 24)),
    (256, 256, (0, 0, 256, 256)),
    (128, 128, (64, 30, 128, 128)),
    (64, 64, (1, 2, 3, 4)),
    (512, 256, (100, 200, 220, 404)),
]


def scenes():
    return [picture(*scene) for scene in SCENES]


def same(a, b):
    for name in ("boxes", "scores", "classes", "masks"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.attributes["eye"], b.attributes["eye"])
    assert (a.height, a.width, a.class_names) == (b.height, b.width, b.class_names)


def test_boxes_masks_and_landmarks_are_in_pixels_of_the_image():
    for image, (height, width, box) in zip(scenes(), SCENES, strict=True):
        result = Predictor(FakeRun())(image)
        assert (result.height, result.width) == (height, width)
        tolerance = max(height, width) / 64
        np.testing.assert_allclose(result.boxes, [box], atol=tolerance)
        x, y, _ = result.attributes["eye"][0]
        np.testing.assert_allclose(
            [x, y], [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], atol=tolerance
        )
        assert result.class_names == ("light",)
        assert result.category_ids.tolist() == [11]
        bright = image[..., 0] > 0
        common = (bright & result.masks[0]).sum() / (bright | result.masks[0]).sum()
        assert common > 0.8 or height == width == 64  # its mask has four pixels


def test_batches_equal_single_images_and_keep_the_order():
    single = [Predictor(FakeRun())(image) for image in scenes()]
    for size in (1, 2, 4, 16):
        run = FakeRun(batch_size=size)
        for a, b in zip(single, Predictor(run)(scenes()), strict=True):
            same(a, b)
        assert {len(batch.images) for batch in run.batches} == {size}
        assert sum(int(batch.valid.sum()) for batch in run.batches) == len(SCENES)


def test_rows_that_only_fill_a_batch_are_not_valid():
    run = FakeRun(batch_size=8)
    Predictor(run)(scenes()[:3])
    for batch in run.batches:
        assert batch.images.dtype == np.uint8
        assert not batch.images[~batch.valid].any()
        assert batch.sizes[batch.valid].max() <= 128
    assert sum(int(batch.valid.sum()) for batch in run.batches) == 3


def test_one_image_is_a_batch_of_one():
    run = FakeRun(batch_size=8)
    Predictor(run)(scenes()[0])
    assert [len(batch.images) for batch in run.batches] == [1]


def test_paths_strings_and_arrays_have_the_same_result(tmp_path):
    image = scenes()[0]
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), image)
    predictor = Predictor(FakeRun())
    same(predictor(path), predictor(image))
    same(predictor(str(path)), predictor(image))
    same(predictor([path, image])[1], predictor(image))
    same(predictor(image[..., 0]), predictor(image))  # gray


def test_16_bit_images_are_read_with_the_levels_of_the_run(tmp_path):
    image = scenes()[0]
    path = tmp_path / "dim.png"
    cv2.imwrite(str(path), image.astype(np.uint16))  # 8 of 16 bits are used
    run = FakeRun()
    run.levels = (0, 255)
    same(Predictor(run)(path), Predictor(FakeRun())(image))
    assert len(Predictor(FakeRun())(path)) == 0


def test_a_model_of_another_number_of_channels():
    image = picture(64, 128, (20, 10, 60, 50), 5)
    run = FakeRun(channels=5)
    np.testing.assert_allclose(Predictor(run)(image).boxes, [[20, 10, 60, 50]])
    assert run.batches[0].images.shape[-1] == 5
    with refused(3, 5):
        Predictor(run)(image[..., :3])


def test_results_of_cropped_inputs_are_in_pixels_of_the_image():
    run = FakeRun(resize=ResizeOptions("crop", 64, 128))
    image = picture(64, 200, (90, 20, 110, 50))
    np.testing.assert_allclose(Predictor(run)(image).boxes, [[90, 20, 110, 50]], atol=1e-4)


def test_an_image_without_objects_has_an_empty_result():
    result = Predictor(FakeRun())(np.zeros((50, 60, 3), np.uint8))
    assert len(result) == 0
    assert result.masks.shape == (0, 50, 60)
    assert draw(result.image, result).shape == (50, 60, 3)


def test_an_empty_list_of_images_has_an_empty_list_of_results():
    assert Predictor(FakeRun())([]) == []


def test_a_result_keeps_its_image():
    image = scenes()[0]
    result = Predictor(FakeRun())(image)
    drawn = draw(result.image, result)
    assert drawn.shape == image.shape
    assert (drawn != image).any()


def test_the_threshold_applies_to_returned_and_drawn_detections():
    image = scenes()[0]
    assert len(Predictor(FakeRun(), 0.7)(image)) == 1
    assert len(Predictor(FakeRun(), 0.9)(image)) == 0
    run = FakeRun(score=0.3)
    for threshold, count, drawn in ((None, 1, False), (0.2, 1, True), (0.4, 0, False)):
        result = Predictor(run, threshold)(image)
        assert len(result) == count
        assert (draw(image, result) != image).any() == drawn
    with refused("threshold", 1.5):
        Predictor(run, 1.5)


def test_an_unknown_class_is_refused():
    with refused("lihgt", "light"):
        Predictor(FakeRun(), None, ["dark", "lihgt"])
    with refused("xyz", "light", "dark"):
        Predictor(FakeRun(), None, ["xyz"])
    assert len(Predictor(FakeRun(), None, ["dark"])(scenes()[0])) == 0
    same(Predictor(FakeRun(), None, ["light"])(scenes()[0]), Predictor(FakeRun())(scenes()[0]))


def test_an_unreadable_image_is_named(tmp_path):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with refused(empty):
        Predictor(FakeRun())(empty)
    with refused(tmp_path / "missing.png"):
        Predictor(FakeRun())(tmp_path / "missing.png")
    with refused(1, "5 x 5 x 3 float64"):
        Predictor(FakeRun())([scenes()[0], np.zeros((5, 5, 3))])


def test_only_a_few_images_are_read_at_a_time():
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield scenes()[0]

    stream = Predictor(FakeRun(batch_size=2)).predict_files(endless())
    assert next(stream)[0] == 0
    assert len(asked) < 12
    stream.close()


def test_the_package_exports_the_predictor():
    assert Exported is Predictor
