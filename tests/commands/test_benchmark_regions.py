"""The benchmark of regions gives each side the same work."""

import torch

from detkit.commands import benchmark_regions
from detkit.commands.benchmark_regions import SIZE, beside, random_boxes
from detkit.config import compose


def test_boxes_lie_in_the_picture():
    boxes = random_boxes(500, torch.device("cpu"))
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= SIZE[1]).all()
    assert (boxes[:, 3] <= SIZE[0]).all()
    assert (boxes[:, 2:] - boxes[:, :2] > 10).all()


def test_ratios_are_those_of_all_pictures_and_of_single_ones():
    found = beside([2.0, 4.0], [1.0, 1.0])
    assert (found["ours"], found["peer"], found["ratio"]) == (3.0, 1.0, 3.0)
    assert (found["low"], found["high"]) == (2.0, 4.0)


def test_it_times_both_peers_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_regions, "SIZE", (48, 64))
    monkeypatch.setattr(benchmark_regions, "SHORT", 64)
    given = [
        "model=rcnn",
        "backbone=squeezenet1_0",
        "pictures=1",
        "proposals=6",
        "warp=48",
        "device=cpu",
        "precisions=[fp32]",
    ]
    found = benchmark_regions.regions(compose("benchmark", given))
    assert set(found) == {"bare network", "SPPnet"}
    assert all(figures["peer"] > 0 for figures in found.values())
    assert capsys.readouterr().out.count("of 6 boxes at 48 pixels") == 2
