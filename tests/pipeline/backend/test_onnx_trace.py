"""Every network of every kind of model as ONNX, run by ONNX Runtime and held against torch."""

import threading
from functools import cache
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from tiny_diffusion_models import STRUCTURES, tiny_model

from lpnode.errors import HostError, InvalidArgument
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.onnx_trace import (
    OPSET,
    example_inputs,
    network_weights,
    open_size_step,
    trace_in_child,
    trace_network,
)
from lpnode.pipeline.backend.onnx_weights import TracedNetwork, write_network

TOLERANCE = 2e-5
"""Largest difference from torch in float32; outputs are of the order of 1."""


@cache
def traced(
    structure: str,
    kind: NetworkKind,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> TracedNetwork:
    """Tracing a UNet takes longer than all else here."""
    return trace_network(tiny_model(structure), kind, size=size, dtype=dtype)


def from_torch(
    model: DiffusionModel, kind: NetworkKind, inputs: dict[str, torch.Tensor]
) -> torch.Tensor:
    """What diffusers' own modules say."""
    scale = model.traits.latent_scale
    with torch.no_grad():
        if kind is NetworkKind.VAE_DECODER:
            return model.vae.decode(inputs["latent"] / scale).sample
        if kind is NetworkKind.VAE_ENCODER:
            encoded = model.vae.encode(inputs["images"])
            if model.traits.is_tiny_vae:
                return encoded.latents * scale
            posterior = encoded.latent_dist
            return (posterior.mean + posterior.std * inputs["noise"]) * scale
        added = {name: inputs[name] for name in ("text_embeds", "time_ids") if name in inputs}
        return model.unet(
            inputs["sample"],
            inputs["timestep"],
            inputs["encoder_hidden_states"],
            added_cond_kwargs=added or None,
        ).sample


def from_file(path: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {name: value.numpy() for name, value in inputs.items()}
    return torch.from_numpy(session.run(None, feed)[0])


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one.float() - other.float()).abs().max())


KIND_OF_STRUCTURE = [
    *((structure, NetworkKind.UNET) for structure in STRUCTURES if "-" not in structure),
    *(
        (structure, kind)
        for structure in ("sd15", "sdxl-kl")
        for kind in (NetworkKind.VAE_ENCODER, NetworkKind.VAE_DECODER)
    ),
]


@pytest.mark.parametrize(("structure", "kind"), KIND_OF_STRUCTURE)
def test_a_network_with_open_sizes_agrees_with_torch(
    structure: str, kind: NetworkKind, tmp_path: Path
) -> None:
    model, path = tiny_model(structure), tmp_path / "network.onnx"
    write_network(traced(structure, kind), network_weights(model, kind), path)
    step = open_size_step(model)
    for rows, size in ((1, (64, 64)), (3, (4 * step, 5 * step))):
        inputs = example_inputs(model, kind, size=size, rows=rows)
        expected = from_torch(model, kind, inputs)
        assert largest_difference(from_file(path, inputs), expected) < TOLERANCE


@pytest.mark.parametrize("kind", NetworkKind)
def test_a_network_of_a_fixed_size_agrees_with_torch_and_takes_no_other(
    kind: NetworkKind, tmp_path: Path
) -> None:
    model, path = tiny_model("sdxl-kl"), tmp_path / "network.onnx"
    size = (72, 40)  # of latents with an odd number of columns and of rows
    write_network(trace_network(model, kind, size=size), network_weights(model, kind), path)
    for rows in (1, 2):
        inputs = example_inputs(model, kind, size=size, rows=rows)
        expected = from_torch(model, kind, inputs)
        assert largest_difference(from_file(path, inputs), expected) < TOLERANCE
    with pytest.raises(Exception, match="Got invalid dimensions"):
        from_file(path, example_inputs(model, kind, size=(96, 96), rows=1))


@pytest.mark.parametrize("kind", NetworkKind)
def test_a_network_in_half_precision_is_near_torch_in_full(
    kind: NetworkKind, tmp_path: Path
) -> None:
    model, path, half = tiny_model("sdxl"), tmp_path / "network.onnx", torch.float16
    write_network(traced("sdxl", kind, (64, 64), half), network_weights(model, kind), path)
    inputs = example_inputs(model, kind, size=(64, 64), rows=2, dtype=half)
    expected = from_torch(model, kind, {name: value.float() for name, value in inputs.items()})
    # Ten times the step of float16 at 1.
    assert largest_difference(from_file(path, inputs), expected) < 1e-2


def test_inputs_and_outputs_have_the_names_of_the_contract() -> None:
    networks = {
        NetworkKind.UNET: traced("sdxl", NetworkKind.UNET),
        NetworkKind.VAE_ENCODER: traced("sdxl-kl", NetworkKind.VAE_ENCODER),
        NetworkKind.VAE_DECODER: traced("sdxl-kl", NetworkKind.VAE_DECODER),
    }
    sdxl_inputs = ("sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids")
    assert {k: (network.input_names, network.output_name) for k, network in networks.items()} == {
        NetworkKind.UNET: (sdxl_inputs, "latent"),
        NetworkKind.VAE_ENCODER: (("images", "noise"), "latent"),
        NetworkKind.VAE_DECODER: (("latent",), "images"),
    }


def test_timesteps_are_single_precision_in_a_network_of_half() -> None:
    graph = traced("sdxl", NetworkKind.UNET, (64, 64), torch.float16).graph.graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    assert types["timestep"] == onnx.TensorProto.FLOAT
    assert types["sample"] == onnx.TensorProto.FLOAT16


def test_one_graph_serves_two_sets_of_weights(tmp_path: Path) -> None:
    network = traced("sd15", NetworkKind.UNET)
    inputs = example_inputs(tiny_model(), NetworkKind.UNET, size=(64, 64), rows=2)
    for seed in (1, 2):
        model, path = tiny_model(seed=seed), tmp_path / f"{seed}.onnx"
        write_network(network, network_weights(model, NetworkKind.UNET), path)
        expected = from_torch(model, NetworkKind.UNET, inputs)
        assert largest_difference(from_file(path, inputs), expected) < TOLERANCE


def test_the_model_is_not_changed_by_a_trace() -> None:
    model = tiny_model()
    before = {name: value.clone() for name, value in model.vae.state_dict().items()}
    trace_network(model, NetworkKind.VAE_ENCODER, dtype=torch.float16)
    after = model.vae.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_size_that_latents_cannot_have_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="multiples of 8, got 60x64"):
        trace_network(tiny_model(), NetworkKind.VAE_ENCODER, size=(60, 64))


def test_a_precision_that_onnx_runtimes_do_not_share_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"float32 or float16, got torch\.bfloat16"):
        trace_network(tiny_model(), NetworkKind.VAE_ENCODER, dtype=torch.bfloat16)


def test_a_child_traces_what_is_traced_here() -> None:
    size, half = (64, 64), torch.float16
    opsets = dict.fromkeys(NetworkKind, OPSET)
    stop = threading.Event()
    networks = trace_in_child(tiny_model("sdxl"), opsets, size=size, dtype=half, stop=stop)
    assert networks == {kind: traced("sdxl", kind, size, half) for kind in NetworkKind}


def test_a_network_that_torch_cannot_export_is_named_by_a_child() -> None:
    model = tiny_model()
    model.vae.encoder.layers[0] = torch.nn.Identity()  # and so what follows has too few channels
    opsets = {NetworkKind.VAE_ENCODER: OPSET}
    with pytest.raises(HostError, match=r"tiny-sd15: torch cannot export its vae_encoder: .*chann"):
        trace_in_child(model, opsets, stop=threading.Event())
