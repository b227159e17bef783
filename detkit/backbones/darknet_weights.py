"""Darknet's .weights files: a header, then the numbers of each convolution one after the other.

    major minor revision (int32 each) │ images seen (int64; int32 before version 0.2)
    of each convolution, float32:  biases │ scales, means, variances of its norm │ weights

There are no names and no shapes in it: the network says what the numbers are, so their count is
compared before anything is read. Source: Darknet's parser, `load_weights_upto`.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detkit import atomic, foreign
from detkit.errors import DetkitError

Convolution = Mapping[str, tuple[int, ...]]  # key in the state dict → shape, in the file's order


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        major, minor, revision: of the format; 0.2.5 is what Darknet writes since 2018.
        seen: images that the training had seen.
    """

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    def encode(self) -> bytes:
        version = struct.pack("<3i", self.major, self.minor, self.revision)
        return version + struct.pack("<q" if self.wide else "<i", self.seen)

    @property
    def wide(self) -> bool:
        """Whether the counter of images has 8 bytes."""
        return self.major * 10 + self.minor >= 2


def layout(module: nn.Module) -> Sequence[Convolution]:
    """The convolutions of a network in its modules' order, each with the norm behind it."""
    found: list[dict[str, tuple[int, ...]]] = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            bias = {f"{name}.bias": tuple(part.bias.shape)} if part.bias is not None else {}
            found.append({**bias, f"{name}.weight": tuple(part.weight.shape)})
        elif isinstance(part, nn.BatchNorm2d):
            keys = ("bias", "weight", "running_mean", "running_var")
            found[-1] = {f"{name}.{key}": (part.num_features,) for key in keys} | found[-1]
    return found


def count(convolutions: Sequence[Convolution]) -> int:
    """The float32 numbers of these convolutions in a file."""
    return sum(int(np.prod(shape)) for one in convolutions for shape in one.values())


def is_partial(path: str | Path) -> bool:
    """Whether a file's name is that of a network's first layers: darknet53.conv.74."""
    stem, _, layers = Path(path).name.rpartition(".conv.")
    return bool(stem) and layers.isdecimal()


def read(
    path: str | Path, convolutions: Sequence[Convolution], *, more: bool = False
) -> tuple[Header, dict[str, Tensor]]:
    """The header and the tensors of a file, by the names of the network's state dict.

    A file called NAME.conv.N holds the first convolutions only, and fills those.

    Args:
        convolutions: of the network, in the file's order.
        more: whether the file may hold further layers behind them (a trunk of any network).
    Raises:
        DetkitError: no such file, of another size than the network's, or of another network.
    """
    path = Path(path)
    try:
        data = foreign.read_bytes(path)
    except OSError as error:
        raise DetkitError(
            f"It cannot be read ({error.strerror or error}).",
            file=path,
            remedy="name a Darknet weights file.",
        ) from error
    header, size = decode_header(data, path)
    wanted = size + 4 * count(convolutions)
    if is_partial(path):
        convolutions = _whole_ones(convolutions, (len(data) - size) // 4) or convolutions
    end = size + 4 * count(convolutions)
    fits = len(data) == end or (more and end == wanted < len(data))
    if not fits:
        raise DetkitError(
            f"It has {len(data):,} bytes; {'at least ' if more else ''}{wanted:,} are those of "
            f"the network: {size} of the header, 4 for each of {(wanted - size) // 4:,} numbers.",
            file=path,
            remedy="choose the network that the file is of (another number of classes has other "
            "filters in front of each [yolo]), or copy the file again if it was cut.",
        )
    values = np.frombuffer(data, "<f4", offset=size)
    tensors: dict[str, Tensor] = {}
    start = 0
    for one in convolutions:
        for key, shape in one.items():
            end = start + int(np.prod(shape))
            tensors[key] = torch.from_numpy(values[start:end].astype(np.float32)).reshape(shape)
            start = end
    _check_variances(tensors, path)
    return header, tensors


def decode_header(data: bytes, file: str | Path) -> tuple[Header, int]:
    """The header at the beginning of a file, and its bytes."""
    if len(data) >= 16:
        major, minor, revision, seen = struct.unpack_from("<4i", data)
        header = Header(major, minor, revision, seen)
        if 0 <= major < 1000 and 0 <= minor < 1000:
            if not header.wide:
                return header, 16
            if len(data) >= 20:
                return dataclasses.replace(header, seen=struct.unpack_from("<q", data, 12)[0]), 20
    raise DetkitError(
        f"It does not begin with a Darknet version ({data[:12].hex(' ') or 'it is empty'}).",
        file=file,
        remedy="name a Darknet weights file; one of a version above 1000 is transposed, "
        "which is not read here.",
    )


def encode(
    state: Mapping[str, Tensor], convolutions: Sequence[Convolution], header: Header
) -> bytes:
    """The bytes of a file: the inverse of `read`.

    Args:
        state: of the network, its norms frozen or not.
        convolutions: `layout` of it.
    Raises:
        DetkitError: the network lacks a layer (a backbone keeps only those that it needs).
    """
    if missing := [key for one in convolutions for key in one if key not in state]:
        raise DetkitError(
            f"The network has no {missing[0]}, which belongs into a Darknet file.",
            remedy="write the whole network, built with all its levels.",
        )
    parts = [header.encode()]
    for one in convolutions:
        parts += [state[key].detach().cpu().numpy().astype("<f4").tobytes() for key in one]
    return b"".join(parts)


def write(
    path: str | Path,
    state: Mapping[str, Tensor],
    convolutions: Sequence[Convolution],
    header: Header,
) -> None:
    """A file with these tensors, whole or not at all."""
    atomic.write_bytes(path, encode(state, convolutions, header))


def _whole_ones(convolutions: Sequence[Convolution], numbers: int) -> list[Convolution]:
    """The first convolutions that so many numbers fill."""
    first: list[Convolution] = []
    for one in convolutions:
        numbers -= count([one])
        if numbers < 0:
            break
        first.append(one)
    return first


def _check_variances(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Numbers of another network fall into the wrong places: some variance is negative then."""
    for key, tensor in tensors.items():
        if key.endswith(".running_var") and not bool((tensor >= 0).all()):
            raise DetkitError(
                f"A variance is {float(tensor.min()):.3g}, so the numbers are not those of "
                "this network.",
                file=path,
                record=key,
                remedy="choose the network that the file is of.",
            )
