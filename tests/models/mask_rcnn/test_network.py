"""The whole network: parameter counts, invariances of its loss, and images without objects."""

import re
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scenes import ATTRIBUTES, TINY, compile_model, random_batch

from mtl_jax.config.options.backbone import BackboneOptions
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions, RoiOptions, RpnOptions
from mtl_jax.convert.torchvision_names import arch_options
from mtl_jax.models.ground_truth import clean, image_keys
from mtl_jax.models.mask_rcnn import network as mask_rcnn_module
from mtl_jax.models.mask_rcnn.losses import loss_weights
from mtl_jax.models.mask_rcnn.network import Network, mask_rcnn
from mtl_jax.models.mask_rcnn.proposals import Anchors
from mtl_jax.models.mask_rcnn.targets import sample_anchors, sample_batch_anchors, sample_regions
from mtl_jax.ops import boxes as box_ops
from mtl_jax.ops.masks import mask_targets
from mtl_jax.training.step import make_loss
from mtl_jax.types import Proposals

MASK_TERMS = ("rpn_objectness", "rpn_box", "box_class", "box_regression", "mask")


@cache
def tiny():
    """Compile the smallest model once for all tests."""
    return compile_model(mask_rcnn(TINY, 3, ATTRIBUTES), random_batch())


@cache
def differentiated():
    model, variables, *_ = tiny()

    def loss(params, batch):
        full = {**variables, "params": params}
        total, terms, _ = make_loss(model)(full, batch, jax.random.key(1))
        return total, terms

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def tiny_loss(batch):
    """Return (total, terms, gradient) of the tiny model."""
    (total, terms), gradient = differentiated()(tiny().variables["params"], batch)
    return total, terms, gradient


def with_gt(batch, **changes):
    return batch._replace(gt=batch.gt._replace(**changes))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


SECOND = arch_options("maskrcnn_resnet50_fpn_v2")
PARAMETERS = {  # torchvision's counts with 91 classes; frozen norms have none
    "maskrcnn_resnet50_fpn, frozen norms": (MaskRCNNOptions(), 44_401_393),
    "maskrcnn_resnet50_fpn, trained norms": (
        MaskRCNNOptions(backbone=BackboneOptions(norm="batch")),
        44_454_513,
    ),
    "maskrcnn_resnet50_fpn_v2": (SECOND, 46_359_409),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_torchvisions_models(name):
    options, expected = PARAMETERS[name]
    model = mask_rcnn(options, 91)
    variables = jax.eval_shape(model.init, jax.random.key(0), random_batch(1).inputs)
    assert count(variables["params"]) == expected


def test_the_layers_used_by_all_tasks_are_shared():
    model = mask_rcnn(MaskRCNNOptions(), 3, ATTRIBUTES)
    variables = jax.eval_shape(model.init, jax.random.key(0), random_batch(1).inputs)
    paths = flatten_dict(variables["params"], sep="/")
    shared = {path for path in paths if re.search(model.shared, path)}
    assert {path.split("/")[0] for path in shared} == {"backbone", "fpn"}
    assert not any(path.startswith(("backbone/", "fpn/")) for path in paths.keys() - shared)


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160)],
)
def test_parameters_of_each_backbone(depth, expected):
    options = MaskRCNNOptions(backbone=BackboneOptions(depth=depth, norm="batch"))
    variables = jax.eval_shape(
        mask_rcnn(options, 2).init, jax.random.key(0), random_batch(1).inputs
    )
    assert count(variables["params"]["backbone"]) == expected


def test_defaults_are_torchvisions():
    detection = pytest.importorskip("torchvision.models.detection")
    model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    o = MaskRCNNOptions()
    rpn, heads, transform = model.rpn, model.roi_heads, model.transform
    anchors = rpn.anchor_generator
    pairs = [
        (o.rpn.anchor_sizes, anchors.sizes),
        (o.rpn.anchor_ratios, anchors.aspect_ratios[0]),
        (o.rpn.box_weights, rpn.box_coder.weights),
        (o.rpn.positive_iou, rpn.proposal_matcher.high_threshold),
        (o.rpn.negative_iou, rpn.proposal_matcher.low_threshold),
        (o.rpn.samples, rpn.fg_bg_sampler.batch_size_per_image),
        (o.rpn.positive_fraction, rpn.fg_bg_sampler.positive_fraction),
        (o.rpn.pre_nms_train, rpn._pre_nms_top_n["training"]),
        (o.rpn.pre_nms, rpn._pre_nms_top_n["testing"]),
        (o.rpn.post_nms_train, rpn._post_nms_top_n["training"]),
        (o.rpn.post_nms, rpn._post_nms_top_n["testing"]),
        (o.rpn.nms_iou, rpn.nms_thresh),
        (o.rpn.min_size, rpn.min_size),
        (o.rpn.score_threshold, rpn.score_thresh),
        (o.roi.sampling_ratio, heads.box_roi_pool.sampling_ratio),
        (o.roi.canonical_size, heads.box_roi_pool.canonical_scale),
        (o.roi.canonical_level, heads.box_roi_pool.canonical_level),
        (o.roi.samples, heads.fg_bg_sampler.batch_size_per_image),
        (o.roi.positive_fraction, heads.fg_bg_sampler.positive_fraction),
        (o.roi.positive_iou, heads.proposal_matcher.high_threshold),
        (o.roi.negative_iou, heads.proposal_matcher.low_threshold),
        (o.box_head.pool_size, heads.box_roi_pool.output_size[0]),
        (o.box_head.fc_features, heads.box_head.fc7.out_features),
        (o.box_head.box_weights, heads.box_coder.weights),
        (o.mask_head.pool_size, heads.mask_roi_pool.output_size[0]),
        (o.mask_head.convs, len(heads.mask_head)),
        (o.mask_head.channels, heads.mask_predictor.conv5_mask.out_channels),
        (o.detection.score_threshold, heads.score_thresh),
        (o.detection.nms_iou, heads.nms_thresh),
        (o.detection.max_detections, heads.detections_per_img),
        (o.pixel_mean, tuple(transform.image_mean)),
        (o.pixel_std, tuple(transform.image_std)),
    ]
    assert [ours for ours, _ in pairs] == [theirs for _, theirs in pairs]


def test_every_term_is_finite_has_a_weight_and_reaches_the_parameters():
    total, terms, gradient = tiny_loss(random_batch())
    weights = loss_weights(TINY, ATTRIBUTES)
    assert set(terms) == {*MASK_TERMS, *(f"attribute/{a.name}" for a in ATTRIBUTES)} == set(weights)
    assert total == pytest.approx(sum(weights[k] * float(v) for k, v in terms.items()), rel=1e-5)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        # A level of the pyramid only has a gradient if one of its anchors was sampled.
        assert np.abs(leaf).max() > 0 or path[0].key == "fpn", path


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_the_contents_of_empty_slots_have_no_effect_to_the_bit(poison):
    """Slots without ground truth are excluded from all losses, even with NaN."""
    batch = random_batch()
    empty = ~batch.gt.valid
    boxes = np.where(empty[..., None], np.float32(poison), batch.gt.boxes)
    labels = {
        name: label._replace(values=np.where(empty[..., None], np.float32(poison), label.values))
        for name, label in batch.gt.attributes.items()
    }
    classes = np.where(empty, 99, batch.gt.classes).astype(np.int32)
    masks = np.where(empty[..., None, None], 255, batch.gt.masks).astype(np.uint8)
    poisoned = with_gt(batch, boxes=boxes, classes=classes, masks=masks, attributes=labels)
    for clean_leaf, dirty_leaf in zip(
        jax.tree.leaves(tiny_loss(batch)), jax.tree.leaves(tiny_loss(poisoned)), strict=True
    ):
        np.testing.assert_array_equal(clean_leaf, dirty_leaf)


def test_the_number_of_empty_slots_has_no_effect():
    """All candidates are sampled, so that the samples do not depend on the number of slots."""
    options = replace(
        TINY,
        rpn=replace(TINY.rpn, samples=4096, positive_fraction=1.0),
        roi=RoiOptions(samples=128, positive_fraction=1.0),
    )
    _, variables, loss, _ = compile_model(mask_rcnn(options, 3, ATTRIBUTES), random_batch())
    few = random_batch(slots=3, objects=2)

    def pad(x):
        return np.concatenate([x, np.zeros((x.shape[0], 9, *x.shape[2:]), x.dtype)], 1)

    many = few._replace(gt=jax.tree.map(pad, few.gt))
    terms = [loss(variables, batch, jax.random.key(0))[1] for batch in (few, many)]
    for name in terms[0]:
        np.testing.assert_allclose(terms[0][name], terms[1][name], rtol=1e-6, err_msg=name)


def test_padding_images_have_no_effect():
    batch = random_batch(2)
    longer = jax.tree.map(lambda x: np.concatenate([x, x[:1]]), batch)
    longer = longer._replace(valid=np.array([True, True, False]))
    _, variables, loss, _ = tiny()
    short, long = (loss(variables, b, jax.random.key(3)) for b in (batch, longer))
    np.testing.assert_allclose(long[0], short[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(short[2]), jax.tree.leaves(long[2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_each_image_of_a_batch_draws_its_own_sample():
    """Each image has a different random key."""
    batch = jax.tree.map(lambda x: np.repeat(x[:1], 3, 0), random_batch())
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (200, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 20], 1)
    proposals = Proposals(np.tile(boxes, (3, 1, 1)), np.ones((3, 200), bool))
    draw = jax.vmap(
        partial(sample_regions, options=RoiOptions(samples=16), box_weights=(10, 10, 5, 5))
    )
    regions = draw(image_keys(jax.random.key(0), np.arange(3)), proposals, batch.gt, batch.valid)
    assert not np.array_equal(regions.boxes[0], regions.boxes[1])
    assert not np.array_equal(regions.boxes[1], regions.boxes[2])


def test_anchors_and_regions_are_sampled_with_different_keys(monkeypatch):
    keys = {}

    def spy(sample):
        def recorded(key, *args, **options):
            jax.debug.callback(
                lambda data: keys.setdefault(sample.__name__, []).extend(data.reshape(-1, 2)),
                jax.random.key_data(key),
            )
            return sample(key, *args, **options)

        return recorded

    for sample in (sample_batch_anchors, sample_regions):
        monkeypatch.setattr(mask_rcnn_module, sample.__name__, spy(sample))
    model = mask_rcnn(TINY, 3)

    @jax.jit
    def draw(variables):  # the loss is not returned, so only the keys are computed
        make_loss(model)(variables, random_batch(), jax.random.key(0))

    draw(tiny().variables)
    jax.effects_barrier()
    assert {name: len(used) for name, used in keys.items()} == {
        "sample_batch_anchors": 2,
        "sample_regions": 2,
    }
    assert len(np.unique(np.concatenate([*keys.values()]), axis=0)) == 4


@pytest.mark.parametrize("last", [1, 4, 8])
def test_anchors_are_matched_with_objects_in_all_slots(last):
    """Only the first 2 of 8 slots are used if the others are empty."""
    rng = np.random.default_rng(last)
    corners = rng.uniform(0, 30, (2, 208, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 25, (2, 208, 2))], -1)
    anchors = Anchors(boxes[:, 8:].astype(np.float32), np.ones((2, 200), bool))
    valid = np.zeros((2, 8), bool)
    valid[0, 0] = valid[1, last - 1] = True
    batch = jax.tree.map(lambda x: np.repeat(x[:, :1], 8, 1), random_batch(2).gt)
    gt = batch._replace(boxes=boxes[:, :8].astype(np.float32), valid=valid)
    keys, yes = image_keys(jax.random.key(0), np.arange(2)), np.ones(2, bool)
    options = RpnOptions()
    regions = np.zeros((2, 3, 4), np.float32)
    for ignored in (regions, np.where(np.arange(3)[:, None] == 1, 20 + boxes[:, :3] / 2, regions)):
        gt = gt._replace(ignored=ignored.astype(np.float32))
        found = sample_batch_anchors(keys, anchors, gt, yes, options)
        expected = jax.vmap(partial(sample_anchors, options=options))(keys, anchors, gt, yes)
        assert found.samples.positive.any(1).all()
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("of", ["anchors", "regions"])
def test_ignored_regions_have_no_negatives(of):
    corners = np.stack(np.meshgrid(np.arange(0, 60, 5.0), np.arange(0, 60, 5.0)), -1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + 20], 1).astype(np.float32)
    gt = jax.tree.map(lambda x: x[0], random_batch().gt)
    gt = gt._replace(
        boxes=np.array([[0, 0, 20, 20]] * len(gt.valid), np.float32),
        ignored=np.array([[30, 30, 50, 50], [0, 40, 40, 80], [0, 0, 0, 0]], np.float32),
    )
    key, yes = jax.random.key(0), np.array(True)

    def negatives(gt):
        """Return all negative boxes."""
        if of == "anchors":
            options = RpnOptions(samples=1000)
            found = sample_anchors(key, Anchors(boxes, np.ones(len(boxes), bool)), gt, yes, options)
            chosen = boxes[found.samples.index]
            samples = found.samples
            return chosen[samples.valid & ~samples.positive]
        options = RoiOptions(samples=1000)
        proposals = Proposals(boxes, np.ones(len(boxes), bool))
        found = sample_regions(key, proposals, gt, yes, options, (10, 10, 5, 5))
        return np.asarray(found.boxes)[found.valid & ~found.positive]

    found = negatives(gt)
    inside = box_ops.fraction_inside(found, gt.ignored).max(1)
    overlap = box_ops.iou(found, gt.ignored).max(1)
    limit = RpnOptions.negative_iou if of == "anchors" else RoiOptions.negative_iou
    assert inside.max() <= 0.5
    assert overlap.max() < limit
    without = negatives(gt._replace(ignored=np.zeros((3, 4), np.float32)))
    kept = {tuple(box) for box in found.tolist()}
    left = np.array([box for box in without.tolist() if tuple(box) not in kept], np.float32)
    ignored = (np.asarray(box_ops.fraction_inside(left, gt.ignored)) > 0.5) | (
        np.asarray(box_ops.iou(left, gt.ignored)) >= limit
    )
    assert len(left) > 10
    assert ignored.any(1).all()  # no other negative is left out


def test_a_batch_without_objects_only_trains_the_rpn_and_the_classes():
    """The loss is finite; box, mask and attribute losses are 0."""
    batch = random_batch()
    total, terms, gradient = tiny_loss(with_gt(batch, valid=np.zeros_like(batch.gt.valid)))
    assert np.isfinite(total)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    positive = {name for name, value in terms.items() if value != 0}
    assert positive == {"rpn_objectness", "box_class"}


def test_an_image_without_objects_beside_one_with_objects():
    batch = random_batch()
    valid = batch.gt.valid.copy()
    valid[0] = False
    total, terms, _ = tiny_loss(with_gt(batch, valid=valid))
    assert np.isfinite(total)
    assert all(value > 0 for value in terms.values())


def test_images_with_unlabelled_objects_have_no_negatives():
    batch = random_batch()._replace(exhaustive=np.zeros(2, bool))
    empty = with_gt(batch, valid=np.zeros_like(batch.gt.valid))
    assert all(value == 0 for value in tiny_loss(empty)[1].values())
    assert tiny_loss(batch)[1]["box_class"] > 0


def test_a_class_that_is_not_labelled_is_not_trained():
    batch = random_batch()
    batch = with_gt(batch, classes=np.ones_like(batch.gt.classes))
    every = np.ones((2, 3), bool)
    total, terms, gradient = tiny_loss(batch._replace(labelled=every))
    expected = tiny_loss(batch)
    jax.tree.map(np.testing.assert_array_equal, (total, terms, gradient), expected)
    assert np.abs(gradient["box_head"]["class_logits"]["bias"][2]) > 0
    without = tiny_loss(batch._replace(labelled=np.array([[True, True, False]] * 2)))
    bias = without[2]["box_head"]["class_logits"]["bias"]
    assert bias[2] == 0
    assert bias[0] != 0
    # Objects of the class can be anywhere: the RPN has no negatives.
    alone = tiny_loss(batch._replace(exhaustive=np.zeros(2, bool)))
    assert without[1]["rpn_objectness"] == pytest.approx(float(alone[1]["rpn_objectness"]))


def test_boxes_without_masks_and_labels_train_the_rest():
    batch = random_batch()
    labels = {
        name: label._replace(known=np.zeros_like(label.known))
        for name, label in batch.gt.attributes.items()
    }
    unlabelled = with_gt(batch, mask_valid=np.zeros_like(batch.gt.valid), attributes=labels)
    _, terms, gradient = tiny_loss(unlabelled)
    assert all(terms[name] > 0 for name in MASK_TERMS[:4])
    assert all(value == 0 for name, value in terms.items() if name not in MASK_TERMS[:4])
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gradient["mask_head"]))


def test_detections_are_ordered_inside_the_image_and_independent_of_the_batch():
    _, variables, _, predict = tiny()
    batch = random_batch(3)._replace(sizes=np.array([[64, 64], [40, 64], [64, 33]], np.float32))
    together = jax.device_get(predict(variables, batch))
    assert together.valid.any()
    assert np.all(np.diff(np.where(together.valid, together.scores, -1)) <= 0)
    for row, (height, width) in enumerate(batch.sizes):
        boxes = together.boxes[row][together.valid[row]]
        assert np.all(boxes >= 0)
        assert np.all(boxes <= [width, height, width, height])
    # Padding rows have no detections and do not change those of the first image.
    alone = jax.device_get(predict(variables, batch._replace(valid=np.array([True, False, False]))))
    assert not alone.valid[1:].any()
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(channels):
    options = replace(TINY, pixel_mean=(0.5,), pixel_std=(0.25,))
    model = mask_rcnn(options, 3, ATTRIBUTES)
    batch = random_batch(1, channels=channels)
    variables = jax.eval_shape(model.init, jax.random.key(0), batch.inputs)
    kernel = variables["params"]["backbone"]["stem"]["conv1"]["kernel"]
    assert kernel.shape[2] == channels


def test_bfloat16_stays_near_float32():
    _, variables, loss, _ = tiny()
    half = mask_rcnn(replace(TINY, dtype="bfloat16"), 3, ATTRIBUTES)
    batch = random_batch()
    full = loss(variables, batch, jax.random.key(0))
    low = jax.jit(make_loss(half))(variables, batch, jax.random.key(0))
    assert low[0].dtype == jnp.float32
    assert low[0] == pytest.approx(float(full[0]), rel=0.05)


def test_clean_clears_rows_without_ground_truth():
    batch = random_batch()._replace(valid=np.array([True, False]))
    gt = clean(batch).gt
    assert not gt.valid[1].any()
    assert not any(label.known[1].any() for label in gt.attributes.values())


@pytest.mark.slow
def test_heads_on_some_of_the_rows_equal_heads_on_all_rows(monkeypatch):
    """Compare loss, gradient, batch statistics and detections, with cases in which an eighth, a
    quarter or all of the rows are required.
    """
    options = replace(
        TINY,
        roi=RoiOptions(samples=128, positive_iou=0.99),  # 32 rows; only the objects are positive
        mask_head=replace(TINY.mask_head, norm="batch"),
        attribute_head=replace(TINY.attribute_head, norm="batch"),
        detection=replace(TINY.detection, max_detections=32),
    )
    many = random_batch(objects=12, slots=12)
    model, variables, *_ = compile_model(mask_rcnn(options, 3, ATTRIBUTES), many)
    four, six = (with_gt(many, valid=np.tile(np.arange(12) < n, (2, 1))) for n in (4, 6))

    def everything(params, batch, sizes):
        def loss(params):
            total, _, stats = make_loss(model)(
                {**variables, "params": params}, batch, jax.random.key(1)
            )
            return total, stats

        found = model.predict(variables, batch.inputs._replace(sizes=sizes))
        return jax.value_and_grad(loss, has_aux=True)(params), found

    def plain(self, head, pyramid, boxes, valid, *rest):
        outputs = self._heads(head, pyramid, boxes, valid, *rest)
        return jax.tree.map(lambda x: (x.T * valid.T).T, outputs)

    # In images of two pixels, hardly any box remains.
    tiny = np.full((2, 2), 2, np.float32)
    cases = [(four, tiny), (six, tiny), (many, many.sizes)]
    ours = [jax.jit(everything)(variables["params"], *case) for case in cases]
    monkeypatch.setattr(Network, "_first_heads", plain)
    expected = [jax.jit(partial(everything))(variables["params"], *case) for case in cases]
    counts = [result[1].valid.sum(1).max() for result in ours]
    assert 0 < counts[0] == counts[1] <= 4 < 8 < counts[2]
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


MATTERPORT = replace(
    TINY,
    backbone=replace(TINY.backbone, pool_same=True),
    rpn=replace(TINY.rpn, channels=24, round_anchors=False, joint_levels=True, min_size=0.0),
    roi=replace(TINY.roi, corner_samples=True, round_level=True),
    detection=replace(TINY.detection, best_class_only=True, min_size=0.0, score_threshold=0.0),
    inclusive_boxes=True,
    size_divisible=0,
)


@pytest.mark.parametrize("inclusive", [False, True])
def test_a_gt_box_equal_to_an_anchor_has_zero_deltas_in_both_conventions(inclusive):
    options = replace(MATTERPORT, inclusive_boxes=inclusive)
    options = replace(options, rpn=replace(options.rpn, positive_iou=0.999))
    model, variables, *_ = compile_model(mask_rcnn(options, 3), random_batch(1))
    variables["params"]["rpn"]["deltas"]["kernel"] *= 0  # the predictions are zero as well

    @jax.jit
    def box_loss(variables, box):
        boxes, valid = jnp.tile(box, (1, 4, 1)), np.arange(4)[None] < 1
        batch = with_gt(random_batch(1), boxes=boxes, valid=valid)
        return make_loss(model)(variables, batch, jax.random.key(0))[1]["rpn_box"]

    # The second ratio of the cell at row 3, column 4 of P2.
    anchor = np.array([12, 8, 20, 16], np.float32)
    np.testing.assert_allclose(box_loss(variables, anchor), 0, atol=1e-6)
    assert box_loss(variables, anchor + np.array([0, 0, 1, 1], np.float32)) > 1e-3


def test_matterports_options_train_every_head_and_find_boxes_in_the_image():
    batch = random_batch()._replace(sizes=np.array([[64, 64], [40, 33]], np.float32))
    model, variables, _, predict = compile_model(mask_rcnn(MATTERPORT, 3, ATTRIBUTES), batch)

    def loss(params):
        total, terms, _ = make_loss(model)(
            {**variables, "params": params}, batch, jax.random.key(1)
        )
        return total, terms

    (_, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    assert all(np.isfinite(value) and value > 0 for value in terms.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert np.abs(gradient["backbone"]["stem"]["conv1"]["kernel"]).max() > 0
    found = jax.device_get(predict(variables, batch))
    for row, (height, width) in enumerate(batch.sizes):
        boxes = found.boxes[row][found.valid[row]]
        assert len(boxes) > 1
        # In the network, boxes may have width 0; outside of it they include the last pixel.
        assert np.all(boxes[:, 2:] - boxes[:, :2] >= 1)
        assert np.all(boxes >= 0)
        assert np.all(boxes <= [width, height, width, height])
    assert np.all(found.boxes[~found.valid] == 0)


def test_mask_targets_of_inclusive_boxes_do_not_depend_on_the_mask_format():
    """Compare masks of the padded image with the same masks cropped to their boxes."""
    whole = np.zeros((1, 4, 64, 64), np.uint8)
    whole[:, :, 8:40, 16:32] = 255
    boxes = np.tile(np.array([16, 8, 32, 40], np.float32), (1, 4, 1))
    batch = with_gt(random_batch(1), boxes=boxes)
    terms = []
    for full, masks in ((True, whole), (False, whole[:, :, 8:40, 16:32])):
        batch = with_gt(batch, masks=np.ascontiguousarray(masks))
        _, variables, loss, _ = compile_model(mask_rcnn(MATTERPORT, 3, (), full), batch)
        terms.append(loss(variables, batch, jax.random.key(1))[1])
    assert terms[0]["mask"] == pytest.approx(float(terms[1]["mask"]), rel=0.02)


def test_mask_targets_have_the_alignment_of_pooling(monkeypatch):
    used = []

    def spy(masks, *args, side, aligned):
        used.append(aligned)
        return mask_targets(masks, *args, side=side, aligned=aligned)

    monkeypatch.setattr(mask_rcnn_module, "mask_targets", spy)
    for aligned in (True, False):
        options = replace(TINY, roi=replace(TINY.roi, aligned=aligned))
        model = mask_rcnn(options, 3)
        jax.eval_shape(make_loss(model), tiny().variables, random_batch(), jax.random.key(0))
    assert used == [True, False]
