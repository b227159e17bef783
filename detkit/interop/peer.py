"""torchvision's Faster and Mask R-CNN as models of ours: one command trains and measures both.

    python scripts/train.py plugins=[detkit.interop.peer] model=torchvision_faster_rcnn …

The README's row of both on blood cells: the model, then for either

    backbone=resnet50_fpn dataset=voc dataset.root=BCCD backbone.weights=FILE backbone.norm=frozen
    backbone.stride_in_1x1=true backbone.frozen_stages=2 transforms.short_side=416
    transforms.long_side=640 transforms.vertical_flip=0.5 optimizer=adamw optimizer.lr=0.0001
    optimizer.weight_decay=0.0001 schedule=cosine schedule.warmup_steps=20 training.max_steps=140
    training.evaluate_every=2 training.clip_norm=10 training.workers=0 seed=0

Of both Mask R-CNNs on nuclei: `experiment=nuclei_mask_rcnn`, with `model=torchvision_mask_rcnn` and
the settings that it has for the other.

Data, loop and evaluation are the same; network, targets, losses and post-processing are
torchvision's, but for the pasting of masks, which is ours for either (`ops/mask_paste.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import resnet18, resnet50
from torchvision.ops import FrozenBatchNorm2d

from detkit.backbones.backbone import Backbone
from detkit.backbones.fpn import FPN
from detkit.errors import DetkitError
from detkit.models.faster_rcnn import sizes_per_level
from detkit.models.model import Model, Wants, models
from detkit.predictions import Detections, Prediction
from detkit.structures import Classes, Targets

TRUNKS = {(3, 4, 6, 3): resnet50, (2, 2, 2, 2): resnet18}


@models.register("torchvision_faster_rcnn")
class TorchvisionFasterRCNN(Model):
    """Starts from the weights of our backbone, a ResNet with FPN and frozen norms.

    Args:
        anchor_sizes: pixels, one a level; None: 8 strides a level.
        roi_samples: proposals trained an image.
        score_thresh, nms_iou, detections: as in `faster_rcnn`.
    """

    task, needs = "detect", frozenset({"boxes"})
    network: type[FasterRCNN] = FasterRCNN

    def __init__(
        self,
        backbone: Backbone,
        classes: Classes,
        *,
        anchor_sizes: Sequence[float] | Sequence[Sequence[float]] | None = None,
        roi_samples: int = 512,
        score_thresh: float = 0.05,
        nms_iou: float = 0.5,
        detections: int = 100,
    ) -> None:
        if not isinstance(backbone, FPN):
            raise DetkitError(
                "torchvision_faster_rcnn is compared on a ResNet with an FPN.",
                remedy="set backbone=resnet50_fpn.",
            )
        super().__init__(backbone, classes)
        sizes = sizes_per_level(anchor_sizes, list(backbone.strides.values()))
        self.peer = self.network(
            their_backbone(backbone),
            num_classes=len(classes) + 1,
            rpn_anchor_generator=AnchorGenerator(
                tuple(map(tuple, sizes)), ((0.5, 1.0, 2.0),) * len(sizes)
            ),
            box_batch_size_per_image=roi_samples,
            box_score_thresh=score_thresh,
            box_nms_thresh=nms_iou,
            box_detections_per_img=detections,
        )
        norm = backbone.normalization
        self.peer.transform = AsItIs(1, 1, list(norm.mean), list(norm.std))
        self.backbone = nn.Identity()  # type: ignore[assignment]  # the peer has its own now
        self.backbone.weights_report = backbone.weights_report

    @classmethod
    def wants(cls, fpn: bool, settings: Mapping[str, Any]) -> Wants:
        return Wants(("2", "3", "4", "5", "6"))

    def forward(
        self, images: Tensor, targets: list[Targets] | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[Prediction]:
        valid = [tuple(images.shape[2:])] * len(images) if sizes is None else sizes.tolist()
        white = 1 if images.is_floating_point() else 255
        pictures = [i[:, :h, :w] / white for i, (h, w) in zip(images, valid, strict=True)]
        if targets is not None:
            kept = [t if t.crowd is None else t.select(~t.crowd) for t in targets]
            self.peer.train()  # torchvision's output depends on the mode; its norms are frozen
            return self.peer(pictures, [self.known(t) for t in kept])
        self.peer.eval()
        return [self.found(answer) for answer in self.peer(pictures)]

    def known(self, targets: Targets) -> dict[str, Tensor]:
        """What torchvision learns from."""
        return {"boxes": targets.boxes, "labels": targets.labels + 1}

    def found(self, answer: dict[str, Tensor]) -> Detections:
        """What torchvision answers."""
        return Detections(answer["boxes"], answer["scores"], answer["labels"] - 1)


@models.register("torchvision_mask_rcnn")
class TorchvisionMaskRCNN(TorchvisionFasterRCNN):
    """As `torchvision_faster_rcnn`, with torchvision's mask head of four convolutions."""

    task, needs = "segment_instances", frozenset({"boxes", "masks"})
    network = MaskRCNN

    def known(self, targets: Targets) -> dict[str, Tensor]:
        assert targets.masks is not None
        return super().known(targets) | {"masks": targets.masks}

    def found(self, answer: dict[str, Tensor]) -> Detections:
        masks = answer["masks"][:, 0]
        return replace(super().found(answer), masks=masks, mask_boxes=answer["boxes"])


class AsItIs(GeneralizedRCNNTransform):
    """Normalises and pads alone: our transforms have resized already, and our masks are pasted."""

    def resize(self, image, target=None):
        return image, target

    def postprocess(self, result, image_shapes, original_image_sizes):
        return result


def their_backbone(ours: FPN) -> BackboneWithFPN:
    """torchvision's modules with the weights, strides and frozen parts of ours."""
    depths = tuple(len(getattr(ours.body, f"layer{i}")) for i in (1, 2, 3, 4))
    trunk = TRUNKS[depths](norm_layer=FrozenBatchNorm2d)  # type: ignore[index]
    if getattr(ours.body, "stride_in_1x1", False):
        for layer in (trunk.layer2, trunk.layer3, trunk.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    channels = [ours.body.channels[level] for level in ("2", "3", "4", "5")]
    returned = {f"layer{i}": str(i - 1) for i in (1, 2, 3, 4)}
    width = next(iter(ours.channels.values()))
    theirs = BackboneWithFPN(trunk, returned, channels, width)
    state = {k: v for k, v in ours.state_dict().items() if "num_batches_tracked" not in k}
    theirs.load_state_dict(state)
    trained = {name: p.requires_grad for name, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_(trained[name])
    return theirs
