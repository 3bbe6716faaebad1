"""Items in and out: the commands that the module has of its own."""

from saferedisqueue import CommandLine


def add_to(line: CommandLine) -> None:
    """Add producer, consumer and demo."""
    line.add_items()
