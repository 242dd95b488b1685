"""Where the node keeps its payments and how it is asked, found through serve's own settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lpnode.config import (
    PAYMENT_STORE,
    SERVE_FLAGS,
    Address,
    Kind,
    data_directory,
    operator_address,
    read_settings,
)

SETTINGS_HELP = """\
The store is that of the node with the same settings: -dataDir or -network, LP_DATADIR or
LP_NETWORK, or a -config file, just as for lpnode serve (--data-dir is understood too)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """``store``: the file of the payments, there or not. ``operator``: the operator port."""

    store: Path
    operator: Address


def find_node(words: Sequence[str], environment: Mapping[str, str]) -> tuple[NodePlace, list[str]]:
    """Takes serve's settings out of ``words``; returns the place they lead to, and the rest.

    Only what finds the node is read of them, so that the settings of a whole node may be given,
    by the same variables and file as to ``lpnode serve``.
    Raises: ConfigError.
    """
    of_serve, rest = split_settings(words)
    settings = read_settings(SERVE_FLAGS, of_serve, environment)
    place = NodePlace(
        store=data_directory(settings) / PAYMENT_STORE,
        operator=operator_address(settings),
    )
    return place, rest


def split_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the words that are settings of serve, as it reads them, and the others."""
    flags = {name.lower(): flag for flag in SERVE_FLAGS for name in (flag.name, *flag.aliases)}
    of_serve: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, text = word.lstrip("-").partition("=")
        flag = flags.get(name.replace("-", "").lower()) if word.startswith("-") else None
        if flag is None:
            rest.append(word)
        elif equals or flag.kind is Kind.BOOL:
            of_serve.append(f"-{flag.name}{equals}{text}")
        else:
            of_serve += [f"-{flag.name}", *islice(left, 1)]
    return of_serve, rest
