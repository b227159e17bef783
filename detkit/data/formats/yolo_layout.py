"""Where the pictures, the text files and the splits of a YOLO data set are, in its layouts."""

from __future__ import annotations

from pathlib import Path

import yaml

from detkit.data import splits
from detkit.errors import DetkitError


def pictures_of(home: Path, split: str) -> tuple[list[Path], str]:
    """The pictures of a split, and how they were found."""
    listed = next((p for p in (Path(split).expanduser(), home / split) if p.is_file()), None)
    if listed:
        return _of_list(listed, home), f"the list {split}"
    described, words = described_by_yaml(home), _words(home)
    existing = existing_splits(home)
    word = splits.find(split, existing)
    if word and word in described:
        return _described(home, described, word), f"{word} of data.yaml"
    if word and word in words:
        files = [f / name for f in words[word] for name in splits.images_in(f).values()]
        return files, f"the folder {words[word][0].relative_to(home)}"
    if word:
        return _of_list(home / f"{word}.txt", home), f"the list {word}.txt"
    if existing:
        raise splits.missing(split, existing, home)
    files = [f / name for f in picture_folders(home) for name in splits.images_in(f).values()]
    if not files:
        raise DetkitError("There are no pictures.", file=home, remedy="correct dataset.root.")
    chosen, how = splits.by_hash([str(f.relative_to(home)) for f in files], split, home)
    return [files[i] for i in chosen], how


def _of_list(path: Path, home: Path) -> list[Path]:
    """The pictures of a list, relative to the list or to the data set's folder."""
    found = []
    for line in splits.read_list(path):
        places = [path.parent / line, home / line]
        found.append(next((place for place in places if place.is_file()), places[1]))
    return found


def picture_folders(home: Path) -> list[Path]:
    return [folder for folder in splits.folders(home) if splits.images_in(folder)]


def _words(home: Path) -> dict[str, list[Path]]:
    """Folders of pictures by the split that their path names."""
    found: dict[str, list[Path]] = {}
    for folder in picture_folders(home):
        if word := splits.word_of(folder, home):
            found.setdefault(word, []).append(folder)
    return found


def described_by_yaml(home: Path) -> dict:
    """data.yaml (or another YAML file with names), or nothing."""
    for name in sorted(splits.names_in(home), key=lambda name: name != "data.yaml"):
        if name.endswith((".yaml", ".yml")):
            try:
                content = yaml.safe_load((home / name).read_bytes())
            except yaml.YAMLError as fault:
                raise DetkitError(
                    f"The YAML is broken ({fault}).", file=home / name, remedy="correct the file."
                ) from fault
            if isinstance(content, dict) and "names" in content:
                return {key: value for key, value in content.items() if value}
    return {}


def _described(home: Path, content: dict, word: str) -> list[Path]:
    """The pictures that data.yaml names for a split."""
    found: list[Path] = []
    entries = content[word] if isinstance(content[word], list) else [content[word]]
    for entry in map(str, entries):
        inside = entry.removeprefix("../").removeprefix("./")  # exports count from a folder below
        places = [home / str(content.get("path", "")) / entry, home / entry, home / inside]
        place = next((p for p in places if p.exists()), None)
        if place is None:
            raise DetkitError(
                f"{word} names {entry!r}, which is not there.",
                file=home / "data.yaml",
                remedy="correct the path; it counts from the folder of data.yaml.",
            )
        if place.is_file():
            found += _of_list(place, home)
        else:
            found += [f / n for f in splits.folders(place) for n in splits.images_in(f).values()]
    return found


def label_file(home: Path, picture: Path) -> Path:
    """The text file of a picture: in `labels/` where that is in `images/`, else beside it."""
    parts = list(picture.relative_to(home).parts) if picture.is_relative_to(home) else []
    for i in reversed(range(len(parts) - 1)):
        if parts[i].lower() in ("images", "jpegimages"):
            swapped = home.joinpath(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
            return swapped if swapped.is_file() else picture.with_suffix(".txt")
    return picture.with_suffix(".txt")


def existing_splits(root: Path, task: str = "detect") -> list[str]:
    """Splits by data.yaml, list files and folder names."""
    home = root if root.is_dir() else root.parent
    keys = {key for key in described_by_yaml(home) if key in splits.WORDS}
    lists = {name[:-4] for name in splits.names_in(home) if name.endswith(".txt")} & splits.WORDS
    return sorted(keys | lists | _words(home).keys())
