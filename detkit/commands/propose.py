"""`detkit propose`: makes the proposals of a data set, writes them, and measures them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detkit import foreign
from detkit.atomic import write_json
from detkit.data.open import open_dataset, split_name
from detkit.data.records import Records
from detkit.errors import DetkitError
from detkit.evaluation.proposals import Figures, proposal_figures, proposal_table
from detkit.evaluation.text import number
from detkit.folders import dated, in_home, make_folder
from detkit.proposals import files
from detkit.proposals.data_set import Proposed
from detkit.proposals.data_set import propose as propose_all
from detkit.proposals.proposer import Proposer, proposers

NUMBERS = (100, 300, 1000, 2000)  # of boxes that the table shows, as far as there are so many
WRITERS = {"npz": files.write_npz, "json": files.write_json}


def propose(settings: Any) -> dict[str, Any]:
    """Writes `proposals.npz` or `.json` and `results.json`, and prints a table.

    Ctrl-C keeps what is in the cache: the next call goes on from there.

    Args:
        settings: `ProposeSettings`, see conf/propose.yaml.
    Returns:
        What `results.json` holds: figures as fractions of 1.
    Raises:
        DetkitError: no data, no such proposer, images that cannot be read, or files of others in
            the folder.
    """
    if settings.dataset is None:
        raise DetkitError("There are no images.", remedy="set dataset.root to the data set.")
    proposer, arguments = build(settings)
    split = settings.split or split_name(settings.dataset, "val")
    records = open_dataset(settings.dataset, split)
    output = in_home(settings.output) if settings.output else dated("proposals", "output")
    written = output / f"proposals.{settings.format}"
    _check_free(output, written)
    told = ", ".join(f"{key} {value}" for key, value in arguments.items() if value is not None)
    print(
        f"proposing by {settings.proposer} ({told}) for {number(len(records), 'image')} of {split}"
        f" ({records.source}) → {output}",
        flush=True,
    )
    reads = isinstance(proposer, files.ProposalsFile)  # no work to be shared out
    found = list(propose_all(proposer, records, workers=0 if reads else settings.workers))
    ids = [records.image_id(i) for i in range(len(records))]
    WRITERS[settings.format](written, dict(zip(ids, (one.boxes for one in found), strict=True)))
    figures: dict[str, Any] = {
        **_measured(records, found),
        **_left_out(proposer),
        "images": len(records),
        "split": split,
        "data": records.source,
        "proposer": settings.proposer,
        **{f"proposer.{key}": value for key, value in arguments.items()},
    }
    write_json(output / "results.json", figures)
    recall, mabo = (figures[f"proposals/{key}"] for key in ("recall@0.5", "MABO"))
    shown = "no objects to cover" if mabo is None else f"recall@0.5 {recall:.3f}, MABO {mabo:.3f}"
    print(f"done: {shown} on {split}.  See {written}")
    return figures


def build(settings: Any) -> tuple[Proposer, dict[str, Any]]:
    """The proposer that the settings name, and those of them that it takes.

    Raises:
        DetkitError: no such proposer, or a file for one that reads none.
    """
    known = proposers.settings(settings.proposer)
    given = {key: getattr(settings, key) for key in ("mode", "seed", "folder", "path", "at_most")}
    for key in ("path", "folder"):
        if given[key] is not None and key not in known:
            raise DetkitError(
                f"proposer={settings.proposer} takes no {key}.",
                remedy=f"leave {key}= out, or choose a proposer that takes it.",
            )
    arguments = {key: value for key, value in given.items() if key in known}
    return proposers[settings.proposer](**arguments), arguments


def _measured(records: Records, found: list[Proposed]) -> Figures:
    """Prints the table, boxes and seconds; gives them as figures."""
    boxes = [one.boxes for one in found]
    most = max(map(len, boxes), default=0)
    numbers = [*(number for number in NUMBERS if number < most), None]
    figures = proposal_figures(records, boxes, numbers=numbers)
    print(f"\n{proposal_table(figures, numbers=numbers)}\n")
    if boxes:
        print(f"{np.mean([len(b) for b in boxes]):,.0f} boxes an image, {most:,} at most.")
    for note in records.notes:
        print(f"note: {note}")
    fresh = [one.seconds for one in found if not one.cached]
    figures["seconds"] = float(np.median(fresh)) if fresh else None
    if fresh:
        print(f"{figures['seconds']:.2f} CPU seconds an image (median of {len(fresh):,}).")
    if cached := len(found) - len(fresh):
        print(f"in the cache: {number(cached, 'image')}.")
    return figures


def _left_out(proposer: Proposer) -> dict[str, int]:
    """Tells and gives what became of a file's boxes that reach beyond their image."""
    if not isinstance(proposer, files.ProposalsFile):
        return {}
    if proposer.clipped or proposer.dropped:
        print(
            f"note: {proposer.clipped:,} boxes were cut at the image's border, {proposer.dropped:,}"
            " without extent inside it dropped."
        )
    return {"clipped": proposer.clipped, "dropped": proposer.dropped}


def _check_free(output: Path, written: Path) -> None:
    """Makes the folder.

    Raises:
        DetkitError: it cannot be made, or a file in it that `propose` has not written would be
            replaced.
    """
    make_folder(output, "output")
    results = output / "results.json"
    for file in (results, written):
        if file.exists() and not _is_ours(results):
            raise DetkitError(
                "The proposals would replace this file, which is not propose's.",
                file=file,
                remedy="choose another folder with output=DIR.",
            )


def _is_ours(results: Path) -> bool:
    try:
        return {"split", "data", "proposer"} <= foreign.read_json(results).keys()
    except (OSError, ValueError, AttributeError, RecursionError, DetkitError):
        return False
