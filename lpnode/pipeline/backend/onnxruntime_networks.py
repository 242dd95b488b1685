"""A model's networks run by ONNX Runtime on the processor."""

from collections.abc import Mapping

import numpy as np
import torch

from lpnode.errors import HostError
from lpnode.pipeline.backend.onnx_export import TracedNetwork, fitting_weights
from lpnode.pipeline.backend.onnx_networks import GraphCache, GraphRunner, OnnxNetworks


class OnnxRuntimeNetworks(OnnxNetworks):
    """``Networks`` by ONNX Runtime. Weights are read from the model's own memory, not from files.

    Args:
        num_threads: that work on one call; 0 for one on each core.
        graphs: see ``OnnxNetworks``.
    """

    name = "onnxruntime"

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        *,
        num_threads: int = 0,
        graphs: GraphCache | None = None,
    ) -> None:
        super().__init__(dtype, graphs=graphs)
        self._num_threads = num_threads

    def compile(self, traced: TracedNetwork, weights: Mapping[str, torch.Tensor]) -> GraphRunner:
        """See ``OnnxNetworks.compile``."""
        return _Session(traced, weights, self._num_threads)


class _Session:
    def __init__(
        self, traced: TracedNetwork, weights: Mapping[str, torch.Tensor], num_threads: int
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # what it warns of is its own optimisation
        # Between frames the cores belong to whoever decodes and encodes.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # The session goes on reading this memory, so it must live as long.
        self._weights = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy())
            for name, tensor in fitting_weights(traced, weights)
        }
        options.add_external_initializers(list(self._weights), list(self._weights.values()))
        try:
            self._session = onnxruntime.InferenceSession(
                traced.graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        # Its exceptions have no common base of their own.
        except Exception as error:
            raise HostError(f"ONNX Runtime does not take the {traced.kind}: {error}") from error
        self._binding = self._session.io_binding()
        self._types = {
            value.name: np.float16 if value.type == "tensor(float16)" else np.float32
            for value in (*self._session.get_inputs(), *self._session.get_outputs())
        }
        self._output_name = traced.output_name

    def run(self, inputs: Mapping[str, torch.Tensor], output: torch.Tensor) -> None:
        """See ``GraphRunner.run``."""
        binding, types = self._binding, self._types
        for name, value in inputs.items():
            binding.bind_input(name, "cpu", 0, types[name], value.shape, value.data_ptr())
        name = self._output_name
        binding.bind_output(name, "cpu", 0, types[name], output.shape, output.data_ptr())
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise HostError(f"ONNX Runtime failed: {error}") from error
