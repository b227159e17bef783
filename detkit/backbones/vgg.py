"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556, table 1: configurations A, B, D, E).

image ─▶ conv1_x ─▶ pool conv2_x ─▶ pool conv3_x ─▶ pool conv4_x ─▶ pool conv5_x ─▶ pool5
           "0"           "1"             "2"             "3"             "4" ─▶ fc6, fc7  "5"
"""

from __future__ import annotations

from torch import nn

from detkit.backbones.backbone import FullyConnectedTail, Tail, Trunk, backbones, scaled
from detkit.ranges import Count


@backbones.register("vgg11", convs=(1, 1, 2, 2, 2), batch_norm=False)
@backbones.register("vgg13", convs=(2, 2, 2, 2, 2), batch_norm=False)
@backbones.register("vgg16", convs=(2, 2, 3, 3, 3), batch_norm=False)
@backbones.register("vgg19", convs=(2, 2, 4, 4, 4), batch_norm=False)
@backbones.register("vgg11_bn", convs=(1, 1, 2, 2, 2), batch_norm=True)
@backbones.register("vgg13_bn", convs=(2, 2, 2, 2, 2), batch_norm=True)
@backbones.register("vgg16_bn", convs=(2, 2, 3, 3, 3), batch_norm=True)
@backbones.register("vgg19_bn", convs=(2, 2, 4, 4, 4), batch_norm=True)
class VGG(Trunk):
    """Levels "0" … "5"; the tail is fc6 and fc7 on 7×7 cells of conv5 (level "4").

    Args:
        convs: convolutions of each of the five stages.
        width: multiplies every channel count.
        in_channels: of the images: 3 for RGB, 1 for grey.
        dropout: behind fc6 and fc7, in the tail.
    """

    tail_size = 7
    classifier = ("classifier.",)
    logits = "classifier.6"

    def __init__(
        self,
        *,
        convs: tuple[int, ...],
        batch_norm: bool,
        width: float = 1.0,
        in_channels: Count = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(in_channels)
        self.fc = scaled(4096, width)
        self.dropout = dropout
        layers: list[nn.Module] = []
        path, before, start = {}, in_channels, 0
        for level, (depth, channels) in enumerate(
            zip(convs, (64, 128, 256, 512, 512), strict=True)
        ):
            after = scaled(channels, width)
            for _ in range(depth):
                norm = [nn.BatchNorm2d(after)] if batch_norm else []
                layers += [nn.Conv2d(before, after, 3, padding=1), *norm, nn.ReLU(inplace=True)]
                before = after
            path[str(level)] = after, [f"features.{i}" for i in range(start, len(layers))]
            start = len(layers)
            layers.append(nn.MaxPool2d(2, 2))
        path["5"] = before, [f"features.{start}"]
        self.features = nn.Sequential(*layers)
        self.cut(path)

    def make_tail(self, after: str) -> Tail:
        layers = [
            nn.Linear(self.channels[after] * 49, self.fc),
            nn.ReLU(inplace=True),
            nn.Dropout(self.dropout),
            nn.Linear(self.fc, self.fc),
            nn.ReLU(inplace=True),
            nn.Dropout(self.dropout),
        ]
        return FullyConnectedTail(layers, 7, self.fc)
