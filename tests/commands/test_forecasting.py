"""What is said of the data before a recipe with SVMs begins."""

from dataclasses import replace

import numpy as np

from detkit.commands.forecasting import without_objects
from detkit.data.formats.shapes import read


def test_classes_without_an_object_are_named_and_crowds_are_none():
    records = read(None, "train", needs=frozenset({"boxes"}), images=True, train_images=20, size=64)
    assert without_objects(records) == []
    left = replace(records, labels=np.where(records.labels == 1, 0, records.labels))
    assert without_objects(left) == [records.names[1]]
    crowds = replace(records, crowd=records.labels == 2)
    assert without_objects(crowds) == [records.names[2]]
