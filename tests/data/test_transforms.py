"""Sizes against torchvision's rule, boxes against masks that went through the same steps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.data.formats.shapes import read
from detkit.data.records import Annotation
from detkit.data.transforms import build, transforms
from detkit.errors import DetkitError
from detkit.structures import IGNORE, Frame

SIZE = 96
RANDOM = {
    "detection": {"short_side": 80, "long_side": None, "scale": [0.6, 1.5], "crop": 64},
    "segmentation": {"short_side": 80, "scale": [0.6, 1.5], "crop": 64, "quarter_turns": 0.5},
    "square": {"long_side": 64, "jitter": 0.3},
    "ssd": {"long_side": 64, "canvas": 2.0},
}


@pytest.fixture(scope="module")
def records():
    return read(None, "train", needs=frozenset({"boxes"}), images=True, train_images=12, size=SIZE)


def scene(records, i, height=SIZE):
    """Whole rectangles, one class each: thin tips of stars can fall between the picked pixels."""
    boxes = np.minimum(records.annotation(i).boxes, [SIZE, height] * 2).astype(int)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    masks = np.zeros((len(boxes), height, SIZE), bool)
    pixels = np.zeros((height, SIZE), np.uint8)
    for label, (x0, y0, x1, y1) in enumerate(boxes):
        masks[label, y0:y1, x0:x1] = True
        pixels[y0:y1, x0:x1] = label + 1
    return records.image(i)[:height], annotation(boxes), masks, pixels


def annotation(boxes, **given):
    n = len(boxes)
    values = {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.arange(n),
        "crowd": np.zeros(n, bool),
        "difficult": np.zeros(n, bool),
        "areas": np.zeros(n),
    }
    return Annotation(**{**values, **given})


def whole(name, **given):
    return build({"name": name, **given}, train=False)


def extents(masks):
    rows = []
    for mask in np.asarray(masks):
        y, x = np.nonzero(mask)
        rows.append([x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0])
    return np.array(rows, np.float64).reshape(-1, 4)


@given(height=st.integers(20, 600), width=st.integers(20, 600))
@settings(max_examples=25, deadline=None)
def test_sizes_follow_torchvision_within_its_rounding_down(height, width):
    from torchvision.models.detection.transform import _resize_image_and_masks

    image = torch.zeros(3, height, width)
    theirs = _resize_image_and_masks(image, 300.0, 500.0)[0].shape[1:]
    ours = whole("detection", short_side=300, long_side=500).sizes(height, width)
    assert max(abs(ours[0] - theirs[0]), abs(ours[1] - theirs[1])) <= 1
    assert max(ours) <= 500


def test_a_square_without_a_side_is_as_large_as_each_image():
    image = np.full((30, 70, 3), 9, np.uint8)
    for letterbox, content in ((True, (30, 70)), (False, (70, 70))):
        sample = whole("square", long_side=None, letterbox=letterbox)(image)
        assert sample.image.shape == (70, 70, 3)
        assert sample.resized == content


def test_every_preset_for_objects_takes_short_and_long_side():
    for name in set(transforms.names()) - {"classification", "digits", "darknet", "stretched"}:
        assert whole(name, short_side=60, long_side=96).sizes(240, 300) == (60, 75)
        assert whole(name, short_side=60, long_side=96).sizes(100, 400) == (24, 96)


@pytest.mark.parametrize("name", ["detection", "segmentation"])
def test_without_a_short_side_the_file_keeps_its_size_up_to_the_limit(name):
    assert whole(name, short_side=None, long_side=None).sizes(5000, 31) == (5000, 31)
    assert whole(name, short_side=None, long_side=500).sizes(400, 300) == (400, 300)
    assert whole(name, short_side=None, long_side=500).sizes(1000, 600) == (500, 300)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("detection", {"short_side": 61, "long_side": 300}),
        ("segmentation", {"short_side": 144, "long_side": None}),
        ("square", {"long_side": 80}),
        ("square", {"short_side": 40, "long_side": 80}),
        ("square", {"long_side": 80, "letterbox": False}),
    ],
)
def test_resized_boxes_stay_on_their_masks_and_the_frame_leads_back(records, name, given):
    transform = whole(name, **given)
    for i in range(len(records)):
        image, there, masks, pixels = scene(records, i, height=70)
        sample = transform(image, there, masks, pixels)
        assert len(sample.targets) == len(masks)
        difference = np.abs(extents(sample.targets.masks) - sample.targets.boxes.numpy())
        assert difference.max(initial=0) <= 1  # a mask has whole pixels
        frame = Frame(0, 0, "", (70, SIZE), sample.resized, sample.top, sample.left)
        back = frame.boxes_to_image(sample.targets.boxes)
        np.testing.assert_allclose(back, there.boxes, atol=1e-3)


def test_the_frame_holds_where_the_content_lies():
    """A 60 × 120 picture on a square of 100: 50 × 100, 25 rows of fill above and below."""
    image = np.full((60, 120, 3), 255, np.uint8)
    sample = whole("square", long_side=100)(image, pixels=np.zeros((60, 120), np.uint8))
    assert (sample.resized, sample.top, sample.left) == ((50, 100), 25, 0)
    content = (sample.image == 255).all(2)
    assert content[25:75].all()
    assert not content[:25].any()
    assert not content[75:].any()
    np.testing.assert_array_equal(sample.targets.pixels == IGNORE, ~content)


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_random_changes_move_boxes_masks_and_pixels_together(records, name):
    """A box that no edge cuts is still the extent of its mask, to the grain of the pixels."""
    transform = build({"name": name, **RANDOM[name]}, train=True)
    compared = 0
    for i in range(len(records)):
        for epoch in range(4):
            sample = transform(*scene(records, i), seed=(0, epoch, i))
            targets, (height, width) = sample.targets, sample.image.shape[:2]
            boxes = targets.boxes.numpy()
            assert (boxes >= 0).all()
            assert (boxes <= [width, height, width, height]).all()
            inside = ((boxes > 1) & (boxes < np.array([width, height] * 2) - 1)).all(1)
            difference = np.abs(extents(targets.masks) - boxes)[inside]
            assert difference.max(initial=0) <= 1
            compared += inside.sum()
            known = torch.cat([targets.labels + 1, torch.tensor([0, IGNORE])])
            # where one object is seen, and none that was dropped from the targets
            alone = (targets.masks.sum(0) == 1) & torch.isin(targets.pixels, known)
            for label, mask in zip(targets.labels, targets.masks, strict=True):
                seen = targets.pixels[mask & alone]
                assert (seen == label + 1).sum() >= 0.98 * len(seen)
    assert compared > 50


def test_random_changes_reach_over_the_range_that_is_asked_for():
    image = np.full((100, 100, 3), (200, 100, 50), np.uint8)
    box = annotation([[40, 40, 60, 60]])
    plain = {"short_side": None, "long_side": None, "flip": 0.0}
    scaled = build({"name": "detection", **plain, "scale": [0.5, 2.0]}, True)
    sides = [scaled(image, seed=(0, 0, i)).resized[0] for i in range(200)]
    assert 50 <= min(sides) <= 53
    assert 190 <= max(sides) <= 200
    assert 90 <= np.median(sides) <= 110  # as often smaller as larger

    jitter = build({"name": "square", **plain, "jitter": 0.2, "colour": 0.0}, True)
    moved = [jitter(image, box, seed=(0, 0, i)).targets.boxes[0].numpy() for i in range(200)]
    low, high = np.array(moved)[:, :2], np.array(moved)[:, 2:]
    zoom, shift = (high - low) / 20, (low + high) / 2 - 50
    for each, middle in ((zoom, 1.0), (shift / 100, 0.0)):
        assert (abs(each - middle) <= 0.201).all()
        assert (abs(each - middle).max(0) >= 0.19).all()
        assert abs(np.corrcoef(each.T)[0, 1]) < 0.25  # across and down apart

    coloured = build({"name": "square", **plain, "jitter": 0.0, "colour": 0.5}, True)
    means = np.array([coloured(image, seed=(0, 0, i)).image.mean((0, 1)) for i in range(100)])
    assert (means.std(0) > 0.1 * image[0, 0]).all()


def test_elastic_shifts_deviate_by_what_is_asked_for():
    """A ramp tells where each pixel came from."""
    ramp = np.arange(256, dtype=np.float32) / 256
    image = np.stack([*np.meshgrid(ramp, ramp), np.zeros((256, 256), np.float32)], axis=2)
    settings = {"name": "segmentation", "short_side": None, "elastic": 5.0, "flip": 0.0}
    transform = build(settings, True)
    inner = slice(40, -40)
    shifts = [(transform(image, seed=(0, 0, i)).image - image)[inner, inner, :2] for i in range(8)]
    assert np.sqrt(np.mean(np.square(shifts))) * 256 == pytest.approx(5, rel=0.15)


def test_a_flip_is_the_mirror_image(records):
    transform = build({"name": "detection", "short_side": None, "flip": 1.0}, train=True)
    image, masks, pixels = records.image(0), records.masks(0), records.pixels(0)
    sample = transform(image, records.annotation(0), masks, pixels, seed=(1, 2, 3))
    np.testing.assert_array_equal(sample.image, image[:, ::-1])
    np.testing.assert_array_equal(sample.targets.masks, masks[:, :, ::-1])
    np.testing.assert_array_equal(sample.targets.pixels, pixels[:, ::-1])
    np.testing.assert_allclose(sample.targets.boxes, extents(masks[:, :, ::-1]), atol=1e-4)


def test_two_coins_fall_apart():
    """Albumentations' own seeding gives every step the same numbers, so both flips or none."""
    transform = build({"name": "detection", "vertical_flip": 0.5, "short_side": None}, train=True)
    image = np.zeros((8, 8, 3), np.uint8)
    image[0, 0], image[0, 7], image[7, 0], image[7, 7] = 1, 2, 3, 4
    corners = [transform(image, seed=(0, 0, i)).image[0, 0, 0] for i in range(200)]
    assert (np.bincount(corners, minlength=5)[1:] > 30).all()


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_a_sample_depends_on_its_seed_alone(records, name):
    settings = {"name": name, **RANDOM[name], "colour": 0.5}
    one, other = build(settings, train=True), build(settings, train=True)
    for epoch in range(3):  # moves the state of the other
        other(records.image(0), records.annotation(0), seed=(5, epoch, 0))
    first, again, later = (
        t(records.image(1), records.annotation(1), seed=(5, e, 1))
        for t, e in ((one, 0), (other, 0), (one, 1))
    )
    np.testing.assert_array_equal(first.image, again.image)
    assert torch.equal(first.targets.boxes, again.targets.boxes)
    assert not np.array_equal(first.image, later.image)


def test_training_does_not_touch_the_global_random_state(records):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    build({"name": "square", "long_side": 64}, train=True)(records.image(0), seed=(0, 0, 0))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_without_training_nothing_is_random(records):
    for name in transforms.names():
        one, two = (whole(name)(records.image(0), seed=(s,)).image for s in (1, 2))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", sorted(RANDOM))
def test_boxes_without_extent_or_outside_are_left_out_and_not_raised(name, train):
    boxes = [[10, 10, 10, 30], [20, 30, 40, 20], [-50, -50, -10, -10], [30, 30, 70, 70]]
    masks = np.ones((4, SIZE, SIZE), bool)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    sample = build({"name": name}, train)(image, annotation(boxes), masks)
    assert sample.targets.labels.tolist() == [3]
    assert len(sample.targets.masks) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", sorted(RANDOM))
def test_an_image_without_objects_passes_in_both_depths(name, dtype):
    image = np.full((50, 70, 3), 0.5 if dtype == np.float32 else 128).astype(dtype)
    nothing = np.zeros((0, 50, 70), bool)
    settings = {"name": name, **RANDOM[name], "colour": 0.3}
    sample = build(settings, True)(image, annotation([]), nothing, seed=(0, 0, 0))
    assert sample.image.dtype == dtype
    assert sample.image.max() <= (1 if dtype == np.float32 else 255)
    assert sample.targets.boxes.shape == (0, 4)
    assert sample.targets.masks.shape == (0, *sample.image.shape[:2])


def test_flags_stay_with_their_objects_when_a_crop_drops_some():
    boxes = [[x, y, x + 10, y + 10] for x in range(0, 90, 12) for y in range(0, 90, 12)]
    n = len(boxes)
    crowd, difficult = np.arange(n) % 2 == 0, np.arange(n) % 3 == 0
    given = annotation(boxes, crowd=crowd, difficult=difficult)
    settings = {"name": "detection", "short_side": None, "crop": 40, "flip": 0.0}
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    targets = build(settings, True)(image, given, seed=(0, 0, 0)).targets
    assert 0 < len(targets) < n
    np.testing.assert_array_equal(targets.crowd, crowd[targets.labels])
    np.testing.assert_array_equal(targets.difficult, difficult[targets.labels])


def test_a_crowd_stays_however_little_of_it_a_crop_leaves():
    """Else what is left of it would be background. The other object goes by the usual rule."""
    given = annotation([[0, 0, 400, 400], [0, 0, 400, 400]], crowd=np.array([True, False]))
    settings = {"name": "detection", "short_side": None, "crop": 128, "flip": 0.5}
    image = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    sample = build(settings, True)(image, given, seed=(0, 0, 0))
    assert sample.targets.boxes.tolist() == [[0, 0, 128, 128]]
    assert sample.targets.crowd.tolist() == [True]


def test_a_crowd_is_cut_where_the_other_objects_are():
    boxes = [[x, x, x + 30, x + 30] for x in range(0, 90, 6)] * 2
    n = len(boxes)
    settings = {"name": "detection", "short_side": None, "crop": 50, "min_visibility": 1e-9}
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    transform = build(settings, True)
    for epoch in range(5):
        flags = np.arange(n) >= n // 2
        targets = transform(image, annotation(boxes, crowd=flags), seed=(0, epoch, 0)).targets
        half = len(targets) // 2
        torch.testing.assert_close(targets.boxes[:half], targets.boxes[half:])
        assert targets.crowd.tolist() == [False] * half + [True] * half


def test_objects_that_a_crop_leaves_too_little_of_are_dropped():
    """Of sixteen columns 4 pixels wide, a crop of 32 at a whole offset shows some in part."""
    boxes = [[x, 0, x + 8, 64] for x in range(0, 64, 8)]
    image = np.zeros((64, 64, 3), np.uint8)
    for least in (0.0, 0.6):
        settings = {"name": "detection", "short_side": None, "crop": 32, "flip": 0.0}
        transform = build({**settings, "min_visibility": least}, True)
        widths = [
            width
            for epoch in range(30)
            for width in np.diff(
                transform(image, annotation(boxes), seed=(0, epoch, 0)).targets.boxes[:, [0, 2]]
            ).ravel()
        ]
        # a column keeps half of its 64 rows in any crop, so 0.6 leaves none and 0 leaves all
        assert (len(widths) > 0) == (least == 0.0)


def test_shrinking_averages_instead_of_picking():
    """A fine chessboard becomes grey; picked pixels would be black or white."""
    board = (np.indices((120, 120)).sum(0) % 2 * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, 2)
    small = whole("detection", short_side=40, long_side=None)(image).image
    assert abs(int(small.min()) - 127) < 20
    assert abs(int(small.max()) - 127) < 20


def test_pixel_classes_are_picked_never_mixed():
    pixels = np.random.default_rng(0).choice([0, 7, 255], (50, 80)).astype(np.uint8)
    image = np.zeros((50, 80, 3), np.uint8)
    for train in (False, True):
        settings = {"name": "segmentation", "short_side": 33, "elastic": 5.0 * train}
        found = build(settings, train)(image, pixels=pixels, seed=(0, 0, 0)).targets.pixels
        assert set(found.unique().tolist()) <= {0, 7, 255}


def test_nearest_takes_the_value_under_the_centre_as_opencv_does():
    labels = np.random.default_rng(0).integers(0, 9, (31, 47)).astype(np.uint8)
    ours = whole("segmentation", short_side=20)(np.zeros((31, 47, 3), np.uint8), pixels=labels)
    h, w = ours.resized
    theirs = cv2.resize(labels, (w, h), interpolation=cv2.INTER_NEAREST_EXACT)
    assert (ours.targets.pixels.numpy() == theirs).mean() > 0.98  # it computes in fixed point


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "detektion"}, "Did you mean detection"),
        ({"name": "detection", "short_sid": 3}, "Did you mean short_side"),
        ({"name": "detection", "flip": 1.5}, "flip is 1.5"),
        ({"name": "detection", "short_side": 0}, "short_side is 0"),
        ({"name": "segmentation", "scale": [2, 1]}, "scale is"),
        ({"name": "segmentation", "elastic": -1.0}, "elastic is"),
        ({"name": "square", "long_side": -5}, "long_side is -5"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(DetkitError, match=message):
        build(settings, train=True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"min_visibility": 25}, "min_visibility is 25"),
        ({"letterbox": False, "short_side": 9}, "short_side"),
    ],
)
def test_square_refuses_what_cannot_be(given, told):
    with pytest.raises(DetkitError, match=told):
        build({"name": "square", **given}, train=True)


def test_a_fixed_scale_is_a_scale():
    image = np.zeros((40, 60, 3), np.uint8)
    given = {"name": "detection", "short_side": None, "long_side": None, "scale": [2, 2], "flip": 0}
    assert build(given, train=True)(image).image.shape == (80, 120, 3)


def test_what_surrounds_a_16_bit_image_is_a_share_of_1():
    sample = whole("square", long_side=64)(np.ones((20, 40, 3), np.float32))
    assert sample.image[0, 0].tolist() == pytest.approx([124 / 255, 116 / 255, 104 / 255])


DIGITS = {"name": "classification", "side": 28, "resize": None, "flip": 0.0}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", transforms.names())
def test_images_of_one_and_three_channels_pass_every_preset(name, train, channels, dtype):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, channels)).astype(dtype)
    image = image / dtype(255) if dtype == np.float32 else image
    given = {"classification": {"side": 32, "resize": 40, "jitter": 0.1, "vertical_flip": 0.5}}
    preset = {"name": name, "colour": 1.0, **given.get(name, RANDOM.get(name, {}))}
    sample = build(preset, train)(image, annotation([[10, 10, 50, 50]], image_label=2), seed=(1,))
    assert sample.image.dtype == dtype
    assert sample.image.ndim == 3
    assert sample.image.shape[2] == channels
    assert sample.targets.image_label == 2
    loaded = sample.loaded(0, 0, "", (60, 90)).image
    assert loaded.shape == (channels, *sample.image.shape[:2])


@pytest.mark.parametrize(("height", "width"), [(40, 80), (81, 40), (40, 40), (57, 33)])
def test_the_centre_is_cut_out_and_the_frame_leads_back(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    middle = [[width / 2 - 9, height / 2 - 9, width / 2 + 8, height / 2 + 5], [0, 0, 2, 2]]
    pixels = np.arange(height * width).reshape(height, width) % 200
    sample = whole("classification", side=32, resize=40)(
        image, annotation(middle), masks=np.stack([pixels > 99] * 2), pixels=pixels.astype(np.uint8)
    )
    h, w = sample.resized
    assert min(h, w) == 40
    assert sample.image.shape == (32, 32, 3)
    assert sample.top == -((h - 32 + 1) // 2)
    assert sample.left == -((w - 32 + 1) // 2)
    alone = whole("detection", short_side=40, long_side=None)(image, pixels=pixels.astype(np.uint8))
    rows, columns = slice(-sample.top, 32 - sample.top), slice(-sample.left, 32 - sample.left)
    assert np.array_equal(sample.image, alone.image[rows, columns])
    assert torch.equal(sample.targets.pixels, alone.targets.pixels[rows, columns])
    assert sample.targets.labels.tolist() == [0]  # what lies in the corner is cut off
    assert sample.targets.masks.shape == (1, 32, 32)
    frame = sample.loaded(0, 0, "", (height, width)).frame
    back = frame.boxes_to_image(sample.targets.boxes)
    assert torch.allclose(back, torch.tensor(middle[:1]), atol=1e-4)
    with pytest.raises(DetkitError, match="did not see the edges"):
        frame.labels_to_image(torch.zeros(2, 32, 32))


def test_a_long_side_is_stretched_only_without_resize():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 30:] = 255
    stretched = whole("classification", side=28, resize=None)(image).image
    assert stretched.shape == (28, 28, 3)
    assert stretched[:, :14].max() == 0
    assert stretched[:, 14:].min() == 255


def test_random_parts_have_the_area_and_the_sides_that_are_asked_for():
    height, width = 120, 200
    y, x = np.mgrid[:height, :width]
    image = np.stack([y, x, 0 * x], 2).astype(np.uint8)  # each pixel says where it was
    crop = build(
        {"name": "classification", "side": 32, "resize": 40, "scale": [0.2, 0.6], "flip": 0.0}, True
    )
    shares, ratios = [], []
    for n in range(200):
        part = crop(image, seed=(n,)).image.astype(float)
        h, w = (np.ptp(part[..., c]) * 32 / 31 for c in (0, 1))  # between the outermost centres
        shares.append(h * w / (height * width))
        ratios.append(w / h)
    assert 0.18 < min(shares) < 0.25 < 0.5 < max(shares) < 0.63
    assert 0.7 < min(ratios) < 0.85 < 1.2 < max(ratios) < 1.4


def test_digits_are_shifted_and_turned_by_what_is_asked_for():
    image = np.zeros((101, 101, 1), np.uint8)
    image[40:61, 49:52] = 255  # an upright stroke through the middle
    change = build({**DIGITS, "side": 101, "jitter": 0.1}, True)
    shifts, turns = [], []
    for n in range(200):
        out = change(image, seed=(n,)).image[..., 0].astype(float)
        y, x = np.nonzero(out > 127)
        shifts.append([(x.mean() - 50) / 101, (y.mean() - 50) / 101])
        turns.append(np.arctan(np.polyfit(y, x, 1)[0]))
    assert 0.08 < np.abs(shifts).max() < 0.106
    assert 0.08 < np.abs(turns).max() < 0.13


def test_what_comes_in_beside_a_digit_is_as_its_edge():
    change = build({**DIGITS, "jitter": 0.3}, True)
    for value in (0, 255):
        image = np.full((28, 28, 1), value, np.uint8)
        assert all((change(image, seed=(n,)).image == value).all() for n in range(20))


def test_digits_without_random_changes_are_what_they_were():
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 1)).astype(np.uint8)
    for train in (True, False):
        transform = build(DIGITS, train)
        assert transform.steps is None
        assert transform.multiple == 1
        assert np.array_equal(transform(image, seed=(4,)).image, image)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"side": 32}, r"resize is 256.*\n.*usual: 36"),
        ({"resize": 200}, "resize is 200"),
        ({"scale": [0.1, 2.0]}, "shares of the picture"),
        ({"jitter": 1.5}, "jitter is 1.5"),
        ({"side": 0}, "side is 0"),
    ],
)
def test_a_classifiers_settings_that_cannot_be_are_named(given, message):
    with pytest.raises(DetkitError, match=message):
        build({"name": "classification", **given}, train=True)
