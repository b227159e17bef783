"""The same as `detkit propose key=value …`."""

import sys

from detkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["propose", *sys.argv[1:]]))
