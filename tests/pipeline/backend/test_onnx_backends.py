"""ONNX Runtime and OpenVINO behind ``Networks``, held against diffusers' own modules."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_diffusion_models import graphs_of, tiny_model

from lpnode.errors import HostError, NotBuilt
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.networks import Conditioning, Networks, NetworkShapes
from lpnode.pipeline.backend.onnx_networks import MAX_SIZES
from lpnode.pipeline.backend.onnx_trace import example_inputs
from lpnode.pipeline.backend.onnxruntime_networks import OnnxRuntimeNetworks
from lpnode.pipeline.backend.openvino_networks import OpenVinoNetworks

TOLERANCE = 5e-5
"""Largest difference from torch in float32; outputs are of the order of 1."""

SHAPES = NetworkShapes(width=64, height=64, max_images=3, max_rows=3)
SIZE, OTHER_SIZE = (64, 64), (48, 32)

Make = Callable[..., Networks]


@pytest.fixture(params=["onnxruntime", "openvino"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Loads a structure's networks into a backend."""

    def networks(structure: str = "sd15", model: DiffusionModel | None = None) -> Networks:
        graphs = graphs_of(structure)
        loaded: Networks
        if request.param == "onnxruntime":
            loaded = OnnxRuntimeNetworks(num_threads=1, graphs=graphs)
        else:
            loaded = OpenVinoNetworks(tmp_path / "networks", num_threads=1, graphs=graphs)
        loaded.load(model or tiny_model(structure))
        return loaded

    return networks


def inputs_of(
    model: DiffusionModel, kind: NetworkKind, size: tuple[int, int], rows: int
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return example_inputs(model, kind, size=size, rows=rows, generator=generator)


def assert_agrees(
    networks: Networks, model: DiffusionModel, kind: NetworkKind, size: tuple[int, int], rows: int
) -> None:
    """Runs one network and what it stands for."""
    inputs = inputs_of(model, kind, size, rows)
    scale = model.traits.latent_scale
    with torch.no_grad():
        if kind is NetworkKind.VAE_DECODER:
            got = networks.decode(inputs["latent"])
            expected = model.vae.decode(inputs["latent"] / scale).sample
        elif kind is NetworkKind.VAE_ENCODER:
            noise = inputs.get("noise")
            got = networks.encode(inputs["images"], noise)
            encoded = model.vae.encode(inputs["images"])
            if noise is None:
                expected = encoded.latents
            else:
                posterior = encoded.latent_dist
                expected = (posterior.mean + posterior.std * noise) * scale
        else:
            added = {name: inputs[name] for name in ("text_embeds", "time_ids") if name in inputs}
            tokens = inputs["encoder_hidden_states"]
            got = networks.predict(
                inputs["sample"],
                inputs["timestep"],
                Conditioning(tokens, added.get("text_embeds"), added.get("time_ids")),
            )
            expected = model.unet(
                inputs["sample"], inputs["timestep"], tokens, added_cond_kwargs=added or None
            ).sample
    assert got.shape == expected.shape
    assert got.is_contiguous()
    assert float((got - expected).abs().max()) < TOLERANCE


@pytest.mark.parametrize("structure", ["sd15", "sd21", "sdxl"])
def test_every_network_agrees_with_torch_for_all_rows_and_for_fewer(
    make: Make, structure: str
) -> None:
    model, networks = tiny_model(structure), make(structure)
    networks.prepare(SHAPES)
    for kind in NetworkKind:
        for rows in (3, 1):
            assert_agrees(networks, model, kind, SIZE, rows)


def test_a_kl_autoencoder_agrees_with_torch(make: Make) -> None:
    model, networks = tiny_model("sd15-kl"), make("sd15-kl")
    for kind in (NetworkKind.VAE_ENCODER, NetworkKind.VAE_DECODER):
        assert_agrees(networks, model, kind, SIZE, 2)


def test_a_kl_posterior_without_noise_is_its_mean(make: Make) -> None:
    model, networks = tiny_model("sd15-kl"), make("sd15-kl")
    images = inputs_of(model, NetworkKind.VAE_ENCODER, SIZE, 2)["images"]
    with torch.no_grad():
        mean = model.vae.encode(images).latent_dist.mean * model.traits.latent_scale
    assert torch.allclose(networks.encode(images), mean, atol=TOLERANCE)


def test_two_sizes_run_in_turn(make: Make) -> None:
    model, networks = tiny_model(), make()
    for size in (SIZE, OTHER_SIZE, SIZE):
        assert_agrees(networks, model, NetworkKind.VAE_ENCODER, size, 2)
        assert_agrees(networks, model, NetworkKind.VAE_DECODER, size, 2)


def test_the_size_used_longest_ago_makes_room_and_comes_back(make: Make) -> None:
    model, networks = tiny_model(), make()
    sizes = [(16 + 8 * i, 16) for i in range(MAX_SIZES + 1)]
    for size in (*sizes, sizes[0]):
        assert_agrees(networks, model, NetworkKind.VAE_DECODER, size, 1)


def test_other_weights_take_the_place_of_the_first_at_every_size(make: Make) -> None:
    first, second = tiny_model(seed=1), tiny_model(seed=2)
    networks = make(model=first)
    networks.prepare(SHAPES)
    assert_agrees(networks, first, NetworkKind.VAE_DECODER, OTHER_SIZE, 1)
    networks.update(second)
    for kind in NetworkKind:
        assert_agrees(networks, second, kind, SIZE, 2)
    assert_agrees(networks, second, NetworkKind.VAE_DECODER, OTHER_SIZE, 1)


def test_weights_of_another_network_are_refused_and_change_nothing(make: Make) -> None:
    model, networks = tiny_model(), make()
    assert_agrees(networks, model, NetworkKind.VAE_ENCODER, SIZE, 1)
    with pytest.raises(HostError, match=r"vae_encoder: expected vae\.\S+ .*of another network"):
        networks.update(tiny_model("sd15-kl"))
    assert_agrees(networks, model, NetworkKind.VAE_ENCODER, SIZE, 1)


def test_nothing_runs_after_unload_until_a_model_is_loaded_again(make: Make) -> None:
    model, networks = tiny_model(), make()
    latents = torch.zeros(1, 4, 8, 8)
    networks.decode(latents)
    networks.unload()
    with pytest.raises(HostError, match=f"no model is loaded into {networks.name}"):
        networks.decode(latents)
    networks.load(model)
    assert_agrees(networks, model, NetworkKind.VAE_DECODER, SIZE, 1)


def test_outputs_are_written_into_one_buffer_again_and_again(make: Make) -> None:
    networks = make()
    first = networks.decode(torch.zeros(2, 4, 8, 8))
    kept = first.clone()
    again = networks.decode(torch.ones(2, 4, 8, 8))
    assert again.data_ptr() == first.data_ptr()
    assert not torch.equal(again, kept)
    assert networks.decode(torch.ones(1, 4, 8, 8)).data_ptr() == first.data_ptr()


def test_inputs_that_are_not_contiguous_are_read_right(make: Make) -> None:
    networks = make()
    latents = torch.randn(2, 4, 8, 8)
    expected = networks.decode(latents).clone()
    channels_last = latents.contiguous(memory_format=torch.channels_last)
    assert torch.equal(networks.decode(channels_last), expected)


def test_half_precision_in_and_out_is_near_torch_in_single() -> None:
    model, networks = tiny_model(), OnnxRuntimeNetworks(torch.float16, num_threads=1)
    networks.load(model)
    latents = torch.randn(1, 4, 8, 8)
    got = networks.decode(latents.half())
    assert got.dtype == torch.float16
    with torch.no_grad():
        assert torch.allclose(got.float(), model.vae.decode(latents).sample, atol=1e-2)


def test_openvino_leaves_nothing_in_its_folder(tmp_path: Path) -> None:
    networks = OpenVinoNetworks(tmp_path, num_threads=1)
    networks.load(tiny_model())
    networks.decode(torch.zeros(1, 4, 8, 8))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    networks = OpenVinoNetworks(tmp_path / "taken")
    networks.load(tiny_model())
    with pytest.raises(HostError, match="taken: cannot write networks there"):
        networks.decode(torch.zeros(1, 4, 8, 8))


def test_a_missing_openvino_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(NotBuilt, match=r"pip install 'lpnode\[openvino\]'"):
        OpenVinoNetworks(tmp_path)
