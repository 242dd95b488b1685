"""A traced UNet that computes with 8 bits: explicit QuantizeLinear and DequantizeLinear nodes.

Each layer of ``eight_bit_layers`` becomes

    activation → QuantizeLinear → DequantizeLinear ┐
                    8-bit weight → DequantizeLinear ┴→ Conv, MatMul or Gemm → as before

which TensorRT runs as one kernel on 8-bit numbers, and every other runtime of ONNX as what it
says. It is symmetric, as TensorRT takes it: no zero points. Activations have one scale; weights
have one for each output channel with int8 and one alone with fp8, whose exponent makes up for it.

The weights are rounded one at a time as they are written, straight from the model's own memory,
see Note [Weights beside the graph]. So a network of any size takes no memory to speak of, which
``onnxruntime.quantization`` cannot say: it loads the float network and copies it with its shapes,
and would not know most weights, which the exporter puts behind a Transpose.

Source: ONNX operators QuantizeLinear-19 and DequantizeLinear-19, the first with float16 scales and
with fp8; NVIDIA's guide to TensorRT's quantised types (explicit quantisation).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lpnode.errors import HostError, InvalidArgument
from lpnode.pipeline.backend.engine_key import NetworkKind, Precision
from lpnode.pipeline.backend.onnx_weights import TracedNetwork, lay_out_weights

if TYPE_CHECKING:
    import onnx

QUANTISED_OPSET = 19
"""What ``trace_network`` has to be given for a graph that is quantised."""
_SCALE = ".scale"
_LAYERS = ("Conv", "MatMul", "Gemm")
_SMALLEST_SCALE = 2.0**-24
"""Float16 has none below; a layer that only ever sees zeros would have 0 otherwise."""


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The 8-bit numbers of a precision, from minus ``largest`` to ``largest``."""

    dtype: torch.dtype
    onnx_name: str
    largest: float
    has_channel_scales: bool

    def rounded(self, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        limited = (values.float() / scales.float()).clamp_(-self.largest, self.largest)
        if not self.dtype.is_floating_point:
            limited.round_()
        return limited.to(self.dtype)


_NUMBERS = {
    Precision.INT8: _Numbers(torch.int8, "INT8", 127.0, True),
    Precision.FP8: _Numbers(torch.float8_e4m3fn, "FLOAT8E4M3FN", 448.0, False),
}


def quantise_network(
    traced: TracedNetwork,
    weights: Mapping[str, torch.Tensor],
    ranges: Mapping[str, float],
    precision: Precision,
) -> tuple[TracedNetwork, Mapping[str, torch.Tensor]]:
    """Makes the layers with ranges compute with 8 bits; ``traced`` stays as it is.

    Args:
        traced: a UNet of ``QUANTISED_OPSET``.
        weights: of ``network_weights``; read when the result is.
        ranges: of ``measure_ranges``.
        precision: int8 or fp8.
    Returns: what ``write_network`` takes in place of the arguments.
    Raises: InvalidArgument: another precision, network or opset. HostError: the graph has not every
        layer that there are ranges for.
    """
    import onnx

    if precision not in _NUMBERS or traced.kind is not NetworkKind.UNET:
        raise InvalidArgument(
            f"UNets are quantised to int8 and fp8, not {traced.kind} to {precision}"
        )
    opset = next(one.version for one in traced.graph.opset_import if one.domain in ("", "ai.onnx"))
    if opset < QUANTISED_OPSET:
        raise InvalidArgument(f"8 bits need a graph of opset {QUANTISED_OPSET}, got {opset}")
    graph = onnx.ModelProto()
    graph.CopyFrom(traced.graph)
    rewritten = _Rewriting(graph.graph, _NUMBERS[precision], traced.dtype, ranges)
    rewritten.run()
    lay_out_weights(graph)
    return (
        TracedNetwork(traced.kind, graph, traced.dtype),
        _RoundedWeights(weights, rewritten.is_transposed, rewritten.numbers, traced.dtype),
    )


class _Rewriting:
    """One pass over a graph's nodes, in their order, which is the order that they run in."""

    def __init__(
        self,
        graph: "onnx.GraphProto",
        numbers: _Numbers,
        dtype: torch.dtype,
        ranges: Mapping[str, float],
    ) -> None:
        import onnx

        self._helper: Any = onnx.helper
        self._float_type = {
            torch.float32: onnx.TensorProto.FLOAT,
            torch.float16: onnx.TensorProto.FLOAT16,
        }[dtype]
        self._eight_bit_type = getattr(onnx.TensorProto, numbers.onnx_name)
        self._graph = graph
        self.numbers = numbers
        self._ranges = {f"unet.{layer}.weight": value for layer, value in ranges.items()}
        self._weights = {one.name: one for one in graph.initializer}
        self._activations: dict[str, str] = {}
        self.is_transposed: dict[str, bool] = {}
        """Of each weight that is quantised: whether the graph wants it so."""

    def run(self) -> None:
        """Raises: HostError: a layer is missing."""
        turned = {
            node.output[0]: node.input[0]
            for node in self._graph.node
            if node.op_type == "Transpose" and node.input[0] in self._ranges
        }
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            if node.op_type == "Transpose" and node.output[0] in turned:
                continue  # the weight is written the other way round instead
            if node.op_type in _LAYERS:
                weight = turned.get(node.input[1], node.input[1])
                if weight in self._ranges:
                    nodes += self._activation(node, self._ranges[weight])
                    nodes += self._weight(node, weight, is_transposed=node.input[1] in turned)
            nodes.append(node)
        missing = sorted(self._ranges.keys() - self.is_transposed.keys())
        if missing:
            raise HostError(f"the exported graph has no layer of the weights {', '.join(missing)}")
        zero = self._helper.make_tensor("zero", self._eight_bit_type, [], b"\0", raw=True)
        self._graph.initializer.append(zero)
        # Copied first: the nodes of a graph go with it.
        kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(kept)

    def _activation(self, layer: "onnx.NodeProto", largest: float) -> Iterator["onnx.NodeProto"]:
        """Quantises a layer's input, once for all the layers that have it."""
        name = layer.input[0]
        if name not in self._activations:
            self._activations[name] = f"{name}.dequantised"
            scale = max(largest / self.numbers.largest, _SMALLEST_SCALE)
            made = self._helper.make_tensor(f"{name}{_SCALE}", self._float_type, [], [scale])
            self._graph.initializer.append(made)
            inputs = [f"{name}{_SCALE}", "zero"]
            quantised = f"{name}.quantised"
            yield self._helper.make_node("QuantizeLinear", [name, *inputs], [quantised])
            yield self._helper.make_node(
                "DequantizeLinear", [quantised, *inputs], [self._activations[name]]
            )
        layer.input[0] = self._activations[name]

    def _weight(
        self, layer: "onnx.NodeProto", name: str, *, is_transposed: bool
    ) -> Iterator["onnx.NodeProto"]:
        weight = self._weights[name]
        num_channels = weight.dims[0]
        self.is_transposed[name] = is_transposed
        weight.data_type = self._eight_bit_type
        weight.dims[:] = reversed(weight.dims) if is_transposed else weight.dims
        scale = type(weight)(
            name=name + _SCALE,
            dims=[num_channels] if self.numbers.has_channel_scales else [],
            data_type=self._float_type,
            data_location=weight.data_location,
        )
        self._graph.initializer.append(scale)
        layer.input[1] = f"{name}.dequantised"
        axis = {"axis": int(is_transposed)} if self.numbers.has_channel_scales else {}
        yield self._helper.make_node(
            "DequantizeLinear", [name, scale.name], [layer.input[1]], **axis
        )


class _RoundedWeights(Mapping[str, torch.Tensor]):
    """Weights and scales by the names in a quantised graph, computed when they are asked for."""

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        is_transposed: Mapping[str, bool],
        numbers: _Numbers,
        dtype: torch.dtype,
    ) -> None:
        self._weights = weights
        self._is_transposed = is_transposed
        self._numbers = numbers
        self._dtype = dtype

    def __getitem__(self, name: str) -> torch.Tensor:
        of_scale = name.removesuffix(_SCALE)
        if of_scale != name and of_scale in self._is_transposed:
            return self._scales(self._weights[of_scale])
        weight = self._weights[name]
        if name not in self._is_transposed:
            return weight
        scales = self._scales(weight)
        if self._numbers.has_channel_scales:
            scales = scales.reshape(-1, *[1] * (weight.dim() - 1))
        rounded = self._numbers.rounded(weight.detach(), scales)
        return rounded.T if self._is_transposed[name] else rounded

    def __iter__(self) -> Iterator[str]:
        yield from self._weights
        yield from (name + _SCALE for name in self._is_transposed)

    def __len__(self) -> int:
        return len(self._weights) + len(self._is_transposed)

    def _scales(self, weight: torch.Tensor) -> torch.Tensor:
        sizes = weight.detach().abs().float()
        largest = sizes.flatten(1).amax(1) if self._numbers.has_channel_scales else sizes.amax()
        # In the type that the graph has them in, so that weights are rounded to what they mean.
        return (largest / self._numbers.largest).clamp_min_(_SMALLEST_SCALE).to(self._dtype)
