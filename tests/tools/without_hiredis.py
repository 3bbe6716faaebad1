"""A plug-in of pytest, ``-p without_hiredis``: as where hiredis is not installed.

So connections are driven by redis-py's public calls, and read by its parser in Python.
"""

import sys

sys.modules["hiredis"] = None  # type: ignore[assignment]
