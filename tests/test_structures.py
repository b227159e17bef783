"""What travels between rooms: there and back, slices, filters."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from detkit.data.loading import _Parcel, collate
from detkit.data.transforms import Loaded
from detkit.errors import DetkitError
from detkit.predictions import Detections, Segmentation
from detkit.structures import Batch, Frame, Targets

FRAME = Frame("a", 0, "a.jpg", original=(200, 100), resized=(100, 50), top=10, left=20)


def some(n: int = 4) -> Detections:
    boxes = torch.arange(4.0 * n).reshape(n, 4)
    scores = torch.linspace(0.9, 0.3, n)
    return Detections(boxes, scores, torch.arange(n) % 2, ("cat", "dog"))


def test_a_box_comes_back_from_the_network_where_it_was():
    there = torch.tensor([[25.0, 20, 50, 100]])  # halved, then 20 to the right and 10 down
    assert FRAME.boxes_to_image(there).tolist() == [[10, 20, 60, 180]]


def test_a_box_in_the_padding_is_cut_at_the_files_image():
    outside = torch.tensor([[0.0, 0.0, 500.0, 500.0]])
    assert FRAME.boxes_to_image(outside).tolist() == [[0, 0, 100, 200]]


def test_what_lies_in_the_padding_alone_is_no_detection_of_the_file():
    boxes = torch.tensor([[0.0, 0, 15, 40], [0, 0, 40, 40]])  # the picture begins at 20
    found = Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 0])).to_image(FRAME)
    assert found.boxes.tolist() == [[0, 0, 40, 60]]
    assert found.labels.tolist() == [0]


def test_a_map_loses_its_padding_on_the_way_back():
    logits = torch.zeros(2, 128, 96)
    logits[1, 10:110, 20:70] = 1.0
    labels = Segmentation(logits).to_image(FRAME).labels
    assert labels.shape == (200, 100)
    assert (labels == 1).all()


def test_a_map_is_resized_as_the_library_does_it_whole():
    generator = torch.Generator().manual_seed(0)
    for height, width in ((200, 100), (37, 53), (1, 1), (130, 7)):
        frame = Frame("a", 0, "a.jpg", (height, width), resized=(48, 40), top=3, left=5)
        logits = torch.randn(4, 64, 64, generator=generator)
        content = logits[None, :, 3:51, 5:45]
        resized = torch.nn.functional.interpolate(content, (height, width), mode="bilinear")[0]
        labels = frame.labels_to_image(logits)
        best = resized.gather(0, labels[None].long())[0]
        assert (resized.amax(0) - best).max() < 1e-4  # rounding may decide a tie


def test_detections_slice_filter_and_iterate():
    found = some()
    assert len(found[1:3]) == 2
    assert found[-1].scores.tolist() == found.scores[-1:].tolist()
    assert [len(one) for one in found] == [1, 1, 1, 1]
    assert found.filter(0.5, ["dog"]).labels.tolist() == [1]
    assert found.filter(classes=[0]).labels.tolist() == [0, 0]
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_a_mask_keeps_what_it_marks_however_it_is_written(kind):
    found = some()
    mask = [False, False, True, True]
    assert torch.equal(found[kind(mask)].scores, found.scores[2:])
    assert torch.equal(found[kind([3, 0])].scores, found.scores[[3, 0]])
    assert len(found[kind([])]) == 0
    assert len(found[np.int64(1)]) == 1


def test_an_unknown_class_is_answered_with_the_nearest():
    with pytest.raises(DetkitError, match="Did you mean dog"):
        some().filter(classes=["dogs"])


def test_coco_records_hold_width_and_height():
    (row,) = some(1).to_coco(7, [3, 5])
    assert row["bbox"] == [0, 1, 2, 2]
    assert row["image_id"] == 7
    assert row["category_id"] == 3


def test_selecting_objects_keeps_what_belongs_to_them():
    targets = Targets(
        torch.rand(3, 4),
        torch.arange(3),
        crowd=torch.tensor([True, False, True]),
        pixels=torch.zeros(5, 5, dtype=torch.uint8),
    )
    kept = targets.select(~targets.crowd)
    assert kept.labels.tolist() == [1]
    assert kept.crowd.tolist() == [False]
    assert kept.pixels is targets.pixels


def test_a_batch_moves_with_its_targets():
    batch = Batch(
        torch.zeros(1, 3, 4, 4), torch.tensor([[4, 4]]), [Targets(torch.rand(1, 4), torch.ones(1))]
    )
    moved = batch.to("meta")
    assert moved.images.device.type == moved.targets[0].boxes.device.type == "meta"
    assert len(moved) == 1


# what every field looks like for two objects on an image of 4 × 6 pixels; a new field joins here
OF_TWO = {
    Targets: {
        "boxes": torch.arange(8.0).reshape(2, 4),
        "labels": torch.tensor([1, 0]),
        "masks": torch.arange(48).reshape(2, 4, 6) % 3 == 0,
        "crowd": torch.tensor([False, True]),
        "difficult": torch.tensor([True, False]),
        "pixels": torch.arange(24, dtype=torch.uint8).reshape(4, 6),
        "image_label": torch.tensor(1),
    },
    Detections: {
        "boxes": torch.arange(8.0).reshape(2, 4),
        "scores": torch.tensor([0.9, 0.4]),
        "labels": torch.tensor([1, 0]),
        "masks": torch.rand(2, 3, 3),
        "mask_boxes": torch.arange(8.0).reshape(2, 4) + 1,
    },
}


@pytest.mark.parametrize("kind", OF_TWO)
def test_no_field_is_left_behind(kind):
    values = OF_TWO[kind]
    tensors = {f.name for f in fields(kind) if "Tensor" in str(f.type)}
    assert tensors == values.keys()
    whole = kind(**values)
    assert whole.of_objects().keys() | whole.of_image().keys() == tensors
    second = whole.select(torch.tensor([False, True]))
    for name, value in values.items():
        wanted = value[1:] if name in whole.of_objects() else value
        assert torch.equal(getattr(second, name), wanted), name
        assert getattr(whole.to("meta"), name).is_meta, name
    half = kind(**{k: v.half() if v.is_floating_point() else v for k, v in values.items()})
    for name, value in values.items():
        assert getattr(half.float32(), name).dtype == value.dtype, name


def test_every_field_of_the_targets_travels_in_a_batch_and_from_a_worker():
    targets = Targets(**OF_TWO[Targets])
    image = torch.zeros(3, 4, 6, dtype=torch.uint8)
    samples = [
        Loaded(image, targets, FRAME, proposals=torch.rand(n, 4)) for n in (3, 0)
    ]  # the second one was offered nothing
    batch = collate(samples, multiple=8)
    again = _Parcel.of(batch).batch()
    for sample, found in zip(samples, again.targets, strict=True):
        for field in fields(Targets):
            there, wanted = getattr(found, field.name), getattr(sample.targets, field.name)
            pad = field.metadata.get("pad")
            if pad is not None:
                assert there.shape[-2:] == (8, 8)
                assert (there[..., 4:, :] == pad).all()
                assert (there[..., 6:] == pad).all()
                there = there[..., :4, :6]
            assert torch.equal(there, wanted), field.name
    for sample, offered in zip(samples, again.proposals, strict=True):
        assert torch.equal(sample.proposals, offered)
    moved = again.to("meta")
    assert all(p.is_meta for p in moved.proposals)
    assert moved.inputs().keys() == {"images", "sizes", "proposals"}


@pytest.mark.parametrize("score", ["x", "0.5", math.nan, None, [1], True, torch.tensor([1.0, 2.0])])
def test_a_score_that_is_no_number_is_refused(score):
    found = Detections(torch.zeros(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64), ("a",))
    with pytest.raises(DetkitError, match=r"score_thresh is .*not a number") as error:
        found.filter(score)
    assert "filter(0.5" in error.value.remedy
    assert len(found.filter(np.float32(0.5))) == len(found.filter(1)) == 1


def test_classes_are_names_or_labels():
    found = Detections(torch.zeros(2, 4), torch.ones(2), torch.tensor([0, 1]), ("a", "bird"))
    assert len(found.filter(0, "bird")) == len(found.filter(0, ["bird"])) == 1
    assert len(found.filter(0, [0, np.int64(1)])) == 2
    for classes in ([None], [1.5], ["cat"], "b"):
        with pytest.raises(DetkitError, match="No class"):
            found.filter(0, classes)
