"""The same as `detkit anchors key=value …`."""

import sys

from detkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["anchors", *sys.argv[1:]]))
