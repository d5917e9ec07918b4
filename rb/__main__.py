"""``python -m rb`` is the command `rb`."""

import sys

from rb.cli import main

sys.exit(main())
