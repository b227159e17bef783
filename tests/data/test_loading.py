"""Order, samples and errors: the same with any number of workers, ranks and resumes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from detkit.__main__ import _mistake as told_by
from detkit.data import loading, memory
from detkit.data.balance import repeat_factors
from detkit.data.formats.shapes import read
from detkit.data.loading import Dataset, _Parcel, collate
from detkit.data.order import epoch_length, evaluation_batches, training_batches
from detkit.data.records import Annotation
from detkit.data.transforms import Loaded, build
from detkit.data.workers import signals_held, start_worker
from detkit.errors import DetkitError
from detkit.structures import IGNORE, Frame, Targets
from detkit.training.signals import Interrupted

AUGMENTED = {"name": "detection", "short_side": 48, "scale": [0.7, 1.4], "colour": 0.5}


def shapes(count=10):
    return read(None, "train", needs=frozenset({"boxes"}), images=True, train_images=count, size=48)


@pytest.fixture(scope="module")
def dataset():
    return Dataset(
        shapes(), build(AUGMENTED, train=True), seed=3, needs=frozenset({"boxes", "masks"})
    )


def indices(batches):
    return [[frame.index for frame in batch.frames] for batch in batches]


def same(one, other):
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.sizes, other.sizes)
    assert one.frames == other.frames
    for mine, theirs in zip(one.targets, other.targets, strict=True):
        for field, value in vars(mine).items():
            twin = getattr(theirs, field)
            assert (value is None and twin is None) or torch.equal(value, twin), field


def test_workers_change_nothing(dataset):
    given = {"batch_size": 3, "steps": 7, "seed": 5}
    here = list(training_batches(dataset, **given))
    there = list(training_batches(dataset, **given, workers=2))
    assert len(here) == len(there) == 7
    for one, other in zip(here, there, strict=True):
        same(one, other)


@pytest.mark.parametrize("repeat_thresh", [None, 0.9])
def test_going_on_at_a_step_gives_the_rest_of_the_row(dataset, repeat_thresh):
    given = {"batch_size": 3, "steps": 9, "seed": 5, "repeat_thresh": repeat_thresh}
    whole = list(training_batches(dataset, **given))
    rest = list(training_batches(dataset, **given, start=5))
    assert len(rest) == 4
    for one, other in zip(whole[5:], rest, strict=True):
        same(one, other)


def test_a_second_pass_over_the_batches_is_the_first_one_again(dataset):
    batches = training_batches(dataset, batch_size=4, steps=3)
    assert indices(batches) == indices(batches)
    assert len(batches) == 3


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("repeat_thresh", [None, 0.9])
def test_the_ranks_together_take_the_batch_of_one_process(dataset, world, repeat_thresh):
    given = {"steps": 6, "seed": 1, "repeat_thresh": repeat_thresh}
    alone = indices(training_batches(dataset, batch_size=2 * world, **given))
    ranks = [
        indices(training_batches(dataset, batch_size=2, rank=r, world=world, **given))
        for r in range(world)
    ]
    for step, batch in enumerate(alone):
        assert sorted(batch) == sorted(i for rank in ranks for i in rank[step])


def test_an_epoch_shows_each_image_once_across_the_borders_of_batches(dataset):
    """10 images in batches of 4: images 0 … 9 of the row are one epoch, 10 … 19 the next."""
    batches = indices(training_batches(dataset, batch_size=4, steps=10, seed=2))
    row = [index for batch in batches for index in batch]
    epochs = [row[at : at + 10] for at in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert epoch_length(dataset.records) == 10


def test_a_batch_larger_than_the_data_set_holds_several_epochs():
    small = Dataset(shapes(3), build(AUGMENTED, train=True))
    (batch,) = training_batches(small, batch_size=7, steps=1)
    assert Counter(frame.index for frame in batch.frames) in [{a: 3, b: 2, c: 2} for a, b, c in
        ([0, 1, 2], [1, 0, 2], [2, 0, 1])]  # fmt: skip
    assert len({image.numpy().tobytes() for image in batch.images}) == 7


def test_another_seed_is_another_order(dataset):
    one, two = (indices(training_batches(dataset, batch_size=10, steps=1, seed=s)) for s in (0, 1))
    assert one != two


def test_the_next_epoch_changes_an_image_in_another_way(dataset):
    assert not torch.equal(dataset[0, 4].targets.boxes, dataset[1, 4].targets.boxes)
    assert torch.equal(dataset[0, 4].targets.boxes, dataset[0, 4].targets.boxes)


@pytest.mark.parametrize("world", [1, 2, 3, 12])
def test_evaluation_sees_each_image_once_over_all_ranks(dataset, world):
    shards = [
        indices(evaluation_batches(dataset, batch_size=3, rank=r, world=world))
        for r in range(world)
    ]
    assert sorted(i for rank in shards for batch in rank for i in batch) == list(range(10))
    assert [i for batch in shards[0] for i in batch] == list(range(0, 10, world))


def test_loading_leaves_the_global_random_state_alone(dataset):
    before = torch.get_rng_state()
    list(training_batches(dataset, batch_size=3, steps=2, workers=1))
    assert torch.equal(before, torch.get_rng_state())


def test_repeat_factors_equal_the_loop():
    records = memory.synthetic(40, 3)
    rare = np.random.default_rng(1).integers(0, 6, 120) ** 2 // 6  # classes of unequal size
    records = replace(records, labels=rare, names=tuple("abcde"))
    records = records.keep_objects(np.random.default_rng(2).random(120) < 0.7)
    images = [set(records.annotation(i).labels.tolist()) for i in range(40)]
    for thresh in (0.05, 0.3, 1.0):
        share = {c: sum(c in classes for classes in images) / 40 for c in range(5)}
        expected = [
            max([max(1, (thresh / share[c]) ** 0.5) for c in classes], default=1)
            for classes in images
        ]
        np.testing.assert_allclose(repeat_factors(records, thresh), expected)
    assert (repeat_factors(records, 1.0) > 1).any()


def test_repetition_shows_images_by_their_factors_and_every_image_each_epoch(dataset):
    records = shapes(40)
    data = Dataset(records, build({"name": "detection", "short_side": None}, train=False))
    factors = repeat_factors(records, 0.9)
    length = int(np.ceil(factors.sum()))
    assert length > 40
    epochs = 50
    batches = training_batches(data, batch_size=length, steps=epochs, repeat_thresh=0.9)
    counts = np.array([
        np.bincount([key[1] for key in keys], minlength=40) for keys in batches.keys
    ])  # fmt: skip
    assert counts.min() == 1
    assert (counts >= np.floor(factors)).all()
    assert (counts <= np.ceil(factors * length / factors.sum())).all()
    np.testing.assert_allclose(counts.mean(0), factors * length / factors.sum(), atol=0.15)
    assert epoch_length(data.records, repeat_thresh=0.9) == length


def test_copies_of_an_image_in_one_epoch_differ(dataset):
    assert not torch.equal(dataset[0, 4, 1].targets.boxes, dataset[0, 4].targets.boxes)


def sample(height, width, objects=1, dtype=torch.uint8):
    targets = Targets(
        boxes=torch.ones(objects, 4),
        labels=torch.zeros(objects, dtype=torch.int64),
        masks=torch.ones(objects, height, width, dtype=torch.bool),
        crowd=torch.zeros(objects, dtype=torch.bool),
        difficult=torch.zeros(objects, dtype=torch.bool),
        pixels=torch.ones(height, width, dtype=torch.uint8),
    )
    image = torch.full((3, height, width), 1 if dtype == torch.float32 else 255, dtype=dtype)
    return Loaded(image, targets, Frame(0, 0, "", (height, width), (height, width)))


def test_collate_pads_right_and_below_to_a_multiple_of_32():
    batch = collate([sample(33, 20), sample(10, 65)])
    assert batch.images.shape == (2, 3, 64, 96)
    assert batch.sizes.tolist() == [[33, 20], [10, 65]]
    for image, target, (height, width) in zip(
        batch.images, batch.targets, batch.sizes.tolist(), strict=True
    ):
        inside = torch.zeros(64, 96, dtype=torch.bool)
        inside[:height, :width] = True
        assert torch.equal(image[0] == 255, inside)
        assert (image[:, ~inside] == 0).all()
        assert torch.equal(target.masks[0], inside)
        assert torch.equal(target.pixels == 1, inside)
        assert (target.pixels[~inside] == IGNORE).all()


def test_collate_brings_8_and_16_bit_files_to_one_scale():
    batch = collate([sample(32, 32), sample(32, 32, dtype=torch.float32)])
    assert batch.images.dtype == torch.float32
    assert (batch.images == 1).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_without_any_object_arrives_whole(workers):
    records = shapes(4)
    none = records.keep_objects(np.zeros(len(records.labels), bool))
    none = replace(none, render_masks=None)
    data = Dataset(none, build(AUGMENTED, train=True))
    (batch,) = training_batches(data, batch_size=4, steps=1, workers=workers)
    assert [target.boxes.shape for target in batch.targets] == [(0, 4)] * 4
    assert batch.targets[0].labels.dtype == torch.int64


def test_pixels_come_only_where_the_task_needs_them():
    records = read(None, "train", needs=frozenset({"pixels"}), images=True, train_images=2, size=48)
    plain = {"name": "segmentation"}
    with_them = Dataset(records, build(plain, False), needs=frozenset({"pixels"}))
    (batch,) = evaluation_batches(with_them, batch_size=2)
    assert batch.targets[0].pixels.shape == (64, 64)
    assert Dataset(records, build(plain, False))[0, 0].targets.pixels is None
    without = replace(records, render_pixels=None)
    with pytest.raises(DetkitError, match=r"00000001.png: The data set has no class of each pixel"):
        Dataset(without, build(plain, False), needs=frozenset({"pixels"}))[0, 1]


def broken(number):
    if number == 6:
        raise DetkitError("The image is cut.", file="six.jpg", remedy="fetch it again.")
    if number == 7:
        raise ValueError("something else")
    return np.zeros((48, 48, 3), np.uint8)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("only", "message"),
    [
        (6, "six.jpg: The image is cut.\n  Remedy: fetch it again."),
        (7, "00000007.png: The image cannot be prepared: ValueError: something else"),
    ],
)
def test_an_error_in_a_worker_arrives_as_it_was_with_its_file(workers, only, message):
    records = replace(shapes(), render=broken).subset([0, 1, only, 2])
    data = Dataset(records, build({"name": "detection"}, train=False))
    with pytest.raises(DetkitError) as caught:
        list(evaluation_batches(data, batch_size=1, workers=workers))
    assert message in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_request_to_end_that_comes_while_a_picture_is_read_is_no_fault_of_the_picture():
    def interrupted(number):
        raise Interrupted

    data = Dataset(replace(shapes(), render=interrupted), build({"name": "detection"}, train=False))
    with pytest.raises(Interrupted):
        list(evaluation_batches(data, batch_size=1))


def killed(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_worker_is_an_error_with_a_remedy():
    data = Dataset(replace(shapes(), render=killed), build({"name": "detection"}, train=False))
    with pytest.raises(DetkitError, match=r"killed(.|\n)*training\.workers"):
        list(evaluation_batches(data, batch_size=1, workers=1))


KILLER = "import os, sys; [os.kill(int(pid), 15) for pid in sys.argv[1:]]"
THROWN = """
import sys
from detkit.data.formats.shapes import read
from detkit.data.loading import Dataset
from detkit.data.order import training_batches
from detkit.data.transforms import build
records = read(None, "train", needs=frozenset({"boxes"}), images=True, train_images=8, size=48)
data = Dataset(records, build({"name": "detection"}, train=False))
held = iter(training_batches(data, batch_size=1, steps=100, workers=2))
next(held)
sys.exit("thrown") if len(sys.argv) > 1 else 1 / 0
"""


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nobody says whose signal it is")
def test_a_sigterm_to_every_process_leaves_the_loading_ones_to_the_main_one(dataset):
    given = {"batch_size": 1, "steps": 30, "seed": 5}
    there = iter(training_batches(dataset, **given, workers=2))
    batches = [next(there)]
    workers = [str(worker.pid) for worker in multiprocessing.active_children()]
    assert len(workers) == 2
    subprocess.run([sys.executable, "-c", KILLER, *workers], check=True)
    batches += there
    for one, other in zip(training_batches(dataset, **given), batches, strict=True):
        same(one, other)


def early(worker):
    os.kill(os.getpid(), signal.SIGTERM)
    start_worker(worker)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nobody says whose signal it is")
def test_a_sigterm_to_a_loading_process_that_only_just_begins_is_left_to_the_main_one(
    dataset, monkeypatch
):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr(loading, "start_worker", early)
    batches = training_batches(dataset, batch_size=1, steps=4, workers=2)
    assert len(list(batches)) == 4
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nobody says whose signal it is")
def test_a_handler_that_raises_as_signals_begin_to_be_held_leaves_none_blocked(monkeypatch):
    """Python runs what came before inside of the call that blocks it."""
    mask = signal.pthread_sigmask

    def interrupted(how, signals):
        found = mask(how, signals)
        if how == signal.SIG_BLOCK and signals:
            raise Interrupted
        return found

    before = mask(signal.SIG_BLOCK, ())
    monkeypatch.setattr(signal, "pthread_sigmask", interrupted)
    with pytest.raises(Interrupted), signals_held():
        pass
    assert mask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize("how", [[], ["exit"]])
def test_an_error_while_loading_processes_are_held_ends_the_program_at_once(how):
    """At exit Python waits for processes as long as they take."""
    ended = subprocess.run(
        [sys.executable, "-c", THROWN, *how], timeout=45, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ("thrown" if how else "ZeroDivisionError") in ended.stderr


def test_many_objects_do_not_use_up_the_file_descriptors():
    """400 images in flight, five tensors each, with at most 256 descriptors for the process."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    data = Dataset(shapes(), build({"name": "detection", "short_side": None}, train=False))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        batches = list(training_batches(data, batch_size=100, steps=4, workers=1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sum(len(batch) for batch in batches) == 400


def test_no_image_to_train_on_is_an_error():
    with pytest.raises(DetkitError, match="no image to train on"):
        training_batches(
            Dataset(shapes().subset([]), build(AUGMENTED, train=True)), batch_size=1, steps=1
        )


class PythonObjects:
    """The planted fault: annotations as a Python object per box."""

    def __init__(self, records):
        self.records = records
        self.objects = [
            [{"bbox": box, "label": 0} for box in records.annotation(i).boxes.tolist()]
            for i in range(len(records))
        ]

    def __len__(self):
        return len(self.records)

    def __getattr__(self, name):
        return getattr(self.records, name)

    def annotation(self, i):
        boxes = np.array([o["bbox"] for o in self.objects[i]], np.float32)
        n = len(boxes)
        none = np.zeros(n, bool)
        return Annotation(boxes, np.zeros(n, np.int64), none, none, np.zeros(n))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_worker_memory_does_not_grow_with_flat_arrays_and_does_with_objects():
    """200,000 boxes: 5 MB of arrays, 80 MB of objects of which each of 2 workers touches half."""
    plain = build({"name": "detection", "short_side": None, "long_side": None}, train=False)

    def growth(records):
        data = Dataset(records, plain)
        batches = training_batches(data, batch_size=64, steps=80, workers=2)
        measured = memory.over_an_epoch(batches, 80)
        return measured[-1] - measured[0]

    records = memory.synthetic(5120, 40)
    assert growth(records) < 6
    assert growth(PythonObjects(records)) > 15


def test_the_runs_seed_reaches_every_picture():
    one, same, other = (
        Dataset(shapes(), build(AUGMENTED, train=True), seed=seed)[0, 3].image for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_images_of_one_size_are_evaluated_side_by_side(dataset):
    records = replace(dataset.records, sizes=np.array([[48, 48], [30, 60]] * 5, np.int32))
    mixed = Dataset(records, build({"name": "detection", "short_side": 48}, train=False))
    batches = indices(evaluation_batches(mixed, batch_size=5))
    assert batches == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_what_is_put_where_a_gpu_fetches_it_is_whole(dataset, monkeypatch):
    plain = next(iter(training_batches(dataset, batch_size=4, steps=1)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # there is no GPU here
    same(_Parcel.of(plain).pin_memory().batch(), plain)


def test_a_worker_killed_while_the_model_computes_is_told_too():
    told = told_by(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
    assert isinstance(told, DetkitError)
    assert "memory may have run out" in told.remedy
    assert told_by(told) is told
    ended = told_by(RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. "))
    assert "memory" not in ended.remedy
    fault = KeyError("Caught KeyError in DataLoader worker process 0.")
    assert told_by(fault) is fault
