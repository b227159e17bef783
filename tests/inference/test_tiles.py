"""Tiles beside the whole picture, and what is written of pixels beyond masks."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from torch import nn

from detkit.errors import DetkitError
from detkit.inference import tiles
from detkit.inference.outlines import regions
from detkit.inference.run import prepare
from detkit.inference.tiles import Tiled
from detkit.models.build import build
from detkit.structures import Classes


def model_of(name: str, backbone: str, **settings):
    torch.manual_seed(0)
    return build(
        {"name": name, **settings}, {"name": backbone, "width": 0.125}, Classes.numbered(3)
    ).eval()


def random_images(height: int, width: int):
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(1, 3, height // 8 + 1, width // 8 + 1, generator=generator)
    smooth = nn.functional.interpolate(small, (height, width), mode="bilinear")
    return (smooth * 255).to(torch.uint8)


@torch.inference_mode()
@pytest.mark.parametrize("in_file", [False, True])
def test_tiles_of_an_unpadded_network_are_the_whole_picture(in_file, monkeypatch):
    monkeypatch.setattr(tiles, "IN_MEMORY", 0 if in_file else 2**28)
    model = prepare(model_of("unet_2015", "unet_encoder_2015"), "cpu", "fp32")
    images = random_images(288, 320)
    sizes = torch.tensor([[275, 320]])
    whole = model(images=images, sizes=sizes)[0].logits[:, :275, :320]
    (found,) = Tiled(model, 288)(images, sizes)  # cores of 96 pixels
    assert found.logits.shape == whole.shape
    assert (found.logits - whole).abs().max() <= 1e-5 * whole.abs().max()


@torch.inference_mode()
def test_tiles_of_a_padded_network_differ_in_few_pixels():
    model = prepare(model_of("unet", "unet_encoder", decoder_width=8), "cpu", "fp32")
    images = random_images(704, 96)
    sizes = torch.tensor([[704, 84]])
    whole = model(images=images, sizes=sizes)[0].labels[:, :84]
    (found,) = Tiled(model, 448)(images, sizes)  # cores of 64 pixels
    assert (found.labels != whole).float().mean() <= 0.001


def test_tiles_that_cannot_be_are_refused():
    model = model_of("unet_2015", "unet_encoder_2015")
    with pytest.raises(DetkitError, match="200 pixels are smaller than the network's receptive"):
        Tiled(model, 200)
    with pytest.raises(DetkitError, match="cannot be taken in tiles"):
        Tiled(model_of("classifier", "mobilenet_v2"), 512)


def test_an_outline_fills_just_its_region():
    rng = np.random.default_rng(0)
    labels = (cv2.GaussianBlur(rng.standard_normal((50, 60)), (0, 0), 2) > 0.05).astype(np.uint8)
    labels[0, 0], labels[49, 59] = 1, 1
    seen = np.zeros_like(labels)
    for region in regions(labels, 1):
        filled = coco.decode(coco.frPyObjects([region.polygon], 50, 60))[..., 0].astype(bool)
        whole = np.zeros((50, 60), bool)
        whole[region.rows, region.columns] = region.mask
        assert (filled & ~whole).sum() == (filled ^ whole).sum()  # only holes are filled
        outside = cv2.connectedComponents((~whole).astype(np.uint8), connectivity=8)[1]
        edge = set(
            np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]]).tolist()
        )
        assert not (filled & ~whole & np.isin(outside, list(edge - {0}))).any()
        _, _, width, height = region.box
        assert region.mask.shape == (height, width)
        seen += whole
    assert (seen == labels).all()


def test_probabilities_and_polygons_are_written(tmp_path, predictor_of, segmenter, put_picture):
    from detkit.inference.sources import Source
    from detkit.inference.tasks import tasks

    put_picture(tmp_path / "in/a.png", (10, 200, 30))
    predictor = predictor_of(segmenter, 0.5)
    out = tmp_path / "out"
    out.mkdir()
    how = {"probabilities": True, "polygons": True}
    writer = tasks["segment_pixels"].writer(out, predictor.names, predictor.category_ids, **how)
    for pictures, found in predictor.batches(Source(tmp_path / "in").pictures()):
        for picture, one in zip(pictures, found, strict=True):
            writer.add(picture, one)
            labels, scores = one.labels.numpy(), one.scores().numpy()
    writer.close()
    assert writer.tables == ("predictions.json", "predictions.csv")
    done, pages = cv2.imreadmulti(str(out / "probabilities/a.tif"), flags=cv2.IMREAD_UNCHANGED)
    assert done
    np.testing.assert_allclose(np.stack(pages) / 65535, scores, atol=1e-5)
    assert (np.stack(pages).argmax(0) == labels).mean() > 0.99
    records = json.loads((out / "predictions.json").read_text())
    assert sum(record["area"] for record in records) == labels.size
    for record in records:
        label = predictor.names.index(record["category"])
        assert record["category_id"] == predictor.category_ids[label]
        assert record["score"] == pytest.approx(scores[label][labels == label].mean(), abs=0.2)
    kind = tasks["segment_pixels"].writer
    kind(out, predictor.names, predictor.category_ids, **how).close()  # its own files make way
    (out / "probabilities/mine.tif").write_bytes((out / "probabilities/a.tif").read_bytes()[:-1])
    with pytest.raises(DetkitError, match="not predict's"):
        kind(out, predictor.names, predictor.category_ids, **how)
