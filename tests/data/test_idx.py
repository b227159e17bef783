"""idx files written byte by byte come back; MNIST has its counts; what is broken is named."""

from __future__ import annotations

import gzip
import pickle
import resource
import struct

import numpy as np
import pytest

from detkit.data import open_dataset, split_name
from detkit.data.formats import LABELS
from detkit.data.formats.idx import tenths
from detkit.data.loading import Dataset
from detkit.data.order import training_batches
from detkit.data.transforms import build
from detkit.errors import DetkitError

CODES = {"u1": 0x08, "i1": 0x09, ">f4": 0x0D}
MNIST = ([6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958], 70_000)


def idx(array: np.ndarray, kind: str = "u1") -> bytes:
    sizes = b"".join(struct.pack(">I", side) for side in array.shape)
    return bytes([0, 0, CODES[kind], array.ndim]) + sizes + array.astype(kind).tobytes()


def write(root, part="train", count=40, side=5, channels=None, packed=True, labels=None):
    """`count` random pictures, whose class is their number modulo 4."""
    shape = (count, side, side + 1) + ((channels,) if channels else ())
    images = np.random.default_rng(count).integers(0, 256, shape)
    labels = np.arange(count) % 4 if labels is None else np.array(labels)
    for name, array in ((f"images-idx{len(shape)}", images), ("labels-idx1", labels)):
        path = root / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return images, labels


def opened(root, split="train+val", **settings):
    return open_dataset({"root": root, **settings}, split, needs=LABELS)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_what_is_written_comes_back(tmp_path, packed, channels):
    images, labels = write(tmp_path / "raw", channels=channels, packed=packed)
    records = opened(tmp_path)
    assert records.channels == (channels or 1)
    assert records.image_labels.tolist() == labels.tolist()
    for i in range(len(images)):
        assert np.array_equal(records.image(i), images[i].reshape(5, 6, -1))
        assert records.annotation(i).image_label == labels[i]


def test_mnist_has_its_counts(shared):
    counts, number = MNIST
    whole = opened(shared / "mnist", "all")
    assert np.bincount(whole.image_labels).tolist() == counts
    assert len(whole) == number
    assert whole.names == tuple("0123456789")
    test, train = (opened(shared / "mnist", split) for split in ("test", "train+val"))
    assert (len(test), len(train)) == (10_000, 60_000)
    assert np.bincount(test.image_labels)[:3].tolist() == [980, 1135, 1032]
    assert np.array_equal(whole.image(60_007), test.image(7))
    assert (whole.image_id(60_007), whole.files[60_007]) == (test.image_id(7), test.files[7])


def test_val_is_a_tenth_of_each_class_of_train_by_the_seed(tmp_path):
    write(tmp_path, count=400)
    write(tmp_path, "t10k", count=8)
    train, val, both = (opened(tmp_path, split) for split in ("train", "val", "train+val"))
    assert np.bincount(val.image_labels).tolist() == [10] * 4
    assert sorted([*train.image_ids, *val.image_ids]) == sorted(both.image_ids)
    assert np.array_equal(both.image(int(val.image_id(3))), val.image(3))
    assert opened(tmp_path, "val").fingerprint() == val.fingerprint()
    assert opened(tmp_path, "val", seed=1).fingerprint() != val.fingerprint()
    assert len(opened(tmp_path, "all")) == 408


def test_a_tenth_of_few_is_one_and_of_one_none():
    labels = np.repeat([0, 1, 2, 5], [1, 2, 14, 26])
    assert np.bincount(labels[tenths(labels, 0)], minlength=6).tolist() == [0, 1, 1, 0, 0, 3]


def test_the_splits_are_those_of_the_files_that_are_there(tmp_path):
    write(tmp_path, "t10k")
    settings = {"root": tmp_path}
    assert split_name(settings, "val", LABELS) == "test"
    with pytest.raises(DetkitError, match="no split 'train'") as caught:
        opened(tmp_path, split_name(settings, "train", LABELS))
    assert "(test)" in caught.value.remedy
    write(tmp_path)
    assert split_name(settings, "val", LABELS) == "val"


def test_names_may_be_given(tmp_path):
    write(tmp_path)
    assert opened(tmp_path, classes=["a", "b", "c", "d"]).names == ("a", "b", "c", "d")
    with pytest.raises(DetkitError, match="class is 3; the 3 classes are 0 … 2") as caught:
        opened(tmp_path, classes=["a", "b", "c"])
    assert caught.value.record == "number 3"
    assert caught.value.file.name == "train-labels-idx1-ubyte.gz"


def cut(data):
    return data[:-1]


def longer(data):
    return data + b"\0"


def magic(data):
    return b"\1" + data[1:]


def header(data):
    return data[:6]


IMAGES, CLASSES = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("name", [IMAGES, CLASSES])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (cut, "there are"),
        (longer, "there are"),
        (magic, "begins with 01 00 08"),
        (header, "sizes are missing"),
        (lambda _: b"", "begins with nothing"),
        (lambda data: gzip.compress(data)[:-9], "unpacked"),
        (lambda data: gzip.compress(data)[:40] + b"\xff" * 40, "unpacked"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, change, says):
    write(tmp_path, packed=False)
    file = tmp_path / name
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DetkitError, match=says) as caught:
        opened(tmp_path)
    assert caught.value.file == file
    assert caught.value.remedy


@pytest.mark.parametrize("kind", ["i1", ">f4"])
def test_numbers_of_another_kind_are_refused(tmp_path, kind):
    write(tmp_path, packed=False)
    (tmp_path / IMAGES).write_bytes(idx(np.zeros((40, 2, 2)), kind))
    with pytest.raises(DetkitError, match="range is not known"):
        opened(tmp_path)


@pytest.mark.parametrize("shape", [(40,), (40, 0, 3), (40, 3, 3, 2), (2, 40, 3, 3, 3)])
def test_what_is_no_picture_is_refused(tmp_path, shape):
    write(tmp_path, packed=False)
    (tmp_path / IMAGES).write_bytes(idx(np.zeros(shape)))
    with pytest.raises(DetkitError, match="no pictures"):
        opened(tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write(tmp_path, packed=False)
    (tmp_path / CLASSES).write_bytes(idx(np.zeros(41)))
    with pytest.raises(DetkitError, match=r"41 classes, train-images-idx3-ubyte 40 pictures"):
        opened(tmp_path)
    (tmp_path / CLASSES).unlink()
    with pytest.raises(DetkitError, match="no file of classes"):
        opened(tmp_path)
    write(tmp_path, packed=False)
    write(tmp_path, "t10k", side=7, packed=False)
    with pytest.raises(DetkitError, match="5 x 6 x 1 and 7 x 8 x 1"):
        opened(tmp_path, "all")


def test_they_are_for_classifiers_alone(tmp_path):
    write(tmp_path)
    with pytest.raises(DetkitError, match="No data set with boxes") as caught:
        open_dataset({"root": tmp_path}, "train")
    assert "model=classifier" in caught.value.remedy
    with pytest.raises(DetkitError, match="hold no boxes"):
        open_dataset({"name": "idx", "root": tmp_path}, "train")


def test_nobody_changes_the_data_set_and_it_goes_to_other_processes(tmp_path):
    images, _ = write(tmp_path)
    records = opened(tmp_path)
    records.image(0)[:] = 0
    assert np.array_equal(pickle.loads(pickle.dumps(records)).image(0)[..., 0], images[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_one_channel_and_the_classes(tmp_path, workers):
    images, labels = write(tmp_path)
    plain = {"name": "classification", "side": 6, "resize": None, "flip": 0.0}
    dataset = Dataset(opened(tmp_path), build(plain, train=True), needs=LABELS)
    for batch in training_batches(dataset, batch_size=16, steps=2, workers=workers):
        assert batch.images.shape == (16, 1, 6, 6)
        for frame, target in zip(batch.frames, batch.targets, strict=True):
            assert target.image_label == labels[frame.index]
    plain = {"name": "segmentation", "flip": 0.0}  # keeps the size
    dataset = Dataset(opened(tmp_path), build(plain, train=False), needs=LABELS)
    assert np.array_equal(dataset[0, 3].image[0], images[3])


def test_a_file_that_unpacks_to_more_than_it_announces_is_read_no_further(tmp_path):
    write(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    whole = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(whole + bytes(200_000_000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DetkitError, match="cut off or damaged"):
        opened(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
