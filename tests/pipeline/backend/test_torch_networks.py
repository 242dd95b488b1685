"""Torch's own backend, held against diffusers' modules called by hand."""

import gc
import math
import weakref

import pytest
import torch
from tiny_diffusion_models import STRUCTURES, tiny_model

from lpnode.errors import HostError
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.onnx_trace import example_inputs
from lpnode.pipeline.backend.torch_networks import TorchNetworks

SIZE = (72, 40)
SHAPES = NetworkShapes(width=SIZE[0], height=SIZE[1], max_images=3, max_rows=3)
TOLERANCE = 1e-5
"""Largest difference in float32, of channels-last from planes; outputs are of the order of 1."""

Outputs = dict[NetworkKind, torch.Tensor]


def inputs_of(model: DiffusionModel, rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    inputs: dict[str, torch.Tensor] = {}
    for kind in NetworkKind:
        inputs |= example_inputs(model, kind, size=SIZE, rows=rows, generator=generator)
    return inputs


def by_hand(model: DiffusionModel, inputs: dict[str, torch.Tensor]) -> Outputs:
    """Source: streamdiffusion.md section 10; diffusers' modules map TAESD's ranges themselves."""
    scale = model.traits.latent_scale
    added = {name: inputs[name] for name in ("text_embeds", "time_ids") if name in inputs}
    with torch.no_grad():
        encoded = model.vae.encode(inputs["images"])
        if model.traits.is_tiny_vae:
            latents = encoded.latents
        else:
            latents = encoded.latent_dist.mean + encoded.latent_dist.std * inputs["noise"]
        return {
            NetworkKind.VAE_ENCODER: latents * scale,
            NetworkKind.VAE_DECODER: model.vae.decode(inputs["latent"] / scale).sample,
            NetworkKind.UNET: model.unet(
                inputs["sample"],
                inputs["timestep"],
                inputs["encoder_hidden_states"],
                added_cond_kwargs=added or None,
            ).sample,
        }


def outputs_of(networks: TorchNetworks, inputs: dict[str, torch.Tensor]) -> Outputs:
    given = {
        name: value.to(networks.device, torch.float32 if name == "timestep" else networks.dtype)
        for name, value in inputs.items()
    }
    conditioning = Conditioning(
        given["encoder_hidden_states"], given.get("text_embeds"), given.get("time_ids")
    )
    outputs = {
        NetworkKind.VAE_ENCODER: networks.encode(given["images"], given.get("noise")),
        NetworkKind.VAE_DECODER: networks.decode(given["latent"]),
        NetworkKind.UNET: networks.predict(given["sample"], given["timestep"], conditioning),
    }
    for output in outputs.values():
        assert output.is_contiguous()
        assert output.dtype == networks.dtype
    return {kind: output.float().cpu() for kind, output in outputs.items()}


def loaded(networks: TorchNetworks, model: DiffusionModel) -> TorchNetworks:
    networks.load(model)
    networks.prepare(SHAPES)
    return networks


def psnr_db(output: torch.Tensor, expected: torch.Tensor) -> float:
    spread = float(expected.max() - expected.min())
    return 20 * math.log10(spread / float((output - expected).square().mean().sqrt()))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_networks_give_what_diffusers_gives_for_all_rows_and_for_fewer(structure: str) -> None:
    networks = loaded(TorchNetworks(), tiny_model(structure))
    for rows in (3, 1):
        inputs = inputs_of(tiny_model(structure), rows)
        expected = by_hand(tiny_model(structure), inputs)
        for kind, output in outputs_of(networks, inputs).items():
            assert output.shape == expected[kind].shape
            assert float((output - expected[kind]).abs().max()) < TOLERANCE, kind


def test_a_posterior_without_noise_is_its_mean() -> None:
    networks = loaded(TorchNetworks(), tiny_model("sd15-kl"))
    images = inputs_of(tiny_model("sd15-kl"), 2)["images"]
    mean = networks.encode(images).clone()
    assert torch.equal(mean, networks.encode(images, torch.zeros_like(mean)))
    assert not torch.equal(mean, networks.encode(images, torch.ones_like(mean)))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_bfloat16_between_frames_of_float32_is_near_float32(structure: str) -> None:
    inputs = inputs_of(tiny_model(structure), 2)
    expected = by_hand(tiny_model(structure), inputs)
    model = tiny_model(structure)
    networks = loaded(TorchNetworks(weights_dtype=torch.bfloat16), model)
    for kind, output in outputs_of(networks, inputs).items():
        assert psnr_db(output, expected[kind]) > 35, kind
    weights = [*model.unet.parameters(), *model.vae.parameters()]
    assert {weight.dtype for weight in weights} == {torch.bfloat16}


def test_an_autoencoder_that_float16_cannot_hold_runs_in_float32() -> None:
    def model() -> DiffusionModel:
        made = tiny_model("sdxl-kl")
        # Beyond float16's 65504; the norm that follows makes it small again.
        made.vae.decoder.conv_in.weight.data.mul_(1e6)
        return made

    inputs = inputs_of(model(), 1)
    expected = by_hand(model(), inputs)[NetworkKind.VAE_DECODER]
    networks = loaded(TorchNetworks("cpu", torch.float16), model())
    assert psnr_db(networks.decode(inputs["latent"].half()).float(), expected) > 45


def test_other_weights_take_the_place_of_the_first() -> None:
    networks = loaded(TorchNetworks(), tiny_model(seed=1))
    networks.update(tiny_model(seed=2))
    inputs = inputs_of(tiny_model(), 2)
    expected = by_hand(tiny_model(seed=2), inputs)
    for kind, output in outputs_of(networks, inputs).items():
        assert float((output - expected[kind]).abs().max()) < TOLERANCE, kind


def test_nothing_is_kept_after_unload() -> None:
    model = tiny_model()
    networks = loaded(TorchNetworks(), model)
    kept = [weakref.ref(network) for network in (model.unet, model.vae)]
    networks.unload()
    del model
    gc.collect()
    assert [reference() for reference in kept] == [None, None]
    with pytest.raises(HostError, match="no model is loaded into torch"):
        networks.decode(torch.zeros(1, 4, 8, 8))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "least_db"), [(torch.float32, 60), (torch.float16, 45), (torch.bfloat16, 30)]
)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_device_gives_what_the_processor_gives(
    structure: str, dtype: torch.dtype, least_db: float
) -> None:
    inputs = inputs_of(tiny_model(structure), 2)
    expected = by_hand(tiny_model(structure), inputs)
    networks = loaded(TorchNetworks("cuda", dtype), tiny_model(structure))
    for kind, output in outputs_of(networks, inputs).items():
        assert psnr_db(output, expected[kind]) > least_db, kind
