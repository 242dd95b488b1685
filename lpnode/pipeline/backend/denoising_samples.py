"""What a UNet gets while it denoises: real latents, timesteps and prompts, for 8 bits to fit.

Random numbers will not do: text embeddings have a few values that are far larger than the others,
and latents change their size on the way from noise to a picture.
"""

from collections.abc import Iterator, Sequence

import torch

from lpnode.model.diffusion_model import DiffusionModel, Prediction
from lpnode.pipeline.stream_diffusion.schedule import alphas_cumprod

TIMESTEPS = (999, 879, 759, 639, 519, 399, 259, 119)
"""From pure noise to where a stream redraws least; all of a stream's timesteps lie between."""
PROMPTS = (
    "a red circle on a blue background",
    "portrait of a woman with a hat, soft light, detailed, masterpiece",
    "a city street at night in the rain, neon lights, cyberpunk",
    "",
)
"""What ranges are measured with; the last stands for negative prompts that say little."""
OTHER_PROMPTS = ("three yellow stars", "a cabin in a snowy forest, oil painting, wide shot")
"""What an engine is tried on afterwards."""
_OTHER_NOISE_SEED = 2


def denoising_samples(
    model: DiffusionModel, size: tuple[int, int], prompts: Sequence[str], noise_seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Draws a picture for each prompt as a stream does, and gives what the UNet got at each step.

    Each step estimates the picture and adds fresh noise for the next one. The inputs are given
    after the model's UNet has run with them.

    Args:
        size: (width, height) of pictures in pixels.
    Returns: inputs of one row by name, see ``trace_network``, of the UNet's own dtype and on its
        device; a prompt's timesteps one after the other.
    Source: streamdiffusion.md sections 2, 3 and 7.
    """
    traits = model.traits
    first = next(model.unet.parameters())
    device, dtype = first.device, first.dtype
    width, height = size
    side = traits.pixels_per_latent
    shape = (1, traits.latent_channels, height // side, width // side)
    generator = torch.Generator().manual_seed(noise_seed)
    alphas = alphas_cumprod()
    for prompt in prompts:
        conditioning = _conditioning(model, prompt, size, device, dtype)
        picture = torch.zeros(shape, device=device)
        for timestep in TIMESTEPS:
            a, b = float(alphas[timestep].sqrt()), float((1.0 - alphas[timestep]).sqrt())
            noisy = a * picture + b * torch.randn(shape, generator=generator).to(device)
            inputs = {
                "sample": noisy.to(dtype),
                "timestep": torch.tensor([float(timestep)], device=device),
                **conditioning,
            }
            output = run_unet(model.unet, inputs).float()
            if traits.prediction is Prediction.V:
                picture = a * noisy - b * output
            else:
                picture = (noisy - b * output) / a
            yield inputs


def unseen_rows(
    model: DiffusionModel, size: tuple[int, int], rows: int, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """So many rows of ``OTHER_PROMPTS``, at all of the timesteps if there are enough of them."""
    samples = list(denoising_samples(model, size, OTHER_PROMPTS, _OTHER_NOISE_SEED))
    chosen = [samples[row * len(samples) // rows] for row in range(rows)]
    inputs = {name: torch.cat([sample[name] for sample in chosen]) for name in samples[0]}
    # The timestep is float32 in every graph.
    return {n: value if n == "timestep" else value.to(dtype) for n, value in inputs.items()}


@torch.inference_mode()
def run_unet(unet: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """A UNet's output for inputs by name."""
    added = {name: inputs[name] for name in ("text_embeds", "time_ids") if name in inputs}
    output: torch.Tensor = unet(
        inputs["sample"],
        inputs["timestep"],
        inputs["encoder_hidden_states"],
        added_cond_kwargs=added or None,
        return_dict=False,
    )[0]
    return output


def _conditioning(
    model: DiffusionModel,
    prompt: str,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, torch.Tensor]:
    embedding = model.prompt_encoder.encode([prompt])
    inputs = {"encoder_hidden_states": embedding.tokens.to(device, dtype)}
    if model.traits.pooled_width is not None and embedding.pooled is not None:
        inputs["text_embeds"] = embedding.pooled.to(device, dtype)
        width, height = size
        ids = [[height, width, 0, 0, height, width]]
        inputs["time_ids"] = torch.tensor(ids, device=device, dtype=dtype)
    return inputs
