"""ONNX Runtime as a compiler of engines: its optimised graph, kept on disk.

It finds fusions and layouts once rather than at every start. On a machine without a GPU it goes
the way that TensorRT goes on others.
"""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpnode.errors import HostError, InvalidArgument
from lpnode.pipeline.backend.engine_compiler import CompileProgress
from lpnode.pipeline.backend.engine_key import Precision, ShapeProfile

if TYPE_CHECKING:  # compiling needs no torch
    import torch

_ELEMENTS = {"tensor(float16)": "float16", "tensor(float)": "float32"}


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
        options = self._options()
        options.optimized_model_filepath = str(target)
        # One file of protobuf ends at 2 GiB, which a UNet in float32 does not fit in.
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{target.name}.weights"
        )
        _session(onnx, options)
        progress(1.0)

    def open(self, engine: Path) -> "_Runner":
        """See ``EngineCompiler.open``."""
        import onnxruntime

        options = self._options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return _Runner(_session(engine, options))

    def _options(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.num_threads
        options.log_severity_level = 3  # it warns that optimised graphs fit one machine
        # Between frames the cores belong to whoever decodes and encodes.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options


class _Runner:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._elements = {
            value.name: _ELEMENTS[value.type]
            for value in (*session.get_inputs(), *session.get_outputs())
        }
        self._output_name = session.get_outputs()[0].name

    def run(self, inputs: "Mapping[str, torch.Tensor]", output: "torch.Tensor") -> None:
        """See ``GraphRunner.run``."""
        binding, elements = self._binding, self._elements
        for name, value in inputs.items():
            binding.bind_input(name, "cpu", 0, elements[name], value.shape, value.data_ptr())
        name = self._output_name
        binding.bind_output(name, "cpu", 0, elements[name], output.shape, output.data_ptr())
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise HostError(f"ONNX Runtime failed: {error}") from error


def _session(path: Path, options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # Its exceptions have no common base of their own.
    except Exception as error:
        raise HostError(f"ONNX Runtime does not take {path}: {error}") from error
