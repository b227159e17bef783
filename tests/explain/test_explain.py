"""Activation maps against a loop, filters and maps by name, and the command."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from explained import explained_of
from safetensors.torch import save_file

from detkit.__main__ import main
from detkit.backbones.build import build as build_backbone
from detkit.config import compose
from detkit.data.transforms import Transform
from detkit.draw import save_image
from detkit.errors import DetkitError
from detkit.explain.activation import Activation, activation, inside, section
from detkit.explain.sections import Explained, Wanted, batch_of, of_model, ready
from detkit.explain.watching import check_layers, watch
from detkit.inference.sources import Item, Picture
from detkit.models.build import build
from detkit.structures import Classes


@pytest.fixture(scope="module")
def classifier():
    explained, source = explained_of("classifier")
    batch, _ = batch_of(explained, source, 0)
    return explained, batch, watch(explained.model, batch, explained.names, [])


def test_an_activation_map_is_grad_cams(classifier):
    explained, batch, seen = classifier
    model, answer = explained.model, seen.prediction.answers()[0]
    found = activation(seen, answer)
    mean, std = model.mean_std
    maps = model.backbone((batch.images / 255 - mean) / std)[model.level].detach()
    maps.requires_grad_()
    logits = model.tail.classify(maps)[0]
    (gradient,) = torch.autograd.grad(logits.max(), maps)
    total = torch.zeros(maps.shape[2:])
    for channel in range(maps.shape[1]):
        total += gradient[0, channel].mean() * maps[0, channel].detach()
    torch.testing.assert_close(found.values, total.clamp(min=0), atol=1e-5, rtol=1e-3)
    assert found.level == model.level


def test_a_detection_depends_on_its_own_place_alone():
    """Of a network whose cells see little the map of a box is dark where the box is not."""
    explained, source = explained_of("rcnn")
    batch, _ = batch_of(explained, source, 200)
    seen = watch(explained.model, batch, explained.names, [])
    rows = set()
    for answer in seen.prediction.answers()[:8]:
        found = activation(seen, answer)
        rows.add(found.row)
        assert found.values.min() >= 0
    assert rows <= set(range(4))
    assert len(rows) > 1  # each answer comes from its own region


def test_on_the_pixels_themselves_the_gradient_counts_place_by_place():
    explained, source = explained_of("capsnet")
    batch, _ = batch_of(explained, source, 0)
    seen = watch(explained.model, batch, explained.names, [])
    answer, pixels = seen.prediction.answers()[0], seen.maps[0]["0"]
    (gradient,) = torch.autograd.grad(answer.value, pixels, retain_graph=True)
    expected = (gradient * pixels.detach()).sum(1)[0].clamp(min=0)
    torch.testing.assert_close(activation(seen, answer).values, expected)


def test_a_map_of_unpadded_convolutions_lies_in_the_middle():
    """572 pixels seen, 388 of them the picture's, 28×28 cells of stride 16: 62 pixels around."""
    explained, source = explained_of("unet_2015")
    batch, _ = batch_of(explained, source, 0)
    seen = watch(explained.model, batch, explained.names, [])
    level, maps = "4", seen.maps[0]["4"]
    values = torch.zeros(maps.shape[2:])
    values[maps.shape[2] // 2, maps.shape[3] // 2] = 1
    found = inside(seen, Activation(values, level, 0, 0))
    assert found.shape == seen.picture.shape[:2]
    row, column = np.unravel_index(found.argmax(), found.shape)
    seen_side = seen.calls["backbone"][0].inputs[0].shape[2]
    before = (seen_side - maps.shape[2] * 16) // 2 - 92
    centre = before + (maps.shape[2] // 2) * 16 + 7.5
    assert abs(row - centre) <= 1
    assert abs(column - centre) <= 1


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pictures_of_any_number_of_bands_are_explained(channels):
    settings = small.small("classifier")
    backbone = {"name": "resnet18", "in_channels": channels, "width": 0.125}
    model = build(settings.model, backbone, Classes.numbered(3))
    ready(model)
    transform = Transform(lambda height, width: (64, 64), multiple=1)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, channels)).astype(np.uint8)
    explained = Explained(model, ("a", "b", "c"), transform, trained=True)
    found = of_model(explained, Picture(image, Item("x.tif", "x", False)), Wanted())
    assert {"The answer", "Where it looked", "Maps", "Filters"} <= {s.title for s in found}


def test_the_pyramid_is_that_of_the_scale_that_fits():
    settings = small.small("sppnet")
    two = replace(settings, model={**settings.model, "scales": [1.0, 2.0]})
    explained, source = explained_of("sppnet")
    model = two.build(settings.backbones[0])
    ready(model)
    model.proposer = explained.model.proposer
    found = of_model(replace(explained, model=model), source, Wanted())
    shown = {p.title: p for section in found for p in section.pictures}
    text = shown["Bins of the spatial pyramid"].text
    box, cells = re.search(r", (\d+, \d+, \d+, \d+)\) is a window of (\d+×\d+)", text).groups()
    left, top, right, bottom = (2 * int(side) for side in box.split(", "))
    columns, rows = ((b - 1) // 16 - (a - 1) // 16 for a, b in ((left, right), (top, bottom)))
    assert cells == f"{columns}×{rows}"


def test_maps_end_where_the_picture_does():
    explained, source = explained_of("faster_rcnn")
    wide = replace(explained, transform=Transform(lambda height, width: (64, 40)))
    (maps,) = (s for s in of_model(wide, source, Wanted()) if s.title == "Maps")
    level = next(p for p in maps.pictures if p.title == "Maps of level 3")
    assert "of 8×5 cells" in level.text  # 64 pixels of the batch are 8 cells


def test_too_large_a_number_of_an_answer_is_told(classifier):
    with pytest.raises(DetkitError, match="There are 3 answers, not 7"):
        section(classifier[2], 7)
    assert len(section(classifier[2], 2).pictures) == 1


def test_an_unknown_layer_is_answered_with_the_nearest(classifier):
    model = classifier[0].model
    known = next(n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d))
    check_layers(model, [known])
    wrong = known[:-1] + ("1" if known[-1] != "1" else "2")
    with pytest.raises(DetkitError, match=r"no layer .*Did you mean") as caught:
        check_layers(model, [f"{wrong}x"])
    assert known in str(caught.value)
    assert "at the top are backbone, tail" in caught.value.remedy


def test_any_layer_shows_its_filters_and_maps():
    explained, source = explained_of("faster_rcnn")
    layers = ["rpn.conv", "backbone.body.layer1"]
    sections = {s.title: s for s in of_model(explained, source, Wanted(layers=layers))}
    filters = [p.title for p in sections["Filters"].pictures]
    assert "Filters of rpn.conv" in filters
    assert any(title.startswith("Filters of backbone.body.layer1.0") for title in filters)
    maps = [p.title for p in sections["Maps"].pictures]
    assert "Maps of backbone.body.layer1" in maps
    assert any(title.startswith("Maps of rpn.conv") for title in maps)  # once a level


def test_a_model_may_show_pictures_of_its_own():
    explained, source = explained_of("classifier")
    taken = {}

    def own(outputs):
        taken.update(outputs)
        return [("Mine", "A square.", np.zeros((4, 4, 3), np.uint8))]

    explained.model.pictures = own
    sections = of_model(explained, source, Wanted())
    (mine,) = [p for s in sections if s.title == "Its own pictures" for p in s.pictures]
    assert (mine.title, mine.text) == ("Mine", "A square.")
    assert "tail.logits" in taken
    assert not any(name.startswith("backbone.") for name in taken)


@pytest.fixture
def photo(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    save_image(tmp_path / "my.png", image)
    return tmp_path / "my.png"


def text_of(page) -> str:
    return re.sub(r'src="data:[^"]+"', "", page.read_text())


def test_random_weights_are_said_to_be_random(photo, tmp_path, capsys):
    given = ["explain", "backbone=resnet18", "backbone.width=0.125", f"source={photo}"]
    given += ["transforms=classification", "transforms.side=64", "transforms.resize=null"]
    assert main([*given, f"output={tmp_path / 'random'}"]) == 0
    told = capsys.readouterr().out
    assert "note: The weights are random" in told
    text = text_of(tmp_path / "random/index.html")
    assert "The weights are random: nothing was learnt" in text
    assert "They are random: nothing was learnt." in text  # of its filters
    file = tmp_path / "trunk.safetensors"
    save_file(build_backbone("resnet18", width=0.125)[0].state_dict(), file)
    weights = f"backbone.weights={file}"
    assert main([*given, weights, f"output={tmp_path / 'half'}"]) == 0
    text = text_of(tmp_path / "half/index.html")
    assert "random, since it lacks them: tail.logits." in text
    assert "They are random" not in text


def test_without_a_picture_there_are_filters_and_the_example(tmp_path):
    given = ["explain", "backbone=lenet5_modern", f"output={tmp_path / 'out'}"]
    assert main([*given, "filter=[[1,-1]]", "numbers=[[1,2,4],[0,0,7]]"]) == 0
    text = text_of(tmp_path / "out/index.html")
    assert "Filters of backbone." in text
    assert "Picture, filter, answer" in text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "nothing to explain"),
        (["checkpoint=a", "backbone=resnet18"], "two things to explain"),
        (["backbone=lenet5_modern", "layers=backbone.conv"], "no layer 'backbone.conv'"),
        (["backbone=lenet5_modern", "source=missing.jpg"], "missing.jpg"),
        (["backbone=lenet5_modern", "boxes=[[1,2,3]]"], "boxes"),
    ],
)
def test_mistakes_are_told(given, words, tmp_path, capsys):
    assert main(["explain", *given, f"output={tmp_path / 'out'}"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("page", ["explain", "transfer"])
def test_the_commands_of_the_page_compose(page):
    text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text()
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    assert lines
    for line in filter(None, lines):
        _, script, *arguments = shlex.split(line, comments=True)
        compose(Path(script).stem, arguments)
