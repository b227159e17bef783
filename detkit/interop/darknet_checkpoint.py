"""Darknet's files as a checkpoint: NAME.weights, NAME.cfg and NAME.names, in and out.

Where the classes form a tree (YOLO9000), a NAME.tree as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detkit import atomic, foreign
from detkit.backbones import darknet_weights
from detkit.backbones.build import self_contained
from detkit.backbones.darknet_cfg import DarknetCfg
from detkit.backbones.darknet_layers import OUTPUTS
from detkit.backbones.darknet_outputs import Output
from detkit.backbones.darknet_sections import Section, cfg_text, sections
from detkit.backbones.darknet_weights import Header
from detkit.data.transforms import transforms
from detkit.errors import DetkitError
from detkit.folders import in_home, make_folder
from detkit.interop import darknet
from detkit.interop.hierarchy import read_classes
from detkit.models.build import build
from detkit.models.darknet_cfg import DarknetNetwork
from detkit.models.model import Model, models
from detkit.restore import NOTHING, Beside, Restored, readers
from detkit.structures import Classes

LONGEST = 2**13  # pixels a side of the network's image
SIDE = 416  # of the network's image, where [net] says none
LETTERBOX = False  # where [net] says nothing of letter_box: as its present code, and OpenCV
OF_SELECTION = (
    "score_thresh",
    "nms_iou",
    "detections",
    "tree_thresh",
)  # settings that no .cfg holds


@readers.register(".weights")
def read(file: Path, beside: Beside = NOTHING) -> Restored:
    """The detector of a weights file.

    Returns:
        The model, and meta data as of a checkpoint: `config` (model, backbone, transforms),
        `names`, `category_ids` and `darknet`, the file's version and how many images its training
        had seen.
    Raises:
        DetkitError: no description or names beside it, or files that do not belong together.
    """
    cfg = _cfg_of(file, beside.cfg)
    head = sections(cfg_text(cfg), str(cfg))[0]
    channels = head.integer("channels", 3, 1)
    settings = {"name": "darknet_cfg", "cfg": str(cfg), "in_channels": channels}
    with torch.device("meta"):  # to know how many names there have to be
        drawn = DarknetCfg(cfg=str(cfg), in_channels=channels)
    classes = _classes_of(file, beside.names, drawn.outputs[0])
    model = build({"name": "darknet_cfg"}, settings, classes)
    assert isinstance(model.backbone, DarknetCfg)
    header = darknet.load(model.backbone, file)
    boxed = beside.letterbox
    if boxed is None:
        boxed = bool(head.integer("letter_box", int(LETTERBOX), 0, 1))
    size = {side: head.integer(side, SIDE, 1, LONGEST) for side in ("width", "height")}
    prepared = {"name": "darknet", **size, "letterbox": boxed}
    config = {
        "model": {"name": "darknet_cfg"},
        "backbone": self_contained(settings),
        "transforms": prepared,
    }
    version = f"{header.major}.{header.minor}.{header.revision}"
    return model, {
        "config": config,
        "names": list(classes.names),
        "category_ids": list(classes.category_ids),
        **({} if classes.parents is None else {"parents": list(classes.parents)}),
        "darknet": {"version": version, "seen": header.seen},
    }


@readers.register(".cfg")
def weights_missing(file: Path, beside: Beside = NOTHING) -> Restored:
    """
    Raises:
        DetkitError: always: a description alone is no checkpoint.
    """
    raise DetkitError(
        "It describes a network, but has no weights.",
        file=file,
        remedy=f"name the weights ({file.with_suffix('.weights').name}), or train some: detkit"
        f" train model=darknet_cfg backbone.cfg={file.name}.",
    )


def write(model: Model, meta: Mapping[str, Any], folder: Path) -> tuple[list[Path], list[str]]:
    """NAME.cfg, .weights, .names, and .tree if there is one, in a folder, whose own name is NAME.

    Args:
        meta: of the model's checkpoint.
    Returns:
        The files, and notes: what of the run Darknet's files do not hold.
    Raises:
        DetkitError: a model that is none of Darknet's, pictures or names that its files cannot
            describe, or files that are there.
    """
    if not isinstance(model, DarknetNetwork):
        raise DetkitError(
            f"{meta['config']['model']['name']} is no network of Darknet's.",
            remedy="export a run of model=darknet_cfg.",
        )
    assert isinstance(model.backbone, DarknetCfg)
    stem = folder.absolute().name
    names = _checked(meta["names"])
    header = Header(seen=meta.get("darknet", {}).get("seen", 0))
    state, layout = model.backbone.state_dict(), model.backbone.darknet_layout
    data = {
        "cfg": description(model, meta, stem).encode(),
        "weights": darknet_weights.encode(state, layout, header),
        "names": "".join(f"{name}\n" for name in names).encode(),
    }
    if (parents := model.class_list.parents) is not None:
        words = ("_".join(name.split()) for name in names)  # Darknet reads up to the first space
        pairs = zip(words, parents, strict=True)
        data["tree"] = "".join(f"{word} {parent}\n" for word, parent in pairs).encode()
    files = [folder / f"{stem}.{suffix}" for suffix in data]
    if there := [file for file in files if file.exists()]:
        raise DetkitError(
            "A file of that name is there.", file=there[0], remedy="choose another output=DIR."
        )
    make_folder(folder, "output")
    for file, content in zip(files, data.values(), strict=True):
        atomic.write_bytes(file, content)
    chosen = models.complete("darknet_cfg", meta["config"]["model"])
    usual = models.complete("darknet_cfg", {})
    notes = [f"model.{k}={chosen[k]} is not in these files" for k in OF_SELECTION
             if chosen[k] != usual[k]]  # fmt: skip
    return files, notes


def description(model: DarknetNetwork, meta: Mapping[str, Any], stem: str) -> str:
    """The text of a .cfg that builds the network as it is, for pictures as it gets them.

    Args:
        stem: name of the files, for that of the tree.
    """
    backbone = model.backbone
    assert isinstance(backbone, DarknetCfg)
    settings = meta["config"]["transforms"]
    if settings["name"] != "darknet":
        raise DetkitError(
            f"The run's pictures are prepared by transforms={settings['name']}, which no .cfg "
            "describes.",
            remedy="train with transforms=darknet (width, height, letterbox).",
        )
    prepared = transforms.complete("darknet", settings)
    head, *parts = sections(self_contained(meta["config"]["backbone"])["text"], "backbone.text")
    changed: dict[str, Any] = {side: prepared[side] for side in ("width", "height")}
    changed |= {"channels": backbone.in_channels, "letter_box": int(prepared["letterbox"])}
    blocks = [_block(head, changed)]
    for section in parts:
        changed = {}
        if section.name in OUTPUTS:
            tree = None if model.class_list.parents is None else f"{stem}.tree"
            changed = {"classes": model.num_classes, "tree": tree, "map": None}
        elif str(section.layer) in backbone.layers:
            for part in backbone.layers[str(section.layer)].modules():
                if isinstance(part, nn.Conv2d):
                    changed = {"filters": part.out_channels}
                    changed |= {"groups": part.groups} if part.groups > 1 else {}
        blocks.append(_block(section, changed))
    return "\n".join(blocks)


def _block(section: Section, changed: Mapping[str, Any]) -> str:
    """The section with other values; None drops an option."""
    options = {k: v for k, v in {**section.options, **changed}.items() if v is not None}
    return "\n".join([f"[{section.name}]", *(f"{k}={v}" for k, v in options.items()), ""])


def _cfg_of(file: Path, named: str | None) -> Path:
    if named is not None:
        return in_home(named)
    cfg = file.with_suffix(".cfg")
    if not foreign.is_file(cfg):
        raise DetkitError(
            f"Its description {cfg.name} is not beside it.",
            file=file,
            remedy="put it there; predict, evaluate and detkit.load also take it as cfg=FILE.",
        )
    return cfg


def _classes_of(file: Path, named: str | None, output: Output) -> Classes:
    """The classes, a tree of them where the output has one."""
    if not output.settings.get("tree"):
        return Classes.of(_names_of(file, named, output.classes))
    tree = (file if named is None else in_home(named)).with_suffix(".tree")
    if not foreign.is_file(tree):
        raise DetkitError(
            f"Its classes form a tree, but there is no {tree.name}.",
            file=file,
            remedy="put Darknet's .tree there (9k.tree for yolo9000), with its .names beside it;"
            " predict, evaluate and detkit.load also take it as names=FILE.",
        )
    classes = read_classes(tree)
    if len(classes) != output.classes:
        raise DetkitError(
            f"It has {len(classes):,} classes, but the network {output.classes:,}.",
            file=tree,
            remedy="choose the tree that belongs to the network.",
        )
    return classes


def _names_of(file: Path, named: str | None, count: int) -> tuple[str, ...]:
    """The class names: of the file that is named, has the same stem, or alone fits.

    Raises:
        DetkitError: none, several, or of another number than the network's.
    """
    own = file.with_suffix(".names") if named is None else in_home(named)
    remedy = (
        f"call the file with a class on each line {own.name}; predict, evaluate and detkit.load"
        " also take it as names=FILE."
    )
    if named is not None or foreign.is_file(own):
        names = darknet.read_names(own)
        if len(names) != count:
            raise DetkitError(
                f"It has {len(names)} names, but the network {count} classes.",
                file=own,
                remedy=f"name the file with a class on each line, {count} of them.",
            )
        return _different(names, own)
    fitting = {}
    for other in sorted(file.parent.glob("*.names")):
        with suppress(DetkitError):  # one that is no list of names is not of this network
            if len(names := darknet.read_names(other)) == count:
                fitting[other] = names
    if len(fitting) != 1:
        found = ", ".join(path.name for path in fitting) or "none"
        raise DetkitError(
            f"There is no {own.name}, and of the other .names beside it not one alone has {count} "
            f"lines ({found}).",
            file=file,
            remedy=remedy,
        )
    other, names = fitting.popitem()
    return _different(names, other)


def _different(names: tuple[str, ...], file: Path) -> tuple[str, ...]:
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if name in seen:
            raise DetkitError(
                f"Two classes are called {name!r}.",
                file=file,
                record=f"line {number}",
                remedy="give each class a name of its own.",
            )
        seen.add(name)
    return names


def _checked(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name != name.strip() or len(name.splitlines()) != 1:
            raise DetkitError(
                f"The class {name!r} is no line of a .names file.",
                remedy="rename it in the data, and train anew.",
            )
    return names
