"""The contact sheet: what is found lies beside what is annotated, at the places where both are."""

import numpy as np
import pytest
import torch

from detkit.data import images
from detkit.data.open import open_dataset
from detkit.draw import colour
from detkit.inference.sheet import annotated, draw_sheet, enlarged
from detkit.structures import Detections, Frame, Segmentation


@pytest.fixture(scope="module")
def records():
    return open_dataset({"name": "shapes", "train_images": 2, "val_images": 2, "size": 64}, "val")


def test_annotated_boxes_are_drawn_around_the_enlarged_objects(records):
    large = np.zeros((192, 192, 3), np.uint8)
    drawn = annotated(large, 3, records, 0, "detect")
    truth = records.annotation(0)
    x0, y0, x1, y1 = (3 * truth.boxes[-1]).round().astype(int)
    edge = colour(int(truth.labels[-1]))
    middle = drawn[(y0 + y1) // 2]
    assert (middle[x0] == edge).all() or (middle[x1 - 1] == edge).all()
    assert not large.any()


def test_a_prediction_is_enlarged_with_its_picture():
    box = Detections(torch.tensor([[1.0, 2, 3, 4]]), torch.ones(1), torch.zeros(1).long())
    assert enlarged(box, (10, 20), 4).boxes.tolist() == [[4.0, 8, 12, 16]]
    logits = torch.randn(3, 10, 20)
    pixels = Segmentation(logits).to_image(Frame("", -1, "", (10, 20), (10, 20)))
    assert torch.equal(pixels.labels, logits.argmax(0).to(torch.uint8))
    large = enlarged(pixels, (10, 20), 5).labels
    assert large.shape == (50, 100)
    assert torch.equal(large[2::5, 2::5], pixels.labels)


class Thin:
    """Records of one long thin picture."""

    def __init__(self, records, size):
        self._records, self._size = records, size

    def __len__(self):
        return 1

    def __getattr__(self, name):
        return getattr(self._records, name)

    def image(self, i):
        return np.full((*self._size, 3), 100, np.uint8)


@pytest.mark.parametrize("size", [(1600, 8), (5000, 1), (1, 5000)])
def test_a_long_thin_picture_does_not_blow_up_the_sheet(
    predictor_of, detector, records, tmp_path, size
):
    draw_sheet(predictor_of(detector), Thin(records, size), tmp_path / "sheet.jpg")
    height, width = images.size(tmp_path / "sheet.jpg")
    assert width <= 2600
    assert height < 2200


def test_a_sheet_that_cannot_be_written_is_a_note(
    predictor_of, detector, records, tmp_path, capsys
):
    (tmp_path / "file").write_text("no folder")
    draw_sheet(predictor_of(detector), records, tmp_path / "file" / "sheet.jpg")
    assert "note: sheet.jpg was not drawn" in capsys.readouterr().out
