"""`detkit export`: a checkpoint in another program's files."""

from __future__ import annotations

from typing import Any

from detkit import checkpoint, restore
from detkit.evaluation.text import number
from detkit.folders import in_home
from detkit.interop import darknet_checkpoint

FORMATS = {"darknet": darknet_checkpoint.write}


def export(settings: Any) -> dict[str, Any]:
    """Writes the files, and says which.

    Args:
        settings: `ExportSettings`, see conf/export.yaml.
    Returns:
        `files`, their paths.
    Raises:
        DetkitError: no checkpoint, a model that the format does not know, or files in the way.
    """
    model, meta = restore.load_model(settings.checkpoint)
    folder = checkpoint.find(settings.checkpoint).parent
    run = folder.parent if folder.name in ("best", "last") else folder
    output = in_home(settings.output) if settings.output else run / settings.format
    files, notes = FORMATS[settings.format](model, meta, output)
    for note in notes:
        print(f"note: {note}")
    classes = number(len(meta["names"]), "class")
    print(f"done: {meta['config']['model']['name']}, {classes} → {output}")
    print(f"  {', '.join(file.name for file in files)}")
    return {"files": [str(file) for file in files]}
