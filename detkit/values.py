"""A plain value against the annotation that it is for: on the command line, in a stored config."""

from __future__ import annotations

import json
import math
import re
import reprlib
from contextlib import suppress
from typing import Any

import pydantic

from detkit.errors import DetkitError

FINITE = pydantic.ConfigDict(allow_inf_nan=False)


def checked(key: str, value: Any, hint: Any) -> Any:
    """The value as the annotation wants it.

    Args:
        key: of the setting, for messages.
        value: what YAML and JSON know.
    Raises:
        DetkitError: another type, out of range, or not finite.
    """
    adapter = pydantic.TypeAdapter(hint, config=FINITE)
    try:  # as JSON, whose types are those of YAML: 1 is a float, [1, 2] a tuple, true no integer
        return adapter.validate_json(json.dumps(value), strict=True)
    except pydantic.ValidationError as error:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            with suppress(pydantic.ValidationError):  # 2012 is a text where one belongs; so is
                return adapter.validate_python(str(value), strict=True)  # what JSON cannot say
        if value is None:
            raise absent(key) from None
        what = "; ".join(dict.fromkeys(e["msg"] for e in error.errors()))
        where = "".join(f"[{part}]" for part in error.errors()[0]["loc"] if isinstance(part, int))
        raise DetkitError(
            f"{key}{where} cannot be {json.dumps(value, ensure_ascii=False)}: {what}.",
            remedy=f"its type is {type_name(hint)}.",
        ) from None


def number(name: str, value: Any, remedy: str) -> float:
    """The value as a number that can be compared with others.

    Args:
        name: of the argument, for messages.
    Raises:
        DetkitError: none at all, or NaN.
    """
    try:
        found = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        found = math.nan
    if math.isnan(found):
        raise DetkitError(f"{name} is {reprlib.repr(value)}, not a number.", remedy=remedy)
    return found


def absent(key: str) -> DetkitError:
    return DetkitError(f"{key} is not given.", remedy=f"add {key}=… to the command.")


def type_name(hint: Any) -> str:
    """An annotation as a person writes it, without ranges."""
    text = hint.__name__ if isinstance(hint, type) else str(hint)
    text = re.sub(r"Annotated\[(\w+), \w+\([^)]*\)\]", r"\1", text)
    return text.replace("typing.", "").replace("collections.abc.", "")
