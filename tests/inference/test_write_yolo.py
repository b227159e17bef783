"""YOLO text of what was found, read again by the format's reader."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from detkit.data.formats.yolo_text import read
from detkit.errors import DetkitError
from detkit.inference.write_yolo import WithYoloText, lines, untouched_labels
from detkit.predictions import Detections

NAMES = ["cat", "dog"]


class Nothing:
    """A writer that leaves nothing else."""

    tables, found = (), 0

    def add(self, picture, prediction) -> None:
        self.found += len(prediction)

    def close(self) -> None:
        self.closed = True


def picture(name: str, height: int, width: int) -> SimpleNamespace:
    item = SimpleNamespace(name=name, file=f"{name}.jpg", page=None)
    return SimpleNamespace(
        item=item, frame=None, seconds=None, image=np.zeros((height, width, 3), np.uint8)
    )


def masks() -> Detections:
    """An object of two parts with a hole, a small one, and one without a pixel."""
    found = np.zeros((3, 30, 50), bool)
    found[0, 2:20, 3:30] = True
    found[0, 6:10, 8:12] = False
    found[0, 24:28, 40:50] = True
    found[1, 12:14, 33:35] = True
    boxes = torch.tensor([[3.0, 2, 50, 28], [33, 12, 35, 14], [5, 5, 6, 6]])
    labels = torch.tensor([1, 0, 0])
    return Detections(boxes, torch.ones(3), labels, masks=torch.from_numpy(found), size=(30, 50))


def written(tmp_path, found: Detections):
    """The data set that the text and its picture are, for the reader."""
    out = tmp_path / "out"
    out.mkdir()
    writer = WithYoloText(Nothing(), out, NAMES)
    writer.add(picture("a", 30, 50), found)
    writer.close()
    assert writer.found == len(found)
    (out / "images").mkdir()
    cv2.imwrite(str(out / "images/a.jpg"), np.zeros((30, 50, 3), np.uint8))
    kinds = frozenset({"boxes"} if found.masks is None else {"boxes", "masks"})
    return read(out, "all", needs=kinds)


def test_masks_are_read_as_they_were(tmp_path):
    found = masks()
    records = written(tmp_path, found)
    assert list(records.names) == NAMES
    truth = records.annotation(0)
    assert truth.labels.tolist() == [1, 0]
    assert np.array_equal(np.stack(list(records.masks(0))), found.masks[:2].numpy())


def test_boxes_are_read_as_they_were(tmp_path):
    boxes = torch.tensor([[3.0, 2, 50, 28], [33.25, 12, 35, 14.5]])
    found = Detections(boxes, torch.ones(2), torch.tensor([1, 0]), size=(30, 50))
    truth = written(tmp_path, found).annotation(0)
    assert truth.labels.tolist() == [1, 0]
    np.testing.assert_allclose(truth.boxes, boxes.numpy(), atol=1e-4)


def test_nothing_found_is_an_empty_text():
    assert lines(masks()[[]], 30, 50) == []


def refused(output) -> str:
    with pytest.raises(DetkitError, match="may have corrected") as error:
        untouched_labels(output)
    return str(error.value.file)


def test_labels_make_way_where_nobody_has_touched_them(tmp_path):
    assert untouched_labels(tmp_path) == []
    for names in (NAMES, NAMES, [*NAMES, "été"]):
        for label in untouched_labels(tmp_path):
            label.unlink()
        writer = WithYoloText(Nothing(), tmp_path, names)
        writer.add(picture("a", 30, 50), masks())
        writer.add(picture("b", 30, 50), masks()[[]])
        writer.close()
    assert [path.name for path in untouched_labels(tmp_path)] == ["a.txt", "b.txt"]
    label = tmp_path / "labels/a.txt"
    before = label.read_text()
    label.write_text(before.replace("1", "0", 1))
    assert refused(tmp_path) == str(label)
    label.write_text(before)
    (tmp_path / "classes.txt").write_text("cow\n")
    assert refused(tmp_path) == str(tmp_path / "classes.txt")


def test_labels_of_someone_are_not_replaced(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/mine.txt").write_text("")
    assert refused(tmp_path) == str(tmp_path / "labels/mine.txt")
    (tmp_path / "labels.csv").write_text("file,label\nmine.jpg,mine.txt\n")
    assert refused(tmp_path) == str(tmp_path / "labels/mine.txt")
