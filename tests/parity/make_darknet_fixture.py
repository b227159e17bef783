"""Makes `darknet_opencv.npz`: what OpenCV's reader of Darknet networks answers on real photos.

Two steps, since OpenCV 5, which detkit may run on, has no such reader:

    python tests/parity/make_darknet_fixture.py ours SHARED FOLDER      # with detkit
    python tests/parity/make_darknet_fixture.py opencv FOLDER           # with OpenCV 4.14 and NumPy

The first writes each network as OpenCV takes it (the weights by detkit's writer) with the photos
and detkit's answers into FOLDER (800 MB), the second compares all elements, prints the table and
writes the fixture: of each output some elements and the largest one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FIXTURE = Path(__file__).with_name("darknet_opencv.npz")
SAMPLES = 250  # elements of an output that are kept


def ours(shared: Path, folder: Path) -> None:
    import darknet_networks as networks

    from detkit.interop import darknet

    folder.mkdir(parents=True, exist_ok=True)
    for case in networks.CASES:
        images = networks.images(shared, case.side)
        net = networks.network(shared, case, images)
        darknet.save(net, folder / f"{case.name}.weights")
        (folder / f"{case.name}.cfg").write_text(networks.description(shared, case))
        arrays = {"images": images}
        for i, image in enumerate(images):
            for j, answer in enumerate(networks.answers(net, image)):
                arrays[f"{i}.{j}"] = answer
        np.savez(folder / f"{case.name}.npz", **arrays)
        print(case.name)


def opencv(folder: Path) -> None:
    import cv2

    print(f"OpenCV {cv2.__version__}")
    fixture: dict[str, np.ndarray] = {}
    for file in sorted(folder.glob("*.npz")):
        mine = np.load(file)
        net = cv2.dnn.readNetFromDarknet(
            str(file.with_suffix(".cfg")), str(file.with_suffix(".weights"))
        )
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        ends = net.getUnconnectedOutLayersNames()
        layers = list(net.getLayerNames())
        names = [name for end in ends for name in (layers[layers.index(end) - 1], end)]
        for i, image in enumerate(mine["images"]):
            net.setInput(image[None])
            for j, theirs in enumerate(net.forward(names)):
                key = f"{i}.{j}"
                theirs, own = theirs.reshape(mine[key].shape), mine[key]
                counted, largest = theirs != 0, np.abs(theirs).max()
                error = np.abs(theirs - own)[counted].max() / largest
                print(
                    f"{file.stem:30} photo {i} {names[j]:14} {theirs.size:7} elements, "
                    f"{counted.mean():.4f} not zeroed, largest {largest:10.3f}, error {error:.1e}"
                )
                flat = theirs.ravel()
                places = np.flatnonzero(flat)
                chosen = np.random.default_rng(j).choice(places, min(SAMPLES, len(places)), False)
                fixture[f"{file.stem}.{key}.places"] = chosen.astype(np.uint32)
                fixture[f"{file.stem}.{key}.values"] = flat[chosen]
                fixture[f"{file.stem}.{key}.largest"] = np.float32(largest)
    np.savez_compressed(FIXTURE, **fixture)
    print(f"{FIXTURE}: {FIXTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        ours(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        opencv(Path(sys.argv[2]))
