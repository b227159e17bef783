"""The same as `detkit train key=value …`."""

import sys

from detkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
