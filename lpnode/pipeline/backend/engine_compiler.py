"""What makes engines of exported networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lpnode.pipeline.backend.child_work import WorkProgress
from lpnode.pipeline.backend.engine_key import Precision, ShapeProfile


class EngineCompiler(Protocol):
    """Compiles networks ahead of time. Can be pickled; importing its module loads no torch.

    ``name`` and ``version`` go into the keys of its engines.
    """

    @property
    def name(self) -> str:
        """Such as ``tensorrt``."""

    @property
    def version(self) -> str:
        """Of the library. Raises: NotBuilt: it is not installed; says how to get it."""

    def compile(
        self,
        onnx: Path,
        profile: ShapeProfile,
        precision: Precision,
        target: Path,
        progress: WorkProgress,
    ) -> None:
        """Compiles an exported network into ``target``; further files go beside it. Takes minutes.

        Raises: HostError, InvalidArgument: it cannot; NotBuilt.
        """

    def open(self, engine: Path) -> Any:
        """The ``GraphRunner`` of a compiled network. Raises: HostError, NotBuilt."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """One call of ``EngineCompiler.compile`` as work for ``run_in_child``."""

    compiler: EngineCompiler
    onnx: Path
    profile: ShapeProfile
    precision: Precision
    target: Path

    @property
    def name(self) -> str:
        """The compiler's."""
        return self.compiler.name

    def run(self, progress: WorkProgress) -> None:
        """See ``EngineCompiler.compile``."""
        self.compiler.compile(self.onnx, self.profile, self.precision, self.target, progress)
