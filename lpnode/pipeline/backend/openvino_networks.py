"""A model's networks run by OpenVINO on the processor."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lpnode.errors import HostError, NotBuilt
from lpnode.pipeline.backend.onnx_networks import GraphCache, GraphRunner, OnnxNetworks
from lpnode.pipeline.backend.onnx_weights import TracedNetwork, write_network


class OpenVinoNetworks(OnnxNetworks):
    """``Networks`` by OpenVINO, an optional package.

    Args:
        folder: where networks are written to be read again at once; nothing stays there.
        num_threads: that work on one call; 0 for one on each core.
        graphs: see ``OnnxNetworks``.
    Raises: NotBuilt: OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        *,
        num_threads: int = 0,
        graphs: GraphCache | None = None,
    ) -> None:
        super().__init__(dtype, graphs=graphs)
        try:
            import openvino
        except ImportError as error:
            raise NotBuilt(
                "OpenVINO is not installed; get it with: pip install 'lpnode[openvino]'"
            ) from error
        self._openvino: Any = openvino
        self._core: Any = openvino.Core()
        self._folder = folder
        self._num_threads = num_threads

    def compile(self, traced: TracedNetwork, weights: Mapping[str, torch.Tensor]) -> GraphRunner:
        """See ``OnnxNetworks.compile``."""
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # Otherwise it takes bfloat16 where the processor has it, and is wrong by 6e-2.
            "INFERENCE_PRECISION_HINT": "f32",
            # The frame loop shares its cores with decoders and encoders.
            "ENABLE_CPU_PINNING": False,
        }
        if self._num_threads:
            properties["INFERENCE_NUM_THREADS"] = self._num_threads
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".openvino-", dir=self._folder) as folder:
                path = Path(folder, f"{traced.kind}.onnx")
                write_network(traced, weights, path)
                # What it maps of the weights stays mapped when the file's name is gone.
                compiled = self._core.compile_model(str(path), "CPU", properties)
        except OSError as error:
            raise HostError(f"{self._folder}: cannot write networks there: {error}") from error
        except RuntimeError as error:
            raise HostError(f"OpenVINO does not take the {traced.kind}: {error}") from error
        return _Request(self._openvino, compiled, traced.output_name)


class _Request:
    def __init__(self, openvino: Any, compiled: Any, output_name: str) -> None:
        self._openvino = openvino
        self._request: Any = compiled.create_infer_request()
        self._output_name = output_name

    def run(self, inputs: Mapping[str, torch.Tensor], output: torch.Tensor) -> None:
        """See ``GraphRunner.run``."""
        request, tensor = self._request, self._openvino.Tensor
        for name, value in inputs.items():
            request.set_tensor(name, tensor(value.numpy(), shared_memory=True))
        request.set_tensor(self._output_name, tensor(output.numpy(), shared_memory=True))
        try:
            request.infer()
        except RuntimeError as error:
            raise HostError(f"OpenVINO failed: {error}") from error
