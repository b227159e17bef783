"""Darknet's weights files: read and written byte for byte, and refused where they do not fit."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from detkit.backbones import darknet_weights
from detkit.backbones.build import build as build_both
from detkit.backbones.darknet_weights import Header, decode_header, layout
from detkit.errors import DetkitError


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


class Net(nn.Sequential):
    """Two convolutions, 1 → 2 → 3 channels, the first with a norm."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1))


NUMBERS = 4 * 2 + 2 + 3 + 6


def test_the_order_of_the_numbers_is_darknets(tmp_path):
    """Biases, scales, means, variances, weights; a convolution without a norm biases, weights."""
    path = tmp_path / "net.weights"
    path.write_bytes(struct.pack("<3iq", 0, 2, 5, 7) + np.arange(NUMBERS, dtype="<f4").tobytes())
    header, tensors = darknet_weights.read(path, layout(Net()))
    assert header == Header(0, 2, 5, 7)
    assert {key: value.flatten().tolist() for key, value in tensors.items()} == {
        "1.bias": [0, 1],
        "1.weight": [2, 3],
        "1.running_mean": [4, 5],
        "1.running_var": [6, 7],
        "0.weight": [8, 9],
        "2.bias": [10, 11, 12],
        "2.weight": [13, 14, 15, 16, 17, 18],
    }
    assert tensors["2.weight"].shape == (3, 2, 1, 1)
    assert darknet_weights.encode(tensors, layout(Net()), header) == path.read_bytes()


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (Header(0, 1, 0, 5), 16),
        (Header(0, 2, 0, 2**40), 20),
        (Header(1, 0, 0, 3), 20),  # 1 · 10 + 0 is not below 2
        (Header(0, 0, 9, 0), 16),
    ],
)
def test_the_counter_is_long_from_version_0_2(header, size):
    data = header.encode()
    assert len(data) == size
    assert decode_header(data, "f") == (header, size)


@pytest.mark.parametrize("data", [b"", b"\0" * 15, struct.pack("<4i", 0, 2, 5, 0), b"PK\3\4" * 9])
def test_another_file_is_refused(tmp_path, data):
    path = tmp_path / "net.weights"
    path.write_bytes(data)
    with pytest.raises(DetkitError, match="does not begin with a Darknet version"):
        darknet_weights.read(path, layout(Net()))
    with pytest.raises(DetkitError, match="cannot be read"):
        darknet_weights.read(tmp_path / "none.weights", layout(Net()))


@pytest.mark.parametrize("numbers", [0, 10, NUMBERS - 1, NUMBERS + 1])
def test_a_file_of_another_size_is_refused_with_both_figures(tmp_path, numbers):
    path = tmp_path / "net.weights"
    path.write_bytes(Header().encode() + np.ones(numbers, "<f4").tobytes())
    with pytest.raises(DetkitError, match=rf"has {20 + 4 * numbers} bytes; 96 are .* 19 numbers"):
        darknet_weights.read(path, layout(Net()))
    if numbers > NUMBERS:
        assert darknet_weights.read(path, layout(Net()), more=True)[0] == Header()
    path.write_bytes(Header().encode() + np.ones(NUMBERS, "<f4").tobytes()[:-1])
    with pytest.raises(DetkitError, match="has 95 bytes; 96 are"):
        darknet_weights.read(path, layout(Net()))


def test_the_first_layers_alone_have_a_name_of_their_own(tmp_path):
    path = tmp_path / "net.conv.2"
    path.write_bytes(Header().encode() + np.ones(10, "<f4").tobytes())
    tensors = darknet_weights.read(path, layout(Net()))[1]
    assert set(tensors) == {"0.weight", *(f"1.{key}" for key in ("bias", "weight"))} | {
        "1.running_mean",
        "1.running_var",
    }
    for numbers in (0, 9, 11, NUMBERS + 1):
        path.write_bytes(Header().encode() + np.ones(numbers, "<f4").tobytes())
        with pytest.raises(DetkitError, match=f"has {20 + 4 * numbers} bytes; 96 are"):
            darknet_weights.read(path, layout(Net()))


def test_numbers_of_another_network_show_in_the_variances(tmp_path):
    path = tmp_path / "net.weights"
    values = np.arange(NUMBERS, dtype="<f4")
    values[7] = -0.25
    path.write_bytes(Header().encode() + values.tobytes())
    with pytest.raises(DetkitError, match=r"1\.running_var: A variance is -0\.25"):
        darknet_weights.read(path, layout(Net()))


def test_a_network_that_lacks_layers_is_not_written(tmp_path):
    net = build("darknet_cfg", levels=["3"], width=0.25)
    with pytest.raises(DetkitError, match=r"The network has no layers\.\d+"):
        darknet_weights.encode(net.state_dict(), net.darknet_layout, Header())


def test_a_backbone_takes_a_darknet_file_as_any_other(tmp_path):
    """The classifier behind the trunk is left, as is a stage not built; the tail is filled."""
    torch.manual_seed(1)
    source = build("darknet19", width=0.25)
    data = darknet_weights.encode(source.state_dict(), source.darknet_layout, Header(seen=64))
    path = tmp_path / "darknet19.weights"
    path.write_bytes(data + np.ones(1000, "<f4").tobytes())
    net, tail = build_both("darknet19", width=0.25, levels=["4"], tail=True, weights=str(path))
    report = net.weights_report
    assert (report.missing, report.unexpected, report.norms_frozen) == ((), (), 18)
    assert report.metadata == {"darknet_version": "0.2.5", "darknet_seen": "64"}
    own = source.state_dict()
    assert torch.equal(tail.state_dict()["stage5.5.0.weight"], own["stage5.5.0.weight"])
    assert torch.equal(net.state_dict()["stage1.1.1.running_var"], own["stage1.1.1.running_var"])
    assert isinstance(net.stage1[1][1], FrozenBatchNorm2d)
    assert net.normalization.mean == (0.0, 0.0, 0.0)
    assert net.normalization.std == (1.0, 1.0, 1.0)

    part = tmp_path / "darknet19.conv.16"
    end = 20 + 4 * darknet_weights.count(source.darknet_layout[:13])
    part.write_bytes(data[:end])
    report = build("darknet19", width=0.25, weights=str(part)).weights_report
    assert all(key.startswith("stage5") for key in report.missing)
    assert (len(report.missing), report.loaded) == (25, 65)
    short = tmp_path / "short.weights"
    short.write_bytes(data[:end])
    with pytest.raises(DetkitError, match=r"bytes; at least [\d,]+ are those of the network"):
        build("darknet19", width=0.25, weights=str(short))


def test_yolo_v1s_first_convolutions_come_from_a_file_of_those_alone(tmp_path):
    torch.manual_seed(1)
    source = build("yolo_v1", width=0.0625, batch_norm=True)
    layers = source.darknet_layout[:20]
    assert len(source.darknet_layout) == 24
    path = tmp_path / "extraction.conv.20"
    darknet_weights.write(path, source.state_dict(), layers, Header(0, 1, 0, 7))
    net = build("yolo_v1", width=0.0625, batch_norm=True, weights=str(path))
    assert net.weights_report.loaded == 20 * 5
    own, found = source.state_dict(), net.state_dict()
    assert all(torch.equal(found[key], own[key]) for layer in layers for key in layer)
    assert {key.split(".")[0] for key in net.weights_report.missing} == {"stage5", "stage6"}


def test_a_network_of_another_kind_takes_none(tmp_path):
    path = tmp_path / "net.weights"
    path.write_bytes(Header().encode())
    with pytest.raises(DetkitError, match="no weights file for ResNet"):
        build("resnet18", width=0.25, weights=str(path))
