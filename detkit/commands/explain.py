"""`detkit explain`: pictures of the inside of a model, as files and as one page."""

from __future__ import annotations

from typing import Any

from detkit import restore, stored
from detkit.data import images
from detkit.data.transforms import build as build_transform
from detkit.errors import DetkitError
from detkit.evaluation.thresholds import DEFAULT, thresholds_of
from detkit.explain import page
from detkit.explain.sections import Explained, Wanted, of_model, ready
from detkit.folders import dated, in_home, make_folder
from detkit.inference.published import imagenet_names
from detkit.inference.sources import Item, Picture
from detkit.models.build import build
from detkit.models.model import models
from detkit.structures import Classes

ALONE = {"name": "classifier"}, {"name": "classification"}  # model and transforms of a bare network
NUMBERED = 3  # classes of a model that nobody trained


def explain(settings: Any) -> dict[str, Any]:
    """Writes the page and its pictures into `settings.output`.

    Args:
        settings: `ExplainSettings`, see conf/explain.yaml.
    Returns:
        `pictures`, how many, and `page`, its path.
    Raises:
        DetkitError: nothing to explain or two things, a picture that cannot be read, an unknown
            layer, or a folder with other files.
    """
    if settings.checkpoint is not None and (settings.model or settings.backbone):
        raise DetkitError(
            "There are two things to explain.",
            remedy="give checkpoint=PATH, or backbone=NAME (and model=NAME), one of them.",
        )
    explained, title, least = _trained(settings) if settings.checkpoint else _untrained(settings)
    layers = [settings.layers] if isinstance(settings.layers, str) else settings.layers
    wanted = Wanted(
        layers,
        settings.answer,
        settings.boxes,
        settings.numbers,
        settings.filter,
        settings.regions,
        least if settings.score_thresh is None else settings.score_thresh,
    )
    if settings.output:
        page.check_free(in_home(settings.output))
    source = _picture(settings.source, explained.model.mean_std.shape[1])
    sections = of_model(explained, source, wanted)
    output = in_home(settings.output) if settings.output else dated("explanations", "output")
    make_folder(output, "output")
    notes = explained.notes()
    parameters = sum(p.numel() for p in explained.model.parameters())
    lead = [f"{parameters:,} parameters, {len(explained.names)} classes.", *notes]
    if source is not None:
        lead.insert(0, f"Picture: {source.item.file}")
    file = page.write(output, title, lead, sections)
    count = sum(len(section.pictures) for section in sections)
    for note in notes:
        print(f"note: {note}")
    print(f"done: {count} pictures of {title} → {file}")
    return {"pictures": count, "page": str(file)}


def _trained(settings: Any) -> tuple[Explained, str, float]:
    """A checkpoint, and the score from which on its detections count."""
    model, meta = restore.load_model(settings.checkpoint)
    transform = stored.transform_of(meta, settings.checkpoint)
    ready(model)
    name = f"{meta['config']['model']['name']} on {meta['config']['backbone']['name']}"
    least = thresholds_of(None, meta.get("operating_point"), meta["names"]).overall
    return Explained(model, tuple(meta["names"]), transform, trained=True), name, least


def _untrained(settings: Any) -> tuple[Explained, str, float]:
    """A published network, or a random one."""
    if settings.backbone is None:
        raise DetkitError(
            "There is nothing to explain.",
            remedy="give checkpoint=RUN, or a network by backbone=NAME, with backbone.weights=FILE"
            " if there are some.",
        )
    config, transforms = settings.model or ALONE[0], settings.transforms or ALONE[1]
    pictures = "image_labels" in models.part(config["name"]).needs
    classes = Classes.of(imagenet_names()) if pictures else Classes.numbered(NUMBERED)
    model = build(config, settings.backbone, classes, settings.allow_download)
    ready(model)
    transform = build_transform(transforms, train=False)
    name = f"{config['name']} on {settings.backbone['name']}"
    return Explained(model, classes.names, transform, trained=False), name, DEFAULT


def _picture(source: str | None, channels: int) -> Picture | None:
    if source is None:
        return None
    path = in_home(source)
    return Picture(images.read_as(path, channels), Item(str(path), path.stem, False))
