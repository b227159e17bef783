"""The same weights give the maps of torchvision's own networks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.backbones.build import build as build_both
from detkit.backbones.norms import fold_norms


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


Steps = list[tuple[str, Callable[[Tensor], Tensor]]]


def cuts(*places: tuple[str, int]) -> Callable[[nn.Module], Steps]:
    """The levels of a network that is one `features`, each up to the given index."""
    ends = [("", 0), *places]
    return lambda net: [
        (level, net.features[start:end]) for (_, start), (level, end) in pairwise(ends)
    ]


def resnet(net) -> Steps:
    return [
        ("1", lambda x: net.relu(net.bn1(net.conv1(x)))),
        ("2", lambda x: net.layer1(net.maxpool(x))),
        ("3", net.layer2),
        ("4", net.layer3),
        ("5", net.layer4),
    ]


def googlenet(net) -> Steps:
    def three(x):
        return net.inception3b(net.inception3a(net.maxpool2(x)))

    def four(x):
        x = net.inception4c(net.inception4b(net.inception4a(net.maxpool3(x))))
        return net.inception4e(net.inception4d(x))

    return [
        ("1", net.conv1),
        ("2", lambda x: net.conv3(net.conv2(net.maxpool1(x)))),
        ("3", three),
        ("4", four),
        ("5", lambda x: net.inception5b(net.inception5a(net.maxpool4(x)))),
    ]


# where each level ends in torchvision's listing of the layers
NETWORKS = {
    "alexnet": cuts(("2", 2), ("3", 5), ("4", 12), ("5", 13)),
    "vgg11": cuts(("0", 2), ("1", 5), ("2", 10), ("3", 15), ("4", 20), ("5", 21)),
    "vgg16": cuts(("0", 4), ("1", 9), ("2", 16), ("3", 23), ("4", 30), ("5", 31)),
    "vgg13_bn": cuts(("0", 6), ("1", 13), ("2", 20), ("3", 27), ("4", 34), ("5", 35)),
    "squeezenet1_0": cuts(("1", 2), ("2", 6), ("3", 11), ("4", 13)),
    "mobilenet_v2": cuts(("1", 2), ("2", 4), ("3", 7), ("4", 14), ("5", 19)),
    "resnet18": resnet,
    "resnet50": resnet,
    "googlenet": googlenet,
}
PUBLISHED = [
    *("alexnet", "squeezenet1_0", "mobilenet_v2", "googlenet"),
    *(f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
]


def theirs(name: str) -> nn.Module:
    extra = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None, **extra).eval()


def shake_norms(net: nn.Module) -> None:
    """Random scales and shifts, and the statistics of a noisy batch."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    with torch.no_grad():
        net.train()(torch.randn(2, 3, 96, 96, generator=generator))
    net.eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_state_dict_is_torchvisions_without_the_classifier(name):
    with torch.device("meta"):
        ours = build(name)
    known = {key: value.shape for key, value in theirs(name).state_dict().items()}
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    rest = {key: shape for key, shape in known.items() if key not in shapes}
    assert {**shapes, **rest} == known
    assert rest
    assert all(key.startswith(ours.classifier) for key in rest)


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "vgg19_bn"])
def test_the_tail_is_torchvisions_classifier_without_its_last_layer(name):
    with torch.device("meta"):
        _, tail = build_both(name, levels=[4], tail=True)
    head = theirs(name).classifier
    assert list(tail.classifier.state_dict()) == list(head.state_dict())[:-2]
    assert [str(m) for m in tail.classifier] == [str(m) for m in head][:-1]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_maps_equal_torchvisions_from_a_file(name, tmp_path):
    torch.manual_seed(0)
    first = build(name)
    shake_norms(first)
    net = theirs(name)
    net.load_state_dict(first.state_dict(), strict=False, assign=True)
    file = tmp_path / "weights.pth"
    torch.save(first.state_dict(), file)

    trainable = build(name, weights=str(file), norm="train").eval()
    frozen = build(name, weights=str(file)).train()  # frozen norms don't heed it
    folded = build(name, weights=str(file)).double()
    assert fold_norms(folded) == frozen.weights_report.norms_frozen
    assert frozen.weights_report.missing == ()
    for size, dtype, tolerance in (
        ((64, 80), torch.float32, 1e-5),
        ((79, 65), torch.float64, 1e-9),
    ):
        x = torch.randn(1, 3, *size, dtype=dtype)
        # folding is exact, but in float32 its rounding adds up over fifty layers
        equal = [trainable] if dtype == torch.float32 else [trainable, frozen, folded]
        with torch.no_grad():
            maps = [ours.to(dtype)(x) for ours in equal]
            for level, step in NETWORKS[name](net.to(dtype)):
                x = step(x)
                scale = x.abs().max()
                for ours in maps:
                    torch.testing.assert_close(
                        ours[level] / scale, x / scale, rtol=0, atol=tolerance
                    )


def test_tensorflows_padding_equals_its_rule():
    """SAME: (ceil(n / 2) − 1) · 2 + 3 − n cells in all, the smaller half in front."""
    torch.manual_seed(0)
    net = build("mobilenet_v2", width=0.25, tensorflow_padding=True, levels=[1]).eval()
    conv, norm, _ = net.features[0]
    for size in ((32, 33), (33, 32), (64, 64)):
        x = torch.randn(1, 3, *size)
        pads = []
        for n in reversed(size):
            total = max((-(-n // 2) - 1) * 2 + 3 - n, 0)
            pads += [total // 2, total - total // 2]
        expected = F.relu6(norm(F.conv2d(F.pad(x, pads), conv.weight, stride=2)))
        torch.testing.assert_close(net.features[0](x), expected)
        assert expected.shape[2:] == (-(-size[0] // 2), -(-size[1] // 2))


def test_darknet53_is_the_papers_table():
    """52 convolutions without the classifier's; a residual behind each pair of 1×1 and 3×3."""
    torch.manual_seed(0)
    net = build("darknet53", width=0.25).eval()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convs) == len(norms) == 52
    shake_norms(net)
    layer = iter(zip(convs, norms, strict=True))

    def conv(x: Tensor, kernel: int, stride: int = 1) -> Tensor:
        c, n = next(layer)
        assert c.kernel_size == (kernel, kernel)
        x = F.conv2d(x, c.weight, stride=stride, padding=kernel // 2)
        x = F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, eps=1e-5)
        return F.leaky_relu(x, 0.1)

    x = images = torch.randn(1, 3, 65, 64)
    with torch.no_grad():
        maps = net(images)
        x = conv(x, 3)
        torch.testing.assert_close(maps["0"], x)
        for level, repeats in enumerate((1, 2, 8, 8, 4), start=1):
            x = conv(x, 3, 2)
            for _ in range(repeats):
                x = x + conv(conv(x, 1), 3)
            torch.testing.assert_close(maps[str(level)], x, rtol=1e-4, atol=1e-4)
