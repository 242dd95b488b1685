"""How much of a TensorRT build is done, out of the phases that its builder reports."""

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Phase:
    parent: str | None
    num_steps: int
    num_done: int = 0


class BuildPhases:
    """Adds nested phases up: a phase under way is part of one step of its parent.

    The builder reports from several threads. ``report`` is told 0 to 1, never less than before.
    """

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._phases: dict[str, _Phase] = {}
        self._lock = threading.Lock()
        self._told = 0.0

    def start(self, name: str, parent: str | None, num_steps: int) -> None:
        """A phase begins; a name is in use once at a time."""
        with self._lock:
            self._phases[name] = _Phase(parent, max(num_steps, 1))

    def step(self, name: str, step: int) -> None:
        """Step ``step``, counted from 0, of a phase is done."""
        with self._lock:
            phase = self._phases[name]
            phase.num_done = min(step + 1, phase.num_steps)
            self._tell()

    def finish(self, name: str) -> None:
        """A phase is done, with or without all of its steps."""
        with self._lock:
            phase = self._phases[name]
            phase.num_done = phase.num_steps
            self._tell()
            del self._phases[name]

    def _tell(self) -> None:
        roots = [name for name, phase in self._phases.items() if phase.parent is None]
        done = max((self._done(name) for name in roots), default=0.0)
        self._told = max(self._told, done)
        self._report(self._told)

    def _done(self, name: str) -> float:
        phase = self._phases[name]
        children = [child for child, one in self._phases.items() if one.parent == name]
        within = max((self._done(child) for child in children), default=0.0)
        # Nothing is added when all steps are done: a child may report after its parent's last.
        return min((phase.num_done + within) / phase.num_steps, 1.0)
