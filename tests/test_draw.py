"""Pictures: what is drawn lies where it should, and nothing else changes."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit import draw, lettering
from detkit.data import images
from detkit.errors import DetkitError
from detkit.predictions import Detections, Segmentation

NAMES = ("cat", "dog", "été", "車")


def detections(boxes, labels=None, names=NAMES, masks=None):
    n = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.1, n) if n else torch.zeros(0),
        labels=torch.tensor(labels if labels is not None else [0] * n, dtype=torch.int64),
        names=names,
        masks=masks,
    )


def grey(height=200, width=300):
    return np.full((height, width, 3), 128, np.uint8)


def is_colour(picture, label):
    return (picture == draw.colour(label)).all(-1)


def test_the_outline_covers_the_first_and_the_last_pixels_of_the_box():
    picture = draw.draw_boxes(grey(), detections([[50, 80, 150, 160]], [1]))
    outline = is_colour(picture, 1)
    assert outline[80:160, 50].all()
    assert outline[80:160, 149].all()
    assert outline[159, 50:150].all()
    assert not outline[81:159, 51:149].any()  # one pixel thick on a picture of this size
    assert not outline[160:].any()
    assert not outline[:, 150:].any()


def test_the_picture_handed_in_stays_as_it_was_and_no_box_changes_nothing():
    image = grey()
    image.setflags(write=False)
    picture = draw.draw_boxes(image, detections([[50, 80, 150, 160]]))
    assert (image == 128).all()
    assert not np.array_equal(picture, image)
    np.testing.assert_array_equal(draw.draw_boxes(image, detections([])), image)


@given(
    corners=st.lists(st.floats(-1000, 1000), min_size=4, max_size=4),
    size=st.tuples(st.integers(1, 60), st.integers(1, 90)),
    label=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_any_box_on_any_picture_is_drawn_without_an_error(corners, size, label):
    picture = draw.draw_boxes(grey(*size), detections([corners], [label]))
    assert picture.shape == (*size, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("box", [[0, 0, 40, 30], [280, 0, 300, 20], [250, 190, 300, 200]])
def test_labels_stay_inside_the_picture(box):
    """The whole strip is there, wherever the box is: as many pixels as in the middle."""
    middle = draw.draw_boxes(grey(), detections([[100, 100, 100 + box[2] - box[0], 150]], [3]))
    strip = changed(middle[:100])
    height, width = (np.ptp(axis) + 1 for axis in np.nonzero(strip))
    _, label_height, _ = lettering.extent("車 0.90", lettering.font_size(np.sqrt(200 * 300)))
    assert height == label_height
    edge = changed(draw.draw_boxes(grey(), detections([box], [3])))
    assert edge.sum() >= 0.95 * height * width


def changed(picture):
    return (picture != 128).any(-1)


def test_the_best_box_lies_on_top():
    boxes = [[20, 50, 120, 150]] * 2
    picture = draw.draw_boxes(grey(), detections(boxes, [1, 2]))  # scores 0.9 and 0.1
    assert is_colour(picture, 1)[150 - 1, 20:120].all()


def test_names_that_are_not_ascii_give_letters_and_not_question_marks():
    """Each name's strip differs from that of the same number of question marks."""
    if not hasattr(cv2, "FontFace"):
        pytest.skip("OpenCV 4 draws ASCII only")
    box = [[20, 50, 120, 150]]
    question = draw.draw_boxes(grey(), detections(box, names=("???",)))
    for name in ("été", "кот", "자동차", "日本語"):
        assert not np.array_equal(draw.draw_boxes(grey(), detections(box, names=(name,))), question)


def test_opencv_4_without_its_fonts_still_labels(monkeypatch):
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    lettering.extent.cache_clear()
    try:
        picture = draw.draw_boxes(grey(), detections([[20, 50, 120, 150]]))
        assert changed(picture[:50]).any()
        letters = changed(picture) & ~is_colour(picture, 0)
        assert letters[:50].sum() > 30
    finally:
        lettering.extent.cache_clear()


def test_colours_of_classes_are_stable_and_apart():
    colours = [draw.colour(label) for label in range(20)]
    assert colours == [draw.colour(label) for label in range(20)]
    lab = cv2.cvtColor(np.array([colours], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)]
    assert min(distances) > 35  # 2.3 can just be told apart
    assert len({draw.colour(label) for label in range(256)}) == 256


def test_masks_are_laid_over_at_40_percent_only_where_they_are():
    masks = torch.zeros(1, 200, 300, dtype=torch.bool)
    masks[0, 100:150, 60:100] = True
    box = [[50, 80, 150, 160]]
    picture = draw.draw_boxes(grey(), detections(box, [1], masks=masks))
    plain = draw.draw_boxes(grey(), detections(box, [1]))
    expected = 0.6 * 128 + 0.4 * np.array(draw.colour(1))
    assert np.abs(picture[120, 80] - expected).max() <= 0.5
    np.testing.assert_array_equal((picture != plain).any(-1), masks[0].numpy())


def test_pixel_classes_are_mixed_half_and_half_background_and_void_stay_clear():
    labels = np.zeros((200, 300), np.uint8)
    labels[100:150, 100:200] = 2
    labels[180:, 280:] = 255
    picture = draw.draw_pixels(grey(), labels, ("background", "cat", "dog"))
    mixed = (128 + np.array(draw.colour(2))) / 2
    assert np.abs(picture[100:150, 100:200] - mixed).max() <= 1
    labels[:60, :60] = 2  # where the legend is
    assert (picture[labels != 2] == 128).all()
    legend = picture[:60, :60]
    assert is_colour(legend, 2).any()
    without = draw.draw_pixels(grey(), np.full((200, 300), 255, np.uint8), ("a",))
    assert (without == 128).all()


def test_classes_of_a_picture_of_another_size_are_refused_with_both_sizes():
    with pytest.raises(DetkitError, match="300x100, this one is 300x200"):
        draw.draw_pixels(grey(), np.zeros((100, 300), np.uint8), ("a",))


def test_structures_draw_through_this_room():
    logits = torch.zeros(3, 200, 300)
    logits[1, 100:] = 1
    picture = Segmentation(logits, ("background", "cat", "dog")).draw(grey())
    assert changed(picture[100:]).all()
    box = detections([[50, 80, 150, 160]])
    np.testing.assert_array_equal(box.draw(grey()), draw.draw_boxes(grey(), box))


def test_float_pictures_of_16_bit_files_are_drawn_on_too():
    picture = draw.draw_boxes(np.full((40, 50, 3), 0.5, np.float32), detections([]))
    assert picture.dtype == np.uint8
    assert (picture == 128).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_pictures_of_an_unknown_range_are_refused_instead_of_drawn_white(dtype):
    for found in (detections([]), Segmentation(torch.zeros(2, 200, 300))):
        with pytest.raises(DetkitError, match=f"{np.dtype(dtype)} array"):
            found.draw(grey().astype(dtype))


def test_grey_arrays_and_tensors_are_drawn_on_and_what_is_no_picture_is_not():
    box = detections([[50, 80, 150, 160]])
    expected = draw.draw_boxes(grey(), box)
    for picture in (grey()[..., 0], torch.from_numpy(grey()).permute(2, 0, 1)):
        np.testing.assert_array_equal(box.draw(picture), expected)
    for picture in (None, np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 4), np.uint8)):
        with pytest.raises(DetkitError, match="is not a picture"):
            box.draw(picture)


@pytest.mark.parametrize("name", ["a.png", "été (1).png", "sub/b.png", "x.jpg"])
def test_a_saved_picture_reads_back_and_leaves_nothing_else(tmp_path, name):
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    picture = np.stack([ramp, ramp.T, np.full_like(ramp, 200)], 2)
    path = draw.save_image(tmp_path / name, picture)
    found = images.read(path).astype(int)
    assert np.abs(found - picture).mean() < (3 if name.endswith("jpg") else 1e-9)
    assert [p.name for p in path.parent.iterdir() if p.is_file()] == [path.name]


def test_a_failed_write_keeps_the_old_picture_and_names_the_file(tmp_path):
    path = draw.save_image(tmp_path / "a.png", grey(8, 8))
    before = path.read_bytes()
    with pytest.raises(DetkitError, match="No image format"):
        draw.save_image(tmp_path / "a.nothing", grey(8, 8))
    with pytest.raises(DetkitError, match=r"a\.png"):
        draw.save_image(path / "a.png", grey(8, 8))  # a file is no folder
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_score_can_be_left_out():
    white = np.full((40, 60, 3), 255, np.uint8)
    one = detections([[5, 15, 50, 35]])
    assert (draw.draw_boxes(white, one) != draw.draw_boxes(white, one, scores=False)).any()


@pytest.mark.parametrize(
    ("names", "clear"),
    [
        (("0", "1"), True),
        (("_Background_", "cell"), True),
        (("7", "0"), False),
        (("0", "cell"), False),
    ],
)
def test_the_first_class_stays_clear_where_it_is_the_background(names, clear):
    picture = draw.draw_pixels(grey(), np.zeros(grey().shape[:2], np.uint8), names)
    assert np.array_equal(picture, grey()) == clear


def test_texts_hide_neither_masks_nor_each_other():
    """Three squares one below the other: only above the first and below the last is room."""
    boxes = [[100, 60, 140, 90], [100, 90, 140, 120], [100, 120, 140, 150]]
    masks = torch.zeros(3, 200, 300, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = True
    picture = draw.draw_boxes(grey(), detections(boxes, [0, 1, 2], masks=masks))
    for label, mask in enumerate(masks):
        tint = 128 * (1 - draw.MASK_OPACITY) + np.array(draw.colour(label)) * draw.MASK_OPACITY
        assert (np.abs(picture[mask.numpy()] - tint) <= 0.5).all()
    size = lettering.font_size(np.sqrt(200 * 300))
    height = lettering.extent("cat 0.90", size)[1]
    assert changed(picture[60 - height : 60]).any()
    assert changed(picture[151 : 151 + height]).any()
    assert not changed(picture[:, :100]).any()
    assert not changed(picture[60:150, 141:]).any()


def test_a_large_mask_has_its_text_inside():
    masks = torch.ones(1, 200, 300, dtype=torch.bool)
    picture = draw.draw_boxes(grey(), detections([[0, 0, 300, 200]], masks=masks))
    strip = is_colour(picture, 0)[2:14, 2:50]
    assert strip.mean() > 0.4


@pytest.mark.parametrize("how", ["meta", "sparse"])
def test_a_tensor_without_its_values_is_no_picture(how):
    picture = torch.zeros(3, 4, 4, dtype=torch.uint8)
    picture = picture.to("meta") if how == "meta" else picture.to_sparse()
    with pytest.raises(DetkitError, match="not a picture") as error:
        draw.as_rgb(picture)
    assert "holds its values" in error.value.remedy


def test_a_name_that_is_no_utf_8_can_be_written():
    assert lettering.lettered("a\udcff", 12).std() > 1
