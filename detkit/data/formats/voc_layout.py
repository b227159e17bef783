"""Where the XML files, the pictures and the lists of a VOC data set are, in its layouts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from detkit.data import alike, named, splits
from detkit.data.formats import BOXES, Needs
from detkit.errors import DetkitError
from detkit.folders import in_home

LISTS = ("ImageSets", "splits", "")  # where lists are when there is no ImageSets/Main
_FLAGGED = re.compile(r"^(.*?)\s+(-1|0|1)$")  # a line of a class's list: `000012  1`
_NO_PICTURES = ("segmentation", "mask", "trimap")  # folders whose PNGs are labels


@dataclass
class Part:
    """One year of a devkit, one split's folder, or the whole data set.

    Attributes:
        xml, pictures: path from the data set's root, by file stem; for pixels `xml` is the masks.
        lists: by split name its list, or the lists of all classes that make up the split.
        default: the folder where a picture that is missing would be.
        bare: stems of pictures without XML that lie among those with it: they have no objects.
    """

    xml: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[Path]] = field(default_factory=dict)
    default: str = "JPEGImages"
    bare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.pictures = alike.respelt(self.pictures, self.xml)

    @property
    def stems(self) -> list[str]:
        return [*self.xml, *self.bare]

    @cached_property
    def by_form(self) -> dict[str, str]:
        return alike.by_form({*self.xml, *self.pictures})


@dataclass
class Layout:
    """Where things are below a root. `kind` says what the names of the parts are."""

    root: Path
    kind: str  # "years", "folders" (one per split), or "one"
    parts: dict[str, Part]

    @staticmethod
    def of(root: Path, needs: Needs = BOXES) -> Layout:
        if "pixels" in needs:
            return Layout._years(root, pixel_homes(root), needs)
        found = annotation_folders(root)
        if not found:
            raise DetkitError(
                "There are no XML annotations.",
                file=root,
                remedy="set dataset.root to their folder.",
            )
        if found[0].name == "Annotations":
            layout = Layout._years(root, [folder.parent for folder in found], needs)
            if len(layout.parts) == 1 or layout.splits():
                return layout
        by_word: dict[str, list[Path]] = {}
        for folder in found:
            by_word.setdefault(splits.word_of(folder, root) or "", []).append(folder)
        kind = "one" if "" in by_word else "folders"
        groups = {"": found} if kind == "one" else by_word
        return Layout(root, kind, {w: _loose(root, w, fs) for w, fs in groups.items()})

    @staticmethod
    def _years(root: Path, homes: list[Path], needs: Needs) -> Layout:
        if not homes:
            raise DetkitError(
                "There is no SegmentationClass folder.", file=root, remedy="correct dataset.root."
            )
        parts = {os.path.relpath(home, root): _official(root, home, needs) for home in homes}
        return Layout(root, "years" if len(parts) > 1 else "one", parts)

    def splits(self) -> list[str]:
        if self.kind == "folders":
            return list(self.parts)
        prefix = self.kind == "years"
        return [
            f"{key}/{name}" if prefix else name for key, p in self.parts.items() for name in p.lists
        ]

    def members(self, split: str) -> tuple[list[tuple[Part, str]], str]:
        """(part, stem) of each image of a split, and how the split came about."""
        as_path = in_home(split)
        for path in (as_path, self.root / split):
            if path.suffix and splits.is_file(path):
                parts = list(self.parts.values())
                return list(_of_list(parts, path)), f"the list {split}"
        if self.kind == "folders":
            keys = [self._known(term) for term in split.split("+")]
            members = [(self.parts[k], stem) for k in keys for stem in self.parts[k].stems]
            return members, f"the folders of {split}"
        if not self.splits():
            part = next(iter(self.parts.values()))
            chosen, how = splits.by_hash(stems := sorted(part.stems), split, self.root)
            return [(part, stems[i]) for i in chosen], how
        listed: dict[tuple[int, str], tuple[Part, str]] = {}
        for term in split.split("+"):
            key, _, name = self._known(term).rpartition("/")
            part = self.parts[key] if self.kind == "years" else next(iter(self.parts.values()))
            for path in part.lists[name]:
                of_list = _of_list([part], path, every=path.stem != name)
                listed.update({(id(member[0]), member[1]): member for member in of_list})
        return list(listed.values()), f"the list {split}"

    def _known(self, term: str) -> str:
        known = self.splits()
        year = [k for k in known if k.endswith(f"{term}")] if "/" in term else []
        name = splits.find(term, known) or (year[0] if len(year) == 1 else None)
        if name is None:
            raise splits.missing(term, known, self.root)
        return name


def _of_list(parts: list[Part], path: Path, every: bool = False) -> Iterator[tuple[Part, str]]:
    """The images of a list: a line is a stem, a path, or either with a class's flag.

    Args:
        every: also those with the devkit's flag for an image without that class, −1.
    """
    for line in splits.read_list(path):
        flagged = _FLAGGED.match(line)
        bare = _stems(flagged[1]) if flagged else []
        names = [*_stems(line), *bare]
        found = [(p, n) for n in names for p in parts if n in p.xml or n in p.pictures]
        if not found:
            forms = map(alike.form, names)
            found = [(p, n) for form in forms for p in parts if (n := p.by_form.get(form))]
        meant = found[0] if found else (parts[0], bare[0] if every and bare else line)
        by_flag = not found or alike.form(meant[1]) in map(alike.form, bare)
        if every or not (flagged and flagged[2] == "-1" and by_flag):
            yield meant


def _stems(name: str) -> list[str]:
    """What a line of a list may call an image, its path first."""
    texts = named.spellings(name) or [name]
    last = [Path(text).name for text in texts]
    return list(dict.fromkeys([*texts, *last, *(Path(text).stem for text in last)]))


def annotation_folders(root: Path) -> list[Path]:
    """Folders with XML files; those called Annotations alone, if there are any."""
    if any(name.lower().endswith(".xml") for name in splits.names_in(root / "Annotations")):
        return [root / "Annotations"]
    if not root.is_dir():
        return []
    with_xml = [
        folder
        for folder in splits.folders(root)
        if any(name.lower().endswith(".xml") for name in splits.names_in(folder))
    ]
    return [f for f in with_xml if f.name == "Annotations" and f.parent != root] or with_xml


def notes_of(layout: Layout) -> tuple[str, ...]:
    """What to tell of how a data set with boxes lies there."""
    everything = layout.parts.get("", Part()).xml if layout.kind == "one" else {}
    xml = [layout.root / path for path in everything.values()]
    return (*unread(layout), *spelt(layout), *splits.merged(layout.root, xml))


def unread(layout: Layout) -> tuple[str, ...]:
    """What to tell of XML files in folders below those that are read."""
    read = {layout.root / xml for part in layout.parts.values() for xml in part.xml.values()}
    below = (f for home in {path.parent for path in read} for f in splits.folders(home))
    found = {
        f / name for f in below for name in splits.names_in(f) if name.lower().endswith(".xml")
    }
    if not (left := sorted(found - read)):
        return ()
    first = os.path.relpath(left[0], layout.root)
    return (f"left out XML files in folders below: {len(left):,}. First: {first}",)


def spelt(layout: Layout) -> tuple[str, ...]:
    """What to tell of pictures that are spelt otherwise than their XML files, or their masks."""
    pairs = [
        (path, part.xml[stem])
        for part in layout.parts.values()
        for stem, path in part.pictures.items()
        if stem in part.xml and Path(path).stem != stem
    ]
    return alike.note(pairs, "pictures")


def _official(root: Path, home: Path, needs: Needs) -> Part:
    """A year's folder: Annotations, JPEGImages, ImageSets (Segmentation for pixels, else Main)."""
    kind = "Segmentation" if "pixels" in needs else "Main"
    folders = [home / "JPEGImages"]
    if not folders[0].is_dir():
        folders = [f for f in splits.folders(home) if _may_hold_pictures(f)]
    masks = kind == "Segmentation"
    part = Part(
        xml=_pictures(root, [home / "SegmentationClass"])
        if masks
        else _xml(root, [home / "Annotations"]),
        pictures=_pictures(root, folders),
        default=os.path.relpath(home / "JPEGImages", root),
    )
    for place in (f"ImageSets/{kind}", *LISTS):
        if part.lists:
            break
        part.lists = _lists(home / place)
    part.bare = () if masks or part.lists else _bare(part)
    return part


def _loose(root: Path, word: str, xml_folders: list[Path]) -> Part:
    """Any other layout; `word` is the split that all of the part's folders name, or empty."""
    folders = [f for f in splits.folders(root) if _may_hold_pictures(f)]
    own = [f for f in folders if (splits.word_of(f, root) or "") == word]
    pictures = _pictures(root, own)
    part = Part(_xml(root, xml_folders), pictures or _pictures(root, folders))
    part.default = str(Path(next(iter(part.pictures.values()), "JPEGImages/x")).parent)
    for place in ("ImageSets/Main", *LISTS):
        if part.lists or word:
            break
        part.lists = _lists(root / place)
    part.bare = () if part.lists else _bare(part)
    return part


def _bare(part: Part) -> tuple[str, ...]:
    """Of the folders that hold pictures with XML, those without."""
    folders = {os.path.dirname(part.pictures[stem]) for stem in part.xml if stem in part.pictures}  # noqa: PTH120
    return tuple(
        stem
        for stem, path in part.pictures.items()
        if stem not in part.xml and os.path.dirname(path) in folders  # noqa: PTH120
    )


def _may_hold_pictures(folder: Path) -> bool:
    return not folder.name.lower().startswith(_NO_PICTURES)


def _xml(root: Path, folders: list[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in folders:
        for name in splits.names_in(folder):
            if name.lower().endswith(".xml"):
                _add(found, name[:-4], os.path.relpath(folder / name, root), root)
    return found


def _pictures(root: Path, folders: list[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in folders:
        for stem, name in splits.images_in(folder).items():
            _add(found, stem, os.path.relpath(folder / name, root), root)
    return found


def _add(found: dict[str, str], stem: str, path: str, root: Path) -> None:
    if found.setdefault(stem, path) != path:
        raise DetkitError(
            f"{found[stem]} and {path} have the same name.",
            file=root,
            remedy="rename or remove one of them, or move one of the two folders out of here.",
        )


def _lists(folder: Path) -> dict[str, list[Path]]:
    """Lists by split name. In the data set's own folder only those named like a split.

    A split that has none of its own is what the lists of the classes (`cat_train.txt`) name.
    """
    found = {n[:-4]: [folder / n] for n in splits.names_in(folder) if n.lower().endswith(".txt")}
    if folder.name not in ("Main", "Segmentation", "ImageSets", "splits"):
        return {name: paths for name, paths in found.items() if name in splits.WORDS}
    of_classes: dict[str, list[Path]] = {}
    for name, paths in found.items():
        word = name.rpartition("_")[2]
        if word in splits.WORDS and word != name and splits.find(word, found) is None:
            of_classes.setdefault(word, []).extend(paths)
    return {**found, **of_classes}


def pixel_homes(root: Path) -> list[Path]:
    """The folder with SegmentationClass, or those of a devkit's years."""
    if not root.is_dir():
        return []
    return [f.parent for f in splits.folders(root, depth=2) if f.name == "SegmentationClass"]
