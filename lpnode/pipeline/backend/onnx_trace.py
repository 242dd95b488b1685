"""A model's networks traced into ONNX, for every runtime that is not torch itself.

What is traced has no weights to speak of, see Note [Weights beside the graph] in ``onnx_weights``.
It is traced on the processor wherever the model is: a graph says nothing of devices.
"""

import copy
import io
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lpnode.errors import HostError, InvalidArgument
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.child_work import WorkProgress, run_in_child
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.onnx_weights import TracedNetwork, lay_out_weights

if TYPE_CHECKING:
    import onnx

OPSET = 17
ROWS, HEIGHT, WIDTH = "rows", "height", "width"
"""Names of the dimensions that an exported graph leaves open."""
_EXAMPLE_ROWS = 2


def trace_network(
    model: DiffusionModel,
    kind: NetworkKind,
    *,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
    opset: int = OPSET,
) -> TracedNetwork:
    """Traces a network into ONNX. The number of rows stays open; cost does not grow with ``size``.

    It is done here and now, as loading a model may. With a large UNet that takes tens of seconds in
    which torch lets no other thread run for long: while frames are served, ``trace_in_child``.

    Inputs and outputs, with R rows of latents (4, h, w) and S pictures (3, 8h, 8w):

    * ``unet``: ``sample`` (R, 4, h, w), ``timestep`` (R,) float32, ``encoder_hidden_states``
      (R, L, D), for SDXL ``text_embeds`` (R, P) and ``time_ids`` (R, 6) → ``latent``.
    * ``vae_encoder``: ``images``, for a KL VAE ``noise`` of the result's shape (zeros give the
      posterior's mean) → ``latent``, scaled.
    * ``vae_decoder``: ``latent``, scaled → ``images``, about [-1, 1].

    Args:
        size: (width, height) of pictures in pixels, fixed in the graph; None leaves it open for
            sizes that are multiples of ``open_size_step``.
        dtype: float32 or float16, whatever the model's own is.
    Raises: InvalidArgument: a size that is no multiple of ``pixels_per_latent``. HostError: torch
        cannot trace the network.
    Source: streamdiffusion.md sections 10 and 14.
    """
    return TracedNetwork(kind, _Trace.of(model, kind, size, dtype, opset).graph(), dtype)


def trace_in_child(
    model: DiffusionModel,
    opsets: Mapping[NetworkKind, int],
    *,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
    stop: threading.Event,
) -> dict[NetworkKind, TracedNetwork]:
    """Traces networks as ``trace_network`` does, all in one process that ends when ``stop`` is set.

    Threads of this process go on meanwhile. The child is sent modules without their weights, and
    takes some seconds to import what they are made of.

    Args:
        opsets: the networks that are traced, each with its graph's opset.
    Raises: InvalidArgument, HostError: see ``trace_network``. BuildCancelled: ``stop`` was set.
    """
    import onnx

    traces = [_Trace.of(model, kind, size, dtype, opset) for kind, opset in opsets.items()]
    graphs = run_in_child(_Tracing(traces), stop)
    return {
        kind: TracedNetwork(kind, onnx.load_from_string(graph), dtype)
        for kind, graph in zip(opsets, graphs, strict=True)
    }


@dataclass(frozen=True, slots=True)
class _Trace:
    """All that a graph is made from; can be pickled, in less than a MiB."""

    model_name: str
    kind: NetworkKind
    network: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    size: tuple[int, int] | None
    pixels_per_latent: int
    opset: int

    @classmethod
    def of(
        cls,
        model: DiffusionModel,
        kind: NetworkKind,
        size: tuple[int, int] | None,
        dtype: torch.dtype,
        opset: int,
    ) -> "_Trace":
        side = model.traits.pixels_per_latent
        if size is not None and any(length % side for length in size):
            raise InvalidArgument(
                f"width and height must be multiples of {side}, got {size[0]}x{size[1]}"
            )
        if dtype not in (torch.float32, torch.float16):
            raise InvalidArgument(f"networks are exported in float32 or float16, got {dtype}")
        inputs = example_inputs(
            model, kind, size=_example_size(model, size), rows=_EXAMPLE_ROWS, dtype=dtype
        )
        return cls(
            model.name,
            kind,
            _without_memory(_wrapped(model, kind), dtype),
            {name: value.cpu() for name, value in inputs.items()},
            size,
            side,
            opset,
        )

    def graph(self) -> "onnx.ModelProto":
        import onnx

        output = "images" if self.kind is NetworkKind.VAE_DECODER else "latent"
        file = io.BytesIO()
        with warnings.catch_warnings(), torch.no_grad():
            # The tracer reminds us that it follows one branch only. They all ask about sizes, and
            # every kind and size is held against torch in the tests. The exporter that torch
            # prefers took 20 times as long on a small UNet, and cannot leave sizes open there.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "Constant folding")
            try:
                torch.onnx.export(
                    self.network,
                    tuple(self.inputs.values()),
                    file,  # type: ignore[arg-type]
                    dynamo=False,
                    opset_version=self.opset,
                    input_names=list(self.inputs),
                    output_names=[output],
                    dynamic_axes={name: _open_axes(name) for name in (*self.inputs, output)},
                    export_params=False,
                    do_constant_folding=False,
                    # Otherwise weights of equal value become one, which the next set's are not.
                    keep_initializers_as_inputs=True,
                )
            except (RuntimeError, torch.onnx.OnnxExporterError) as error:
                raise HostError(
                    f"{self.model_name}: torch cannot export its {self.kind}: {error}"
                ) from error
        graph = onnx.load_from_string(file.getvalue())
        del graph.graph.value_info[:]  # what is there was inferred for the example
        _inputs_to_weights(graph, set(self.inputs))
        if self.size is not None:
            _fix_size(graph, self.size, self.pixels_per_latent)
        return graph


@dataclass(frozen=True, slots=True)
class _Tracing:
    """See ``ChildWork``; gives a serialised graph for each trace."""

    traces: list[_Trace]

    @property
    def name(self) -> str:
        return "torch"

    def run(self, _: WorkProgress) -> list[bytes]:
        return [trace.graph().SerializeToString() for trace in self.traces]


def example_inputs(
    model: DiffusionModel,
    kind: NetworkKind,
    *,
    size: tuple[int, int],
    rows: int,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> dict[str, torch.Tensor]:
    """Random inputs of a network by name, in the graph's order, on the model's device.

    Args:
        size: (width, height) of pictures in pixels.
        generator: on the CPU; torch's own when None.
    """
    traits = model.traits
    width, height = size
    device = next(model.unet.parameters()).device

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    latents = (traits.latent_channels, *(s // traits.pixels_per_latent for s in (height, width)))
    if kind is NetworkKind.VAE_DECODER:
        return {"latent": noise(rows, *latents)}
    if kind is NetworkKind.VAE_ENCODER:
        inputs = {"images": noise(rows, 3, height, width).clamp_(-1, 1)}
        if not traits.is_tiny_vae:
            inputs["noise"] = noise(rows, *latents)
        return inputs
    inputs = {
        "sample": noise(rows, *latents),
        "timestep": torch.linspace(999, 99, rows).to(device),
        "encoder_hidden_states": noise(rows, traits.num_text_tokens, traits.text_width),
    }
    if traits.pooled_width is not None:
        inputs["text_embeds"] = noise(rows, traits.pooled_width)
        size_ids = torch.tensor([height, width, 0, 0, height, width], device=device, dtype=dtype)
        inputs["time_ids"] = size_ids.repeat(rows, 1)
    return inputs


def open_size_step(model: DiffusionModel) -> int:
    """What sizes must be multiples of, in pixels, where a graph leaves them open.

    It is the side of one place in the UNet's innermost block; other sizes are interpolated on the
    way up, which a graph for open sizes has not.
    """
    config: Any = model.unet.config
    return int(model.traits.pixels_per_latent * 2 ** (len(config.block_out_channels) - 1))


def network_weights(model: DiffusionModel, kind: NetworkKind) -> dict[str, torch.Tensor]:
    """The model's own tensors by the names that a traced graph has for them."""
    return dict(_wrapped(model, kind).state_dict(keep_vars=True))


class _Unet(torch.nn.Module):
    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.unet = model.unet

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        tokens: torch.Tensor,
        pooled: torch.Tensor | None = None,
        size_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        added = None if pooled is None else {"text_embeds": pooled, "time_ids": size_ids}
        result: torch.Tensor = self.unet(
            sample, timestep, tokens, added_cond_kwargs=added, return_dict=False
        )[0]
        return result


class _Encoder(torch.nn.Module):
    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.vae: Any = model.vae
        self.scale = model.traits.latent_scale

    def forward(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        encoded = self.vae.encode(images, return_dict=False)[0]
        latents: torch.Tensor = encoded if noise is None else encoded.mean + encoded.std * noise
        return latents if self.scale == 1.0 else latents * self.scale


class _Decoder(torch.nn.Module):
    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.vae: Any = model.vae
        self.scale = model.traits.latent_scale

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        latents = latents if self.scale == 1.0 else latents / self.scale
        result: torch.Tensor = self.vae.decode(latents, return_dict=False)[0]
        return result


def _wrapped(model: DiffusionModel, kind: NetworkKind) -> torch.nn.Module:
    if kind is NetworkKind.UNET:
        return _Unet(model)
    return _Encoder(model) if kind is NetworkKind.VAE_ENCODER else _Decoder(model)


def _without_memory(network: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """The same modules on the processor, with weights of the same shapes that are one zero each."""
    memo: dict[int, Any] = {}
    for tensor in network.state_dict(keep_vars=True).values():
        of_dtype = dtype if tensor.is_floating_point() else tensor.dtype
        empty = torch.zeros((), dtype=of_dtype).expand(tensor.shape)
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        memo[id(tensor)] = torch.nn.Parameter(empty, False) if is_parameter else empty
    return copy.deepcopy(network, memo).cpu().eval()  # buffers that are no weights as well


def _example_size(model: DiffusionModel, size: tuple[int, int] | None) -> tuple[int, int]:
    """A small size that the network treats as it does ``size``."""
    step = open_size_step(model)
    if size is None:
        return 2 * step, 2 * step
    return step + size[0] % step, step + size[1] % step


def _open_axes(name: str) -> dict[int, str]:
    if name in ("sample", "latent", "images", "noise"):
        return {0: ROWS, 2: HEIGHT, 3: WIDTH}
    return {0: ROWS}


def _inputs_to_weights(model: "onnx.ModelProto", input_names: set[str]) -> None:
    """Makes initializers of the inputs that are weights."""
    import onnx

    graph = model.graph
    for value in graph.input:
        if value.name not in input_names:
            kind = value.type.tensor_type
            graph.initializer.append(
                onnx.TensorProto(
                    name=value.name,
                    dims=[dim.dim_value for dim in kind.shape.dim],
                    data_type=kind.elem_type,
                    data_location=onnx.TensorProto.EXTERNAL,
                )
            )
    kept = [value for value in graph.input if value.name in input_names]
    del graph.input[:]
    graph.input.extend(kept)
    lay_out_weights(model)


def _fix_size(model: "onnx.ModelProto", size: tuple[int, int], pixels_per_latent: int) -> None:
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) != 4:
            continue
        divisor = 1 if value.name == "images" else pixels_per_latent
        dims[2].dim_value = size[1] // divisor
        dims[3].dim_value = size[0] // divisor
