"""Weights from a file or from torchvision's published ones: what fits is taken, the rest told."""

from __future__ import annotations

import functools
import hashlib
import urllib.error
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision
from safetensors import safe_open
from torch import Tensor

from detkit import checkpoint, foreign
from detkit.backbones import darknet_weights, from_run
from detkit.backbones.backbone import Normalization, Tail, Trunk
from detkit.backbones.norms import STATISTICS, freeze_norms
from detkit.backbones.report import WeightsReport
from detkit.errors import DetkitError
from detkit.folders import in_home

WRAPPED = ("module.", "_orig_mod.", "model.")
COUNTER = "num_batches_tracked"
TAIL = "tail."  # in front of the keys of what is behind the last level
LOGITS = f"{TAIL}logits."  # and of a classifier's last layer there
# by the first digits of the file's sha256; torchvision's GoogLeNet rescales its input from
# ImageNet's mean and deviation to these
OTHER_NORMALIZATION = {"1378be20": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}


def load(
    trunk: Trunk, tail: Tail | None, known: frozenset[str], path: str | Path, norm: str
) -> WeightsReport:
    """Fill `trunk` and its tail from a file and freeze the norms that it filled.

    Args:
        path: a safetensors file, a state dict, or a checkpoint of any model here: its run folder,
            checkpoint folder or file.
        known: keys of the whole network, of which `trunk` may be a part.
        norm: with "train" the norms stay trainable.
    Raises:
        DetkitError: the file cannot be read, has a tensor of another shape, or none that fits.
    """
    path = checkpoint.find(path) if in_home(path).is_dir() else in_home(path)
    darknet = path.suffix == ".weights" or darknet_weights.is_partial(path)
    tensors, metadata = read_darknet(trunk, path) if darknet else read(path)
    trunk.check_metadata(metadata, str(path))
    normalization = trunk.normalization
    if from_run.is_run(tensors):
        from_run.check_settings(trunk, path)
        normalization = from_run.normalization_of(tensors)
        tensors = from_run.of_run(tensors, trunk.logits)
    tensors = trunk.adapted(tensors)
    parts = {"": trunk} if tail is None else {"": trunk, TAIL: tail}
    own = {f"{at}{key}": v for at, part in parts.items() for key, v in part.state_dict().items()}
    places = {key: _places(trunk, key, value, own) for key, value in tensors.items()}
    taken = {place: tensors[key] for key, where in places.items() for place in where}
    _check_fit(taken, own, tensors, path, trunk.in_channels)
    for at, part in parts.items():
        inside = {key.removeprefix(at): v for key, v in taken.items() if _is_of(key, at)}
        part.load_state_dict(inside, strict=False)
    if darknet:
        trunk.normalization = Normalization.plain(trunk.in_channels)
    else:
        trunk.normalization = OTHER_NORMALIZATION.get(_digits(path), normalization)

    frozen: list[str] = []
    if norm == "train":
        if "folded" in metadata.get("batch_norm", ""):
            warnings.warn(
                f"{path}: its batch norms are folded into the convolutions, so norm=train "
                "computes something else until it has seen enough images. "
                "Remedy: backbone.norm=auto.",
                stacklevel=2,
            )
    else:
        for at, part in parts.items():
            frozen += freeze_norms(part, functools.partial(_filled, taken, at))
    left = [key for key, where in places.items() if not where and not key.endswith(COUNTER)]
    unbuilt = (*trunk.classifier, f"{trunk.logits}.", from_run.OTHER)
    not_used = [key for key in left if key in known or key.startswith(unbuilt)]
    return WeightsReport(
        file=str(path),
        loaded=sum(bool(where) for key, where in places.items() if not key.endswith(COUNTER)),
        missing=tuple(key for key in own if key not in taken and not key.endswith(COUNTER)),
        not_used=tuple(not_used),
        unexpected=tuple(key for key in left if key not in not_used),
        norms_frozen=len(frozen),
        metadata=metadata,
    )


def _places(trunk: Trunk, key: str, tensor: Tensor, own: Mapping[str, Tensor]) -> list[str]:
    """Where a file's tensor belongs; a last layer of other classes nowhere."""
    last = f"{trunk.logits}."
    if key.startswith(last):
        place = LOGITS + key.removeprefix(last)
        return [place] if place in own and own[place].shape == tensor.shape else []
    return [place for at in ("", TAIL) if (place := f"{at}{key}") in own]


def _is_of(key: str, at: str) -> bool:
    return key.startswith(TAIL) == (at == TAIL)


def _filled(taken: Mapping[str, Tensor], at: str, norm: str) -> bool:
    return all(f"{at}{norm}.{statistic}" in taken for statistic in STATISTICS)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file or a PyTorch state dict, in float32, and its metadata.

    What a wrapper put before all names is taken off; the metadata say so (`stripped`). Nothing in
    the file is executed.
    """
    if not foreign.is_file(path):
        raise DetkitError(
            "No weights file there.", file=path, remedy="name a file (or none, or imagenet)."
        )
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            metadata = {}
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            for wrapper in ("state_dict", "model"):  # how training scripts store it
                if isinstance(tensors, Mapping) and isinstance(tensors.get(wrapper), Mapping):
                    tensors = tensors[wrapper]
    except Exception as error:  # torch's unpickler raises anything, even KeyError, on other files
        raise _no_weights(path, str(error).split(". ")[0].partition("\n")[0]) from error
    if not isinstance(tensors, Mapping) or not tensors:
        raise _no_weights(path, "it holds no tensors by name")
    if odd := [str(key) for key, value in tensors.items() if not isinstance(value, Tensor)]:
        raise _no_weights(path, f"{odd[0]} is not a tensor")
    tensors, prefix = stripped(tensors)
    metadata = {**metadata, **({"stripped": prefix} if prefix else {})}
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, metadata


def stripped(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors without what DataParallel, torch.compile or a trainer puts before every name.

    Returns:
        them, and what was taken off.
    """
    taken = ""
    while prefix := next((p for p in WRAPPED if all(k.startswith(p) for k in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        taken += prefix
    return dict(tensors), taken


def read_darknet(trunk: Trunk, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The same of a Darknet weights file, which only the network's own order gives names to."""
    if not trunk.darknet_layout:
        raise DetkitError(
            f"This is no weights file for {type(trunk).__name__}: it is one of Darknet's.",
            file=path,
            remedy="choose the Darknet backbone that the file is of, or darknet_cfg with its .cfg.",
        )
    header, tensors = darknet_weights.read(path, trunk.darknet_layout, more=not trunk.darknet_exact)
    version = f"{header.major}.{header.minor}.{header.revision}"
    return tensors, {"darknet_version": version, "darknet_seen": str(header.seen)}


def _digits(path: Path) -> str:
    return hashlib.sha256(foreign.read_bytes(path)).hexdigest()[:8]


def find_imagenet(name: str, allow_download: bool) -> Path:
    """torchvision's published ImageNet file of the network `name`, on this machine.

    Raises:
        DetkitError: there is none published, or none here and it may not be downloaded.
    """
    try:
        entries = list(torchvision.models.get_model_weights(name))
    except ValueError:
        raise DetkitError(
            f"torchvision publishes no ImageNet weights of {name}.",
            remedy="set backbone.weights to a file, or to none.",
        ) from None
    urls = [entry.url for entry in entries if entry.name.startswith("IMAGENET1K_V")]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    folders = [Path("weights").resolve(), Path(__file__).parents[2] / "weights", cache]
    for url in urls:
        for folder in folders:
            if (file := folder / Path(url).name).is_file():
                return file
    if allow_download:
        return _download(urls[0], cache)
    looked = ", ".join(dict.fromkeys(map(str, folders)))
    raise DetkitError(
        f"No {' or '.join(Path(url).name for url in urls)} in {looked}.",
        remedy=f"put it there (from {urls[0]}), or set allow_download=true.",
    )


def _download(url: str, folder: Path) -> Path:
    file = folder / Path(url).name
    folder.mkdir(parents=True, exist_ok=True)
    try:  # the published name ends in the first digits of the file's sha256
        torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rpartition("-")[2])
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise DetkitError(
            f"The download failed: {error}", file=url, remedy=f"fetch it by hand into {folder}."
        ) from error
    return file


def _check_fit(
    taken: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    path: Path,
    in_channels: int,
) -> None:
    if not any(not key.endswith(COUNTER) for key in taken):
        theirs, ours = sorted(tensors)[0], sorted(own)[0]
        raise DetkitError(
            f"Nothing in it fits: it has tensors like {theirs}, this network like {ours}.",
            file=path,
            remedy="choose the backbone that the file is of, "
            "or weights=PATH (not backbone.weights) for a whole model's checkpoint.",
        )
    for key, tensor in taken.items():
        held, wanted = tensor.shape, own[key].shape
        if held != wanted:
            remedy = "choose the backbone that the file is of, at its width (backbone.width)."
            first = len(wanted) == 4 and wanted[1] == in_channels
            if first and (held[0], *held[2:]) == (wanted[0], *wanted[2:]):
                remedy = f"set backbone.in_channels={held[1]}: the file is of such pictures."
            raise DetkitError(
                f"Its shape is {tuple(held)}, the network's {tuple(wanted)}.",
                file=path,
                record=key,
                remedy=remedy,
            )


def _no_weights(path: Path, why: str) -> DetkitError:
    return DetkitError(
        f"This is no weights file ({why}).",
        file=path,
        remedy="name a safetensors file or a PyTorch state dict.",
    )
