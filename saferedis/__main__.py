"""``python -m saferedis``, and the command ``saferedisqueue``: the command line."""

import signal
import sys


def main() -> int:
    """Run the command line; Ctrl-C while it is imported gives no traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a command runs
    from saferedis import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
