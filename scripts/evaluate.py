"""The same as `detkit evaluate key=value …`."""

import sys

from detkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
