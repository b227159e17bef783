"""The maps of a frozen trunk, kept from one pass over the images to the next.

    image ─▶ sha256 of its pixels ─▶ there? ─▶ map
                                     └─ no ─▶ trunk ─▶ map, kept while there is room

Maps stay in memory, up to a number of bytes: those that came first, since passes come round to the
same images, of which a cache that drops the oldest would have none. An image that is flipped is
another one. What is kept is forgotten as soon as the trunk is not as it was.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from detkit.backbones.backbone import Backbone


class KeptMaps:
    """Maps by the pixels of their image.

    Args:
        limit: bytes that the maps may take.
    Attributes:
        bytes: that they take.
        made, found: images whose map was made, and whose map was there.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = self.made = self.found = 0
        self._maps: dict[bytes, Tensor] = {}
        self._trunk: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptMaps:
        return KeptMaps(self.limit)

    def __call__(self, backbone: Backbone, images: Tensor) -> Tensor:
        """The one map of each image, without a gradient.

        Each is made alone, so that it does not depend on the images that come with it.

        Args:
            images: (B, C, H, W), normalised.
        Returns:
            (B, D, h, w).
        """
        if (trunk := _state(backbone)) != self._trunk:
            self._maps, self.bytes, self._trunk = {}, 0, trunk
        with torch.no_grad():
            return torch.cat([self._of(backbone, image) for image in images.split(1)])

    def _of(self, backbone: Backbone, image: Tensor) -> Tensor:
        key = _key(image)
        if (kept := self._maps.get(key)) is not None:
            self.found += 1
            return kept.to(image.device)
        self.made += 1
        (made,) = backbone(image).values()
        size = made.numel() * made.element_size()
        if self.bytes + size <= self.limit:
            self._maps[key] = made.cpu()
            self.bytes += size
        return made


def _key(image: Tensor) -> bytes:
    """Of the pixels, their shape, and the precision that the map will have."""
    kind = image.device.type
    how = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else image.dtype
    total = hashlib.sha256(f"{tuple(image.shape)} {image.dtype} {how} {kind}".encode())
    total.update(image.cpu().contiguous().numpy().tobytes())
    return total.digest()


def _state(backbone: Backbone) -> Any:
    """What differs once a weight or a statistic was changed, in place or by another tensor, or a
    layer behaves otherwise.
    """
    tensors = [*backbone.parameters(), *backbone.buffers()]
    modes = [m.training for m in backbone.modules() if isinstance(m, (_NormBase, _DropoutNd))]
    return [(t.data_ptr(), t._version) for t in tensors], modes
