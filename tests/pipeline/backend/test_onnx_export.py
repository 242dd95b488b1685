"""Every network of every kind of model as ONNX, run by ONNX Runtime and held against torch."""

import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from tiny_diffusion_models import STRUCTURES, tiny_model

from lpnode.errors import HostError, InvalidArgument
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_cache import BuildCancelled
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.onnx_export import (
    TracedNetwork,
    example_inputs,
    export_network,
    fitting_weights,
    network_weights,
    open_size_step,
    trace_network,
    write_network,
)

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
    export_network(model, kind, path, size=size)
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


def test_weights_that_are_as_the_graph_wants_them_are_not_copied() -> None:
    weights = network_weights(tiny_model(), NetworkKind.UNET)
    fitting = dict(fitting_weights(traced("sd15", NetworkKind.UNET), weights))
    assert set(fitting) == set(weights)
    assert all(fitting[name].data_ptr() == weights[name].data_ptr() for name in weights)


def test_the_model_is_not_changed_by_an_export(tmp_path: Path) -> None:
    model = tiny_model()
    before = {name: value.clone() for name, value in model.vae.state_dict().items()}
    export_network(model, NetworkKind.VAE_ENCODER, tmp_path / "a.onnx", dtype=torch.float16)
    after = model.vae.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_export_says_nothing_and_leaves_two_files(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_network(tiny_model(), NetworkKind.VAE_ENCODER, tmp_path / "vae.onnx")
    assert not caught
    assert {file.name for file in tmp_path.iterdir()} == {"vae.onnx", "vae.onnx.weights"}


def test_weights_of_another_network_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    network = traced("sd15", NetworkKind.UNET)
    weights = network_weights(tiny_model("sdxl"), NetworkKind.UNET)
    with pytest.raises(HostError, match=r"unet: expected unet\.\S+ of shape .* another network"):
        write_network(network, weights, tmp_path / "unet.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(HostError, match=r"taken.*cannot write the exported network"):
        export_network(tiny_model(), NetworkKind.VAE_DECODER, tmp_path / "taken" / "vae.onnx")


def test_a_size_that_latents_cannot_have_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="multiples of 8, got 60x64"):
        trace_network(tiny_model(), NetworkKind.VAE_ENCODER, size=(60, 64))


def test_a_precision_that_onnx_runtimes_do_not_share_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"float32 or float16, got torch\.bfloat16"):
        trace_network(tiny_model(), NetworkKind.VAE_ENCODER, dtype=torch.bfloat16)


def test_an_export_that_is_stopped_ends_at_the_next_layer(tmp_path: Path) -> None:
    model, stop, reached = tiny_model(), threading.Event(), []
    encoder: Any = model.vae.encoder
    layers = list(encoder.layers)
    layers[0].register_forward_pre_hook(lambda *_: stop.set())
    layers[1].register_forward_hook(lambda *_: reached.append(1))
    with pytest.raises(BuildCancelled, match="exported"):
        export_network(model, NetworkKind.VAE_ENCODER, tmp_path / "vae.onnx", stop=stop)
    assert not reached
    assert not list(tmp_path.iterdir())


class StopAtSecondLook(threading.Event):
    """Is set from the second time on that somebody looks."""

    num_looks = 0

    def is_set(self) -> bool:
        self.num_looks += 1
        return self.num_looks > 1


def test_a_stopped_export_writes_no_more_weights(tmp_path: Path) -> None:
    kind, stop = NetworkKind.VAE_ENCODER, StopAtSecondLook()
    network, weights = traced("sd15", kind), network_weights(tiny_model("sd15"), kind)
    with pytest.raises(BuildCancelled, match="exported"):
        write_network(network, weights, tmp_path / "vae.onnx", stop=stop)
    assert stop.num_looks == 2
    assert not list(tmp_path.iterdir())
