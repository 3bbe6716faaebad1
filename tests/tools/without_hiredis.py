"""A plug-in of pytest, ``-p without_hiredis``: as where hiredis is not installed.

So connections are driven by redis-py's public calls, and read by its parser in Python.
"""

import sys

# None says that there is no such module, as the reference of "import" has it; typeshed does not.
sys.modules["hiredis"] = None  # type: ignore[assignment]
