"""Published ImageNet networks on photos of Pascal VOC that show one object: is it found?

Prints a table, a photo a line: what each network says, and at which of its five best places the
right thing stands. The photos are drawn by a seed from those with exactly one object
that is no person, of which ImageNet has no class.

    python scripts/imagenet_on_voc.py VOC2007 NAME=FILE NAME=FILE,tensorflow_padding
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from detkit.data.open import open_dataset
from detkit.data.records import Records
from detkit.inference.published import published

# VOC's class → the numbers of ImageNet's classes that are such things
THINGS: dict[str, set[int]] = {
    "aeroplane": {404, 895},  # airliner, warplane
    "bicycle": {444, 671},  # tandem, mountain bike
    "bird": {*range(7, 25), *range(80, 101), *range(127, 147)},
    "boat": {472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 871, 914},  # canoe … yawl
    "bottle": {440, 720, 737, 898, 907},  # of beer, pills, pop, water, wine
    "bus": {654, 779, 874},  # minibus, school bus, trolleybus
    "car": {407, 436, 468, 511, 609, 627, 656, 661, 717, 751, 817},  # ambulance … sports car
    "cat": {*range(281, 286)},
    "chair": {423, 559, 765, 857},  # of a barber, folding, rocking; throne
    "cow": {345},  # ox
    "diningtable": {532},
    "dog": {*range(151, 269)},
    "horse": {339},  # sorrel
    "motorbike": {665, 670},  # moped, scooter
    "pottedplant": {738},  # pot
    "sheep": {348, 349},  # ram, bighorn
    "sofa": {831},  # studio couch
    "train": {466, 547, 565, 705, 820, 829},  # bullet train … streetcar
    "tvmonitor": {664, 782, 851},  # monitor, screen, television
}


def photos(records: Records, count: int, seed: int) -> list[int]:
    """Some of the photos with one object of a class that ImageNet has, in the order of the draw."""
    single = np.flatnonzero(np.diff(records.offsets) == 1)
    names = [records.names[records.labels[records.offsets[i]]] for i in single]
    fitting = [int(i) for i, name in zip(single, names, strict=True) if name in THINGS]
    return np.random.default_rng(seed).permutation(fitting)[:count].tolist()


def predictor(name: str, file: str):
    """A network with its file, behind which settings may stand that are to be true."""
    file, *switches = file.split(",")
    backbone = {"name": name, "weights": file, **dict.fromkeys(switches, True)}
    return published({"name": "classifier"}, backbone, {"name": "classification"}, "cpu", "fp32", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="the folder of VOC 2007")
    parser.add_argument("networks", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    records = open_dataset({"name": "voc", "root": asked.root}, "train+val")
    chosen = photos(records, asked.count, asked.seed)
    networks = dict(network.split("=", 1) for network in asked.networks)
    predictors = {name: predictor(name, file) for name, file in networks.items()}
    right = dict.fromkeys(networks, 0)
    print("| photo | object |", " | ".join(networks), "|")
    print("| --- " * (2 + len(networks)) + "|")
    for i in chosen:
        thing = records.names[records.labels[records.offsets[i]]]
        row = []
        for name, ask in predictors.items():
            found = ask(records.image(i))
            labels = found.scores.topk(5).indices.tolist()
            place = next((n for n, k in enumerate(labels, 1) if k in THINGS[thing]), None)
            right[name] += place is not None
            best = found.names[labels[0] if place is None else labels[place - 1]]
            row.append(f"{best} ({place})" if place else f"no: {best}")
        print(f"| {Path(records.files[i]).stem} | {thing} |", " | ".join(row), "|")
    counts = " | ".join(f"{n} of {len(chosen)}" for n in right.values())
    print(f"| among the five best | | {counts} |")


if __name__ == "__main__":
    main()
