"""`detkit VERB key=value …`, the same as `python -m detkit VERB key=value …`."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Sequence

VERBS = {
    "train": "train a model on a data set",
    "evaluate": "measure a checkpoint, or anyone's predictions, on a data set",
    "compare": "measure several checkpoints side by side",
    "predict": "draw what a checkpoint finds in images or a video",
    "explain": "show the inside of a model, and what it makes of a picture",
    "export": "write a checkpoint in another program's files",
    "propose": "make boxes that may hold objects, and measure how many they cover",
    "anchors": "find the anchors that fit a data set's boxes",
    "benchmark": "time a model beside torchvision's of the same weights",
}
# What the system refuses is no fault of detkit's, so it gets a remedy and no traceback.
ROOM = "make room, or choose a folder that you may read and write."
SHORTER = "choose a shorter name, and one that leads to a file."
OTHER = "a file and a folder cannot have one name: move what lies there away."
REFUSED = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM), ROOM
) | dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP), SHORTER)
REFUSED |= dict.fromkeys((errno.EISDIR, errno.ENOTDIR), OTHER)
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")  # as PyTorch says it on CPU and GPU
KILLED = "DataLoader worker (pid"  # as in data.loading, which is not imported to tell another error
ONE_VALUE = "Expected more than 1 value per channel"
USAGE = """usage: detkit VERB key=value …
{verbs}
`detkit VERB --help` shows every setting of a verb; `detkit --version` the version."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        argv: the verb and its arguments; None for those of the process.
    Returns:
        The exit status: 0, 2 after a mistake in the input, 130 after Ctrl-C.
    """
    from detkit import terminal

    verb, *rest = [*(sys.argv[1:] if argv is None else argv), ""]
    rest = rest[:-1]
    with terminal.usable(patient=verb == "train" and not {"--help", "-h"} & set(rest)):
        return _told(verb, rest)


def _told(verb: str, rest: list[str]) -> int:
    """Runs it; what ends it is told on the error stream."""
    from detkit import terminal

    try:
        status = _run(verb, rest)
        sys.stdout.flush()  # here, where a reader that has gone is known
        return status
    except KeyboardInterrupt:
        again = "; a run goes on with resume=RUN_DIR" if verb == "train" else ""
        print(f"\nstopped. What was written stays{again}.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone: what is written stays
        terminal.silence(sys.stdout)
        return 1
    except Exception as error:
        from detkit.errors import DetkitError

        told = _mistake(error)
        if not isinstance(told, DetkitError):
            raise
        print(f"{told}", file=sys.stderr)
        return 2


def _mistake(error: Exception) -> Exception:
    """What the machine has no room or no leave for, told as a mistake; else the error itself."""
    from detkit.errors import DetkitError

    if isinstance(error, DetkitError):
        return error
    if isinstance(error, OSError) and error.errno in REFUSED:
        return DetkitError(
            f"The system refuses it ({error.strerror}).",
            file=error.filename,
            remedy=REFUSED[error.errno],
        )
    said = str(error)
    if isinstance(error, MemoryError) or any(sign in said for sign in OUT_OF_MEMORY):
        return DetkitError(
            f"Memory ran out: {said.splitlines()[0] if said else 'no more is to be had'}",
            remedy="set the batch size or the pictures' sides (transforms.short_side,"
            " transforms.long_side) lower; a run that was saved goes on with resume=RUN_DIR.",
        )
    if KILLED in said:
        from detkit.data.workers import killed

        return killed(error)
    if ONE_VALUE in said:
        return DetkitError(
            "A batch norm that is trained sees a single value of each channel.",
            remedy="raise training.batch_size, or take larger pictures; in the backbone"
            " backbone.norm=frozen does it too.",
        )
    return error


def _run(verb: str, rest: list[str]) -> int:
    from detkit import __version__, errors

    if verb in ("--version", "-V"):
        print(f"detkit {__version__}")
        return 0
    if verb in ("", "--help", "-h", "help"):
        print(USAGE.format(verbs="\n".join(f"  {name:<11}{what}" for name, what in VERBS.items())))
        return 0
    if verb not in VERBS:
        raise errors.unknown("verb", verb, VERBS)
    if {"--help", "-h"} & set(rest):
        from detkit.config.help import page

        print(page(verb, [argument for argument in rest if argument not in ("--help", "-h")]))
        return 0
    from detkit.config import launch
    from detkit.config.compose import home
    from detkit.config.mistakes import misspelt

    misspelt(verb, rest, home(verb))  # seconds sooner than with PyTorch
    from detkit.ops.device import keep_freed_memory

    keep_freed_memory()
    command = getattr(importlib.import_module(f"detkit.commands.{verb}"), verb)
    launch(verb, rest, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
