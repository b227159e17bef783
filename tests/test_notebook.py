"""Predictions in a notebook, as tables and in supervision's hands."""

import sys

import cv2
import numpy as np
import pytest
import torch

from detkit.errors import DetkitError
from detkit.predictions import Classification, Detections

FOUND = Detections(
    torch.tensor([[2.0, 3, 10, 12], [0, 0, 5, 5]]),
    torch.tensor([0.9, 0.4]),
    torch.tensor([1, 0]),
    ("cat", "dog"),
    size=(20, 30),
)


def test_a_table_has_a_row_an_object():
    pandas = pytest.importorskip("pandas")
    table = FOUND.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table.columns.tolist() == ["class", "score", "x1", "y1", "x2", "y2"]
    assert table["class"].tolist() == ["dog", "cat"]
    assert table.loc[0, ["x1", "y2"]].tolist() == [2, 12]
    assert len(FOUND[[]].to_pandas()) == 0


def test_supervision_gets_boxes_scores_names_and_masks():
    pytest.importorskip("supervision")
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 3:12, 2:10] = True
    theirs = Detections(FOUND.boxes, FOUND.scores, FOUND.labels, FOUND.names, masks=masks)
    made = theirs.to_supervision()
    np.testing.assert_allclose(made.xyxy, FOUND.boxes)
    assert made.data["class_name"].tolist() == ["dog", "cat"]
    assert made.mask[0].sum() == 72
    assert len(FOUND[[]].to_supervision()) == 0


@pytest.mark.parametrize("name", ["pandas", "supervision"])
def test_a_package_that_is_not_installed_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DetkitError, match=f"pip install {name}"):
        getattr(FOUND, f"to_{name}")()


@pytest.mark.parametrize("found", [FOUND, Classification(torch.tensor([0.3, 0.7]), ("a", "b"))])
def test_a_notebook_shows_the_drawn_picture_where_it_is_known(found, monkeypatch):
    assert found._repr_png_() is None
    with pytest.raises(DetkitError, match="picture is not known"):
        found.show()
    found.picture = np.full((20, 30, 3), 90, np.uint8)
    try:
        shown = cv2.imdecode(np.frombuffer(found._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(shown[..., ::-1], found.draw(found.picture))
        calls = []
        monkeypatch.setattr("detkit.notebook.show", calls.append)
        found.show()
        assert calls[0].shape == (20, 30, 3)
        assert found.filter(0.5).picture is found.picture
    finally:
        found.picture = None
