"""A verb called in this process as from the command line."""

from __future__ import annotations

import contextlib
import io

from detkit.__main__ import main


def detkit(*arguments: str) -> str:
    """What the command printed; it has to end well."""
    told, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(error):
        status = main(arguments)
    assert status == 0, told.getvalue() + error.getvalue()
    return told.getvalue()
