"""ONNX Runtime as a compiler of engines: its optimised graph, kept on disk.

It finds fusions and layouts once rather than at every start. On a machine without a GPU it goes
the way that TensorRT goes on others.
"""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpnode.errors import HostError, InvalidArgument
from lpnode.pipeline.backend.engine_compiler import CompileProgress
from lpnode.pipeline.backend.engine_key import Precision, ShapeProfile
from lpnode.pipeline.backend.onnxruntime_session import BoundSession, session_options


@dataclass(frozen=True, slots=True)
class OnnxRuntimeCompiler:
    """See ``EngineCompiler``. ``num_threads`` work on one call; 0 for one on each core."""

    num_threads: int = 0

    @property
    def name(self) -> str:
        """See ``EngineCompiler.name``."""
        return "onnxruntime"

    @property
    def version(self) -> str:
        """See ``EngineCompiler.version``."""
        return importlib.metadata.version("onnxruntime")

    def compile(
        self,
        onnx: Path,
        profile: ShapeProfile,
        precision: Precision,
        target: Path,
        progress: CompileProgress,
    ) -> None:
        """See ``EngineCompiler.compile``; rows need no profile here, they stay open."""
        if precision not in (Precision.FP32, Precision.FP16):
            raise InvalidArgument(f"ONNX Runtime compiles for fp32 and fp16, got {precision}")
        progress(0.0)
        options = session_options(self.num_threads)
        options.optimized_model_filepath = str(target)
        # One file of protobuf ends at 2 GiB, which a UNet in float32 does not fit in.
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{target.name}.weights"
        )
        _session(onnx, options)
        progress(1.0)

    def open(self, engine: Path) -> BoundSession:
        """See ``EngineCompiler.open``."""
        import onnxruntime

        options = session_options(self.num_threads)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return BoundSession(_session(engine, options))


def _session(path: Path, options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # Its exceptions have no common base of their own.
    except Exception as error:
        raise HostError(f"ONNX Runtime does not take {path}: {error}") from error
