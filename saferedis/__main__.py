"""``python -m saferedis``: the command line."""

import sys

from saferedis.cli import main

sys.exit(main())
