"""Graphs of networks, and the files with weights that lie beside them.

Note [Weights beside the graph]: a network is traced with weights that have its shapes and no
memory, and the graph names its weights without holding them. So one graph serves every set of
weights and every precision costs no copy of the model; the weights are written to a file beside
the graph straight from torch's memory, or handed to a runtime without any file.
"""

import io
import math
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lpnode.errors import HostError
from lpnode.pipeline.backend.engine_cache import BuildCancelled
from lpnode.pipeline.backend.engine_key import NetworkKind

if TYPE_CHECKING:
    import onnx

PAGE_BYTES = 4096
"""Where each weight begins in its file: runtimes map whole pages."""


@dataclass(frozen=True, slots=True)
class TracedNetwork:
    """A graph whose weights lie elsewhere, see Note [Weights beside the graph].

    Attributes:
        graph: each weight is an initializer with external data: offset and length are those of
            the file that ``write_weights`` writes, the file's name is set when it is written.
        dtype: of weights, inputs and outputs, but for ``timestep``, which is float32 always.
    """

    kind: NetworkKind
    graph: "onnx.ModelProto"
    dtype: torch.dtype

    @property
    def input_names(self) -> tuple[str, ...]:
        """In the order of ``example_inputs``. Source: streamdiffusion.md section 14."""
        return tuple(value.name for value in self.graph.graph.input)

    @property
    def output_name(self) -> str:
        """``latent`` or ``images``."""
        return str(self.graph.graph.output[0].name)

    @property
    def weight_names(self) -> tuple[str, ...]:
        """Keys of ``network_weights``, in the order of the file."""
        return tuple(weight.name for weight in _weights(self.graph))


def write_network(
    traced: TracedNetwork,
    weights: Mapping[str, torch.Tensor],
    path: Path,
    *,
    stop: threading.Event | None = None,
) -> tuple[Path, Path]:
    """Writes a graph to ``path`` and its weights beside it, checked, under their names at the end.

    Weights of another dtype are converted one at a time.

    Args: stop: set from another thread to give up, at the next weight.
    Returns: the paths of graph and weights.
    Raises: HostError: a weight is missing or has another shape, or the disk is full.
        BuildCancelled: ``stop`` was set.
    """
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(traced.graph)
    target = path.with_name(path.name + ".weights")
    for initializer in _weights(graph):
        _set_external(initializer, "location", target.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            partial = Path(folder, path.name)
            write_weights(traced, weights, Path(folder, target.name), stop=stop)
            _check(stop)
            partial.write_bytes(graph.SerializeToString())
            onnx.checker.check_model(str(partial))
            Path(folder, target.name).replace(target)
            partial.replace(path)
    except OSError as error:
        raise HostError(f"{path}: cannot write the exported network: {error}") from error
    except onnx.checker.ValidationError as error:
        raise HostError(f"{path}: the exported network is not valid ONNX: {error}") from error
    return path, target


def write_weights(
    traced: TracedNetwork,
    weights: Mapping[str, torch.Tensor],
    path: Path,
    *,
    stop: threading.Event | None = None,
) -> None:
    """Writes weights in the layout that the graph's initializers describe.

    Raises: HostError. BuildCancelled: ``stop`` was set; part of the file is there.
    """
    with open(path, "wb") as file:
        for _, tensor in fitting_weights(traced, weights):
            _check(stop)
            file.seek(-file.tell() % PAGE_BYTES, io.SEEK_CUR)
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def fitting_weights(
    traced: TracedNetwork, weights: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each weight in the graph's order, contiguous on the CPU and of the graph's dtype.

    What is so already is not copied. Raises: HostError: a weight is missing or of another shape.
    """
    for initializer in _weights(traced.graph):
        tensor = weights.get(initializer.name)
        if tensor is None or list(tensor.shape) != list(initializer.dims):
            found = "nothing" if tensor is None else tuple(tensor.shape)
            raise HostError(
                f"{traced.kind}: expected {initializer.name} of shape "
                f"{tuple(initializer.dims)}, got {found}; these weights are of another network"
            )
        is_rounded = tensor.dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
        dtype = traced.dtype if is_rounded else tensor.dtype
        yield initializer.name, tensor.detach().to("cpu", dtype).contiguous()


def lay_out_weights(model: "onnx.ModelProto") -> None:
    """Says where in their file the graph's weights lie, one after the other."""
    import onnx

    offset = 0
    for weight in _weights(model):
        element = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)
        num_bytes = math.prod(weight.dims) * element.itemsize
        _set_external(weight, "location", "weights")
        _set_external(weight, "offset", str(offset))
        _set_external(weight, "length", str(num_bytes))
        offset += num_bytes + -num_bytes % PAGE_BYTES


def _weights(model: "onnx.ModelProto") -> list["onnx.TensorProto"]:
    """The initializers whose values lie in a file; a graph may have small ones of its own."""
    import onnx

    return [
        one for one in model.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL
    ]


def _set_external(initializer: "onnx.TensorProto", key: str, value: str) -> None:
    for entry in initializer.external_data:
        if entry.key == key:
            entry.value = value
            return
    initializer.external_data.add(key=key, value=value)


def _check(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise BuildCancelled("stopped while a network was being exported")
