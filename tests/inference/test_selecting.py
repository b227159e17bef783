"""What may be set otherwise at inference."""

from __future__ import annotations

import pytest
from torch import nn

from detkit.errors import DetkitError
from detkit.inference.selecting import reselect, resized
from detkit.models.heads.selection import Selection


class Network(nn.Module):
    def __init__(self, selection=None) -> None:
        super().__init__()
        self.head = nn.Identity()
        if selection:
            self.head.selection = selection


def test_a_model_keeps_what_it_is_told_to():
    network = Network(Selection(0.1, 0.5, 100))
    reselect(network, None, None)
    assert network.head.selection == Selection(0.1, 0.5, 100)
    reselect(network, 0.3, None)
    reselect(network, None, 7)
    assert network.head.selection == Selection(0.1, 0.3, 7)
    for values in ((1.2, None), (None, 0), (None, 1.5)):
        with pytest.raises(DetkitError, match=r"nms_iou is 1\.2|detections is"):
            reselect(network, *values)
    with pytest.raises(DetkitError, match="Network has no nms_iou"):
        reselect(Network(), 0.5, None)


@pytest.mark.parametrize(
    ("transforms", "changed"),
    [
        ({"name": "detection", "short_side": 600, "long_side": 1000}, (300, 500)),
        ({"name": "detection", "short_side": 600, "long_side": None}, (300, None)),
        ({"name": "detection"}, (300, 500)),  # by its defaults
        ({"name": "square", "short_side": None, "long_side": 416}, (None, 300)),
        ({"name": "square", "short_side": 200, "long_side": 416}, (300, 624)),
    ],
)
def test_pictures_of_another_size(transforms, changed):
    meta = {"config": {"model": {"name": "x"}, "transforms": transforms}, "names": ["a"]}
    new = resized(meta, 300)["config"]["transforms"]
    assert (new.get("short_side"), new.get("long_side")) == changed
    assert resized(meta, None) == meta


def test_a_fixed_size_is_told():
    meta = {"config": {"model": {"name": "x"}, "transforms": {"name": "ssd"}}, "names": ["a"]}
    with pytest.raises(DetkitError, match=r"fixed size \(transforms=ssd\)"):
        resized(meta, 300)
