"""ONNX Runtime as a compiler of engines: its optimised graph, kept on disk.

It finds fusions and layouts once rather than at every start. On a machine without a GPU it goes
the way that TensorRT goes on others, with 8 bits too: fp8 it only rounds to, as processors have no
such arithmetic.
"""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpnode.errors import HostError, InvalidArgument
from lpnode.pipeline.backend.child_work import WorkProgress
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
        progress: WorkProgress,
    ) -> None:
        """See ``EngineCompiler.compile``; rows need no profile here, they stay open."""
        progress(0.0)
        options = session_options(self.num_threads)
        options.optimized_model_filepath = str(target)
        # One file of protobuf ends at 2 GiB, which a UNet in float32 does not fit in.
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{target.name}.weights"
        )
        _session(onnx, options)
        if precision.is_eight_bits:
            _require_quantised(onnx, precision)
        progress(1.0)

    def open(self, engine: Path) -> BoundSession:
        """See ``EngineCompiler.open``."""
        import onnxruntime

        options = session_options(self.num_threads)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return BoundSession(_session(engine, options))


def _require_quantised(path: Path, precision: Precision) -> None:
    """Raises: InvalidArgument: the graph computes in another precision than its key says."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    types = {one.name: one.data_type for one in graph.initializer}
    zeros = [node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"]
    numbers = onnx.TensorProto
    wanted = numbers.INT8 if precision is Precision.INT8 else numbers.FLOAT8E4M3FN
    if wanted not in {types.get(zero) for zero in zeros}:
        raise InvalidArgument(
            f"{path.name} must have QuantizeLinear nodes that give {precision}: "
            "ONNX Runtime computes in the precision of the graph"
        )


def _session(path: Path, options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # Its exceptions have no common base of their own.
    except Exception as error:
        raise HostError(f"ONNX Runtime does not take {path}: {error}") from error
