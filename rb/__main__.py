"""``python -m rb`` is the command `rb`."""

import sys

from rb.cli import main

if __name__ == "__main__":
    sys.exit(main())
