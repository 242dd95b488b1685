"""Version numbers as gateways compare them.

Source: discovery.md section 4.6; parsing as the semantic-version library of the reference does it.
"""

import re
from typing import NamedTuple

_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(
    rf"v?([0-9]{{1,19}})(?:\.([0-9]{{1,19}}))?(?:\.([0-9]{{1,19}}))?"
    rf"(?:-({_IDENTIFIERS}))?(?:\+{_IDENTIFIERS})?"
)


class Version(NamedTuple):
    """The part of a version that is compared; pre-release and build are not."""

    major: int
    minor: int
    patch: int


def parse_version(text: str) -> Version | None:
    """Reads ``[v]major[.minor[.patch]][-pre][+build]``; None if it is something else.

    A purely numeric pre-release part with a leading zero makes the text unreadable.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    major, minor, patch, pre_release = match.groups()
    for part in (pre_release or "").split("."):
        if len(part) > 1 and part[0] == "0" and part.isascii() and part.isdigit():
            return None
    return Version(int(major), int(minor or 0), int(patch or 0))


def is_version_compatible(minimum: str, version: str) -> bool:
    """Whether ``version`` satisfies ``minimum``. An unreadable minimum demands nothing."""
    if not minimum:
        return True
    if version in ("", "undefined"):
        return False
    wanted = parse_version(minimum)
    if wanted is None:
        return True
    offered = parse_version(version)
    return offered is not None and offered >= wanted
