"""Text that others wrote, on the operator's terminal."""

from rich.text import Text


def shown(text: str) -> Text:
    """Text from a stranger: no markup in it counts, and nothing in it steers the terminal."""
    return Text(printable(text))


def printable(text: str) -> str:
    """The same for ``print``: what is not a printable character is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
