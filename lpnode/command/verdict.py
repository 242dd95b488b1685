"""The outcome of one check of ``lpnode doctor``."""

from dataclasses import dataclass
from enum import Enum
from typing import Self


class Grade(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "note"
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was looked at, what was found, and what to do about it ("" when nothing)."""

    subject: str
    grade: Grade
    found: str
    fix: str = ""

    @classmethod
    def ok(cls, subject: str, found: str) -> Self:
        """Nothing to do."""
        return cls(subject, Grade.OK, found)

    @classmethod
    def note(cls, subject: str, found: str, fix: str) -> Self:
        """The node works, but something is not as good as it can be."""
        return cls(subject, Grade.WARNING, found, fix)

    @classmethod
    def missing(cls, subject: str, found: str, fix: str) -> Self:
        """The node would not start or not work."""
        return cls(subject, Grade.MISSING, found, fix)

    def as_fields(self) -> dict[str, str]:
        """The form of ``--json``."""
        return {
            "subject": self.subject,
            "grade": self.grade.name.lower(),
            "found": self.found,
            "fix": self.fix,
        }
