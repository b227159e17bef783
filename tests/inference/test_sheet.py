"""The contact sheet: what is found lies beside what is annotated, at the places where both are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detkit.data import images
from detkit.data.open import open_dataset
from detkit.data.records import Strings
from detkit.draw import colour
from detkit.inference import sheet
from detkit.inference.sheet import contact_sheet, draw_sheet
from detkit.inference.tasks import tasks
from detkit.plots import contact
from detkit.predictions import Detections, Segmentation
from detkit.structures import Frame


@pytest.fixture(scope="module")
def records():
    return open_dataset({"name": "shapes", "train_images": 2, "val_images": 2, "size": 64}, "val")


def test_annotated_boxes_are_drawn_around_the_enlarged_objects(records):
    large = np.zeros((192, 192, 3), np.uint8)
    drawn = tasks["detect"].truth(records, 0).enlarged((64, 64), 3).draw(large)
    truth = records.annotation(0)
    x0, y0, x1, y1 = (3 * truth.boxes[-1]).round().astype(int)
    edge = colour(int(truth.labels[-1]))
    middle = drawn[(y0 + y1) // 2]
    assert (middle[x0] == edge).all() or (middle[x1 - 1] == edge).all()
    assert not large.any()


def test_a_prediction_is_enlarged_with_its_picture():
    box = Detections(torch.tensor([[1.0, 2, 3, 4]]), torch.ones(1), torch.zeros(1).long())
    assert box.enlarged((10, 20), 4).boxes.tolist() == [[4.0, 8, 12, 16]]
    logits = torch.randn(3, 10, 20)
    pixels = Segmentation(logits).to_image(Frame("", -1, "", (10, 20), (10, 20)))
    assert torch.equal(pixels.labels, logits.argmax(0).to(torch.uint8))
    large = pixels.enlarged((10, 20), 5).labels
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
    assert width == (2600 if size == (1, 5000) else 1600)
    assert height < 2200


def test_a_sheet_that_cannot_be_written_is_a_note(
    predictor_of, detector, records, tmp_path, capsys
):
    (tmp_path / "file").write_text("no folder")
    draw_sheet(predictor_of(detector), records, tmp_path / "file" / "sheet.jpg")
    assert "note: sheet.jpg was not drawn" in capsys.readouterr().out


def test_captions_begin_with_what_is_shown_and_shorten_long_names(
    predictor_of, detector, records, tmp_path, monkeypatch
):
    said = []
    monkeypatch.setattr(
        sheet, "contact_sheet", lambda pictures, captions, width: said.extend(captions)
    )
    monkeypatch.setattr(sheet, "save_image", lambda file, picture: None)
    long = replace(records, files=Strings.of(["a" * 40 + ".jpg", "b.jpg"]))
    for score_thresh in (0.0, 1.1):
        predictor = predictor_of(detector)
        predictor.score_thresh = score_thresh
        draw_sheet(predictor, long, tmp_path / "sheet.jpg")
    assert said[:2] == ["found (score from 0): aaaaaaaaaaaa...aaaaaaaa.jpg", "annotated"]
    assert said[6] == "nothing found (score from 1.1): b.jpg"


@pytest.mark.parametrize("size", [(1600, 8), (5000, 1), (1, 5000)])
def test_a_long_thin_picture_takes_no_more_than_its_cell(size):
    thin = np.full((*size, 3), 20, np.uint8)
    drawn = contact_sheet(
        [thin, np.full((100, 100, 3), 128, np.uint8)], ["a", "b"], columns=2, width=212
    )
    assert drawn.shape[0] <= contact.TALLEST * 100 + 40
    assert (drawn == 20).all(-1).any()


def test_a_contact_sheet_holds_every_picture_in_its_cell():
    pictures = [np.full((h, w, 3), 20 * i, np.uint8) for i, (h, w) in
                enumerate([(30, 60), (90, 40), (50, 50), (10, 80), (40, 40)])]  # fmt: skip
    drawn = contact_sheet(pictures, columns=2, width=212)
    assert drawn.shape[1] == 212
    for i in range(5):
        cell = 100
        area = (drawn == 20 * i).all(-1).sum()
        h, w = pictures[i].shape[:2]
        assert area == cell * round(h * cell / w)
    assert contact_sheet(pictures[:1], columns=4, width=108).shape == (58, 108, 3)


def test_a_caption_stands_below_its_picture():
    white = np.full((40, 60, 3), 255, np.uint8)
    plain, said = contact_sheet([white], width=308), contact_sheet([white], ["a"], 4, 308)
    below = said[plain.shape[0] - contact.GAP : -contact.GAP]
    assert 10 < len(below) < 40
    assert (below < 100).any()
