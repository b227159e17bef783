"""Data: from a folder to Records to batches."""

from detkit.data.open import open_dataset, split_name
from detkit.data.records import Annotation, Records

__all__ = ["Annotation", "Records", "open_dataset", "split_name"]
