"""Names and number syntax of trickle on the wire. Source: trickle.md sections 3 and 10."""

import re

SEQ = "Lp-Trickle-Seq"
LATEST = "Lp-Trickle-Latest"
CLOSED = "Lp-Trickle-Closed"
CLOSED_VALUE = "terminated"
RESET = "Lp-Trickle-Reset"
EXPECT_CONTENT = "Expect-Content"

SEGMENT_GONE = 470
"""The status of a GET for a segment that is not in the ring."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_MAX_INTEGER = (1 << 63) - 1


def parse_integer(text: str) -> int | None:
    """Reads what Go's ``strconv.Atoi`` reads: a sign, decimal digits, 64 bits; else None."""
    # 20 digits may be leading zeros, a thousand are an attack on int().
    if len(text) > 64 or not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -_MAX_INTEGER - 1 <= number <= _MAX_INTEGER else None
