"""A session of ONNX Runtime that reads and writes torch's memory in place."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lpnode.errors import HostError

if TYPE_CHECKING:  # compiling in a child process needs no torch
    import torch

_ELEMENTS = {"tensor(float16)": "float16", "tensor(float)": "float32"}


def session_options(num_threads: int) -> Any:
    """``onnxruntime.SessionOptions`` for a node; 0 threads stand for one on each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # it warns of its own optimisations
    # Between frames the cores belong to whoever decodes and encodes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


class BoundSession:
    """Runs an ``onnxruntime.InferenceSession`` with one output on the processor."""

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
        except Exception as error:  # its exceptions have no base of their own
            raise HostError(f"ONNX Runtime failed: {error}") from error
