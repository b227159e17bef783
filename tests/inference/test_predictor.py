"""`detkit.load(path)(pictures)`: what goes in, what comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import detkit
from detkit import checkpoint
from detkit.errors import DetkitError
from detkit.inference.predictor import as_rgb
from detkit.inference.sources import Source
from detkit.models.build import build
from detkit.structures import Classes


@pytest.fixture
def run_folder(tmp_path):
    """A run folder with a small Faster R-CNN of random weights."""
    config = {
        "model": {"name": "faster_rcnn", "score_thresh": 0.0},
        "backbone": {"name": "resnet18_fpn", "width": 0.125, "fpn_channels": 16},
        "transforms": {"name": "detection", "short_side": 96, "long_side": 160},
    }
    torch.manual_seed(0)
    model = build(config["model"], {**config["backbone"], "weights": "none"}, Classes.numbered(3))
    names = ["bird", "cat", "dog"]
    meta = {"config": config, "names": names, "category_ids": [1, 2, 3]}
    checkpoint.save(tmp_path / "run" / "best", model.state_dict(), meta)
    return tmp_path / "run"


def test_a_run_folder_predicts_in_pixels_of_the_file(run_folder, shared):
    predictor = detkit.load(run_folder, device="cpu", score_thresh=0.0)
    found = predictor(shared / "bccd" / "JPEGImages" / "BloodImage_00000.jpg")
    assert len(found) > 10
    assert found.names == ("bird", "cat", "dog")
    assert found.boxes[:, 2].max() > 320  # of 640: not pixels of the network's 160
    assert (found.boxes <= torch.tensor([640, 480, 640, 480])).all()
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert len(detkit.load(run_folder, "cpu", score_thresh=1)(np.zeros((9, 9, 3), np.uint8))) == 0


def test_the_module_is_the_checkpoints(run_folder):
    predictor = detkit.load(run_folder / "best" / "model.safetensors", device="cpu")
    saved = checkpoint.read_tensors(run_folder / "best" / "model.safetensors")
    ours = predictor.model.state_dict()
    assert saved.keys() == ours.keys()
    assert all(torch.equal(saved[key], ours[key]) for key in saved)


def test_every_kind_of_picture_gives_the_same(predictor_of, detector, tmp_path):
    predictor = predictor_of(detector)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    path = tmp_path / "it's.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    kinds = [pixels, tensor, Image.fromarray(pixels), path, str(path)]
    one_by_one, at_once = [predictor(kind) for kind in kinds], predictor(kinds, batch_size=2)
    assert len(at_once) == len(kinds)
    for found in [*one_by_one, *at_once]:
        assert torch.equal(found.boxes, one_by_one[0].boxes)
        assert torch.allclose(found.scores, one_by_one[0].scores, atol=1e-6)
    assert one_by_one[0].boxes[0].tolist() == [0, 0, 20, 15]


def test_a_list_gives_a_list_in_its_order(predictor_of, detector):
    grey = [np.full((10, 10), value, np.uint8) for value in (51, 204, 102)]
    found = predictor_of(detector)(grey, batch_size=2)
    assert [round(float(f.scores[0]), 2) for f in found] == [0.2, 0.8, 0.4]
    assert predictor_of(detector)([]) == []


def test_detections_below_the_threshold_are_left_out(predictor_of, detector):
    picture = np.full((10, 10, 3), 204, np.uint8)  # scores 0.8 and 0.4
    assert len(predictor_of(detector, 0.3)(picture)) == 2
    assert predictor_of(detector, 0.5)(picture).scores.tolist() == pytest.approx([0.8])


def test_a_pixel_model_gives_the_class_of_each_pixel(predictor_of, segmenter):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :15, 0] = picture[:, 15:, 1] = 200
    found = predictor_of(segmenter)(picture)
    assert found.labels.shape == (20, 30)
    assert found.labels[:, :13].eq(0).all()
    assert found.labels[:, 17:].eq(1).all()
    assert len(found.names) == 2


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (np.zeros((5, 5, 3), np.float32), r"float32 array of \(5, 5, 3\).*\n.*255 \* image"),
        (np.zeros((5, 5, 3), np.uint16), "uint16"),
        (np.zeros((5, 5, 4), np.uint8), r"image\[\.\.\., :3\]"),
        (np.zeros((3, 5, 5), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 5, 5, 3), np.uint8), "2, 5, 5, 3"),
        (np.zeros((0, 5, 3), np.uint8), "0, 5, 3"),
        (torch.zeros(3, 5, 5), "float32 tensor"),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), "3, 0, 5"),
        (Image.new("RGB", (0, 5)), "0x5"),
        (torch.zeros(2, 3, 5, 5, dtype=torch.uint8), r"list\(tensor\)"),
        (Image.new("F", (5, 5)), "mode F"),
        (Image.new("I;16", (5, 5)), "mode I;16"),
        (None, "NoneType is not a picture"),
        ({"a": 1}, "dict is not a picture"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_remedy(picture, told):
    with pytest.raises(DetkitError, match=told):
        as_rgb(picture)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_no_pictures_is_refused(predictor_of, detector, size):
    picture = np.zeros((5, 5, 3), np.uint8)
    for pictures in (picture, [picture] * 3):
        with pytest.raises(DetkitError, match=f"batch_size is {size}"):
            predictor_of(detector)(pictures, batch_size=size)


def test_a_truncated_pillow_image_is_refused_by_name(predictor_of, detector, shared):
    for name in ("truncated.jpg", "truncated.png"):
        with pytest.raises(DetkitError, match=rf"{name}.*cannot be decoded"):
            predictor_of(detector)(Image.open(shared / "photos" / name))


def test_a_prediction_is_drawn_on_whatever_the_predictor_takes(predictor_of, detector, shared):
    path = shared / "photos" / "grey.jpg"
    pixels = np.asarray(Image.open(path))
    found = predictor_of(detector)(path)
    drawn = found.draw(np.repeat(pixels[..., None], 3, 2))
    assert np.array_equal(found.draw(pixels), drawn)
    for picture in (path, str(path), Image.open(path)):
        assert np.abs(found.draw(picture).astype(int) - drawn).max() <= 3  # two JPEG decoders
    deep = found.draw(shared / "photos" / "rgb_16bit.png")
    assert deep.dtype == np.uint8
    assert 10 < deep.mean() < 245
    with pytest.raises(DetkitError, match=r"truncated\.jpg"):
        found.draw(shared / "photos" / "truncated.jpg")


def test_a_missing_file_is_named(predictor_of, detector):
    with pytest.raises(DetkitError, match="absent\\.jpg"):
        predictor_of(detector)("absent.jpg")
    with pytest.raises(DetkitError, match="home folder of ~nobody-of-this-name"):
        predictor_of(detector)("~nobody-of-this-name/a.jpg")


def test_pillow_images_are_turned_upright_and_laid_on_white(shared):
    from detkit.data import images

    for name in ("exif_orientation_6.jpg", "rgba.png", "palette_transparent.png", "grey.jpg"):
        path = shared / "photos" / name
        difference = as_rgb(Image.open(path)).astype(int) - images.read(path)
        assert np.abs(difference).max() <= 3, name  # two JPEG decoders


def test_a_stream_of_unlike_pictures_goes_through_in_batches(predictor_of, detector, shared):
    source = Source(shared / "photos")
    chunks = list(predictor_of(detector).batches(source.pictures(), batch_size=5))
    assert [len(pictures) for pictures, _ in chunks] == [5] * 6 + [2]
    for pictures, found in chunks:
        for picture, one in zip(pictures, found, strict=True):
            height, width = picture.image.shape[:2]
            assert one.boxes[0].tolist() == pytest.approx([0, 0, width / 2, height / 2], rel=0.02)


def test_a_stream_gives_each_picture_with_what_is_found(run_folder, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 50, 3), 60 * i, np.uint8)).save(tmp_path / f"in/{i}.png")
    predictor = detkit.load(run_folder, "cpu")
    found = predictor.stream(tmp_path / "in", batch_size=2)
    first = next(found)  # a generator: nothing else was read yet
    assert first.picture.shape == (40, 50, 3)
    assert [int(one.picture.max()) for one in found] == [60, 120]
    assert predictor(tmp_path / "in/1.png").picture == tmp_path / "in/1.png"
