"""Lists of classes and of splits."""

import pytest

from detkit.data import splits
from detkit.errors import DetkitError


@pytest.mark.parametrize(("text", "says"), [("a\n\nb\n", "no class name"), ("a\nb\na", "twice")])
def test_class_names_are_numbered_by_their_lines(tmp_path, text, says):
    file = tmp_path / "classes.txt"
    file.write_text("\ufeffa \nb\n\n\n")
    assert splits.class_names(file) == ["a", "b"]
    file.write_text(text)
    with pytest.raises(DetkitError, match=says) as error:
        splits.class_names(file)
    assert error.value.record == f"line {2 if 'no' in says else 3}"
