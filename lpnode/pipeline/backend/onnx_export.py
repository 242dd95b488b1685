"""A model's networks as ONNX files, for every runtime that is not torch itself.

Note [Weights beside the graph]: a network is traced with weights that have its shapes and no
memory, and the graph names its weights without holding them. So one graph serves every set of
weights and every precision costs no copy of the model; the weights are written to a file beside
the graph straight from torch's memory, or handed to a runtime without any file.
"""

import copy
import io
import math
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lpnode.errors import HostError, InvalidArgument
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_cache import BuildCancelled
from lpnode.pipeline.backend.engine_key import NetworkKind

if TYPE_CHECKING:
    import onnx

OPSET = 17
PAGE_BYTES = 4096
"""Where each weight begins in its file: runtimes map whole pages."""
ROWS, HEIGHT, WIDTH = "rows", "height", "width"
"""Names of the dimensions that an exported graph leaves open."""
_EXAMPLE_ROWS = 2


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


def trace_network(
    model: DiffusionModel,
    kind: NetworkKind,
    *,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
    opset: int = OPSET,
    stop: threading.Event | None = None,
) -> TracedNetwork:
    """Traces a network into ONNX. The number of rows stays open; cost does not grow with ``size``.

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
        stop: set from another thread to give up, at the next layer that is traced; what torch then
            makes of the trace cannot be interrupted.
    Raises: InvalidArgument: a size that is no multiple of ``pixels_per_latent``. HostError: torch
        cannot trace the network. BuildCancelled: ``stop`` was set.
    Source: streamdiffusion.md sections 10 and 14.
    """
    import onnx

    if size is not None and any(side % model.traits.pixels_per_latent for side in size):
        raise InvalidArgument(
            f"width and height must be multiples of {model.traits.pixels_per_latent}, "
            f"got {size[0]}x{size[1]}"
        )
    if dtype not in (torch.float32, torch.float16):
        raise InvalidArgument(f"networks are exported in float32 or float16, got {dtype}")
    network = _without_memory(_wrapped(model, kind), dtype)
    for part in network.modules():
        part.register_forward_pre_hook(lambda *_: _check(stop))
    inputs = example_inputs(
        model, kind, size=_example_size(model, size), rows=_EXAMPLE_ROWS, dtype=dtype
    )
    output = "images" if kind is NetworkKind.VAE_DECODER else "latent"
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer reminds us that it follows one branch only. They all ask about sizes, and
        # every kind and size is held against torch in the tests. The exporter that torch prefers
        # took 20 times as long on a small UNet, and cannot leave sizes open there.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding")
        try:
            torch.onnx.export(
                network,
                tuple(inputs.values()),
                file,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=opset,
                input_names=list(inputs),
                output_names=[output],
                dynamic_axes={name: _open_axes(name) for name in (*inputs, output)},
                export_params=False,
                do_constant_folding=False,
                # Otherwise weights of equal value become one, which the next set's are not.
                keep_initializers_as_inputs=True,
            )
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            raise HostError(f"{model.name}: torch cannot export its {kind}: {error}") from error
    _check(stop)
    graph = onnx.load_from_string(file.getvalue())
    del graph.graph.value_info[:]  # what is there was inferred for the example
    _inputs_to_weights(graph, set(inputs))
    if size is not None:
        _fix_size(graph, size, model.traits.pixels_per_latent)
    return TracedNetwork(kind, graph, dtype)


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


def export_network(
    model: DiffusionModel,
    kind: NetworkKind,
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
    stop: threading.Event | None = None,
) -> TracedNetwork:
    """Traces a network, see ``trace_network``, and writes it, see ``write_network``."""
    traced = trace_network(model, kind, size=size, dtype=dtype, stop=stop)
    write_network(traced, network_weights(model, kind), path, stop=stop)
    return traced


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


def _check(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise BuildCancelled("stopped while a network was being exported")


def _without_memory(network: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """The same modules with weights of the same shapes that are one zero each."""
    memo: dict[int, Any] = {}
    for tensor in network.state_dict(keep_vars=True).values():
        of_dtype = dtype if tensor.is_floating_point() else tensor.dtype
        empty = torch.zeros((), dtype=of_dtype, device=tensor.device).expand(tensor.shape)
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        memo[id(tensor)] = torch.nn.Parameter(empty, False) if is_parameter else empty
    return copy.deepcopy(network, memo).eval()


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


def _fix_size(model: "onnx.ModelProto", size: tuple[int, int], pixels_per_latent: int) -> None:
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) != 4:
            continue
        divisor = 1 if value.name == "images" else pixels_per_latent
        dims[2].dim_value = size[1] // divisor
        dims[3].dim_value = size[0] // divisor
