"""Prompts as the rows of a UNet call are conditioned on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lpnode.errors import BadParameters
from lpnode.model.diffusion_model import DiffusionModel, Embedding
from lpnode.pipeline.backend.networks import Conditioning


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """One row each; ``negative`` is None where there is no guidance."""

    positive: Embedding
    negative: Embedding | None

    @property
    def rows_per_picture(self) -> int:
        """UNet rows that a picture takes."""
        return 1 if self.negative is None else 2

    def conditioning(
        self, num_pictures: int, size: tuple[int, int], device: torch.device, dtype: torch.dtype
    ) -> Conditioning:
        """The rows of a batch, negative ones first; ``size`` is (width, height) in pixels.

        Source: streamdiffusion.md section 4.
        """
        parts = [self.positive] if self.negative is None else [self.negative, self.positive]

        def rows(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
            repeated = [tensor.repeat_interleave(num_pictures, 0) for tensor in tensors]
            return torch.cat(repeated).to(device, dtype).contiguous()

        pooled = [part.pooled for part in parts if part.pooled is not None]
        if not pooled:
            return Conditioning(rows([part.tokens for part in parts]))
        width, height = size
        ids = torch.tensor([[height, width, 0, 0, height, width]])
        return Conditioning(
            rows([part.tokens for part in parts]), rows(pooled), rows([ids] * len(parts))
        )


def encode_prompts(
    model: DiffusionModel,
    prompts: Sequence[str],
    negative_prompts: Sequence[str],
    *,
    is_guided: bool,
) -> EncodedPrompts:
    """Encodes a request's prompts, the negative ones only if guidance looks at them.

    Raises: BadParameters: more prompts than the model has text encoders.
    Source: ai-http.md section 7.1.
    """
    positive = _encode(model, "prompt", prompts)
    if not is_guided:
        return EncodedPrompts(positive, None)
    return EncodedPrompts(positive, _encode(model, "negative_prompt", negative_prompts))


def _encode(model: DiffusionModel, field: str, prompts: Sequence[str]) -> Embedding:
    first = model.prompt_encoder.encode(prompts[:1])
    if len(prompts) == 1:
        return first
    num_encoders = 1 if first.pooled is None else 2
    if len(prompts) > num_encoders:
        raise BadParameters(
            f"{field}: expected at most {num_encoders} between '|', one for each text encoder of "
            f"the model, got {len(prompts)}"
        )
    # SDXL's encoders see nothing of each other, and the second also gives the pooled embedding,
    # which is as wide as its tokens. Each has read both texts, so that its part can be taken.
    second = model.prompt_encoder.encode(prompts[1:])
    assert first.pooled is not None
    first_width = first.tokens.shape[-1] - first.pooled.shape[-1]
    parts = [first.tokens[..., :first_width], second.tokens[..., first_width:]]
    return Embedding(torch.cat(parts, dim=-1), second.pooled)
