"""Prompts, encoded once and kept, and the rows of a UNet call that they condition."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lpnode.model.diffusion_model import Embedding, ModelTraits, PromptEncoder
from lpnode.pipeline.backend.networks import Conditioning
from lpnode.pipeline.stream_diffusion.blending import blend_prompts, normalised
from lpnode.pipeline.stream_diffusion.guidance import GuidanceMode
from lpnode.pipeline.stream_diffusion.params import StreamDiffusionParams

MAX_CACHED_PROMPTS = 64
"""One of SDXL's takes 600 KiB in float32."""


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """A stream's prompt, blended, and its negative prompt: (1, L, D) and perhaps (1, P) each."""

    positive: Embedding
    negative: Embedding


class PromptCache:
    """Encodes texts, the latest of which are kept: streams often change one prompt of several."""

    def __init__(self, encoder: PromptEncoder) -> None:
        self._encoder = encoder
        self._by_text: OrderedDict[str, Embedding] = OrderedDict()

    def encode(self, params: StreamDiffusionParams) -> EncodedPrompts:
        """Encodes and blends the prompts of a parameter set.

        Source: streamdiffusion.md section 15.2.
        """
        weights = [weight for _, weight in params.prompt]
        if params.normalize_prompt_weights:
            weights = normalised(weights)
        parts = [self._of(text) for text, _ in params.prompt]
        method = params.prompt_interpolation_method
        tokens = blend_prompts([part.tokens for part in parts], weights, method)
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return EncodedPrompts(
            Embedding(tokens, blend_prompts(pooled, weights, method) if pooled else None),
            self._of(params.negative_prompt),
        )

    def _of(self, text: str) -> Embedding:
        embedding = self._by_text.get(text)
        if embedding is None:
            embedding = self._encoder.encode([text])
            self._by_text[text] = embedding
            if len(self._by_text) > MAX_CACHED_PROMPTS:
                self._by_text.popitem(last=False)
        else:
            self._by_text.move_to_end(text)
        return embedding


class ConditioningRows:
    """The conditioning of every slot, laid out as rows of a UNet call, negative ones first.

    See Note [Slots]. A change of prompt writes one slot; a call gathers the slots it is for.
    """

    def __init__(
        self,
        traits: ModelTraits,
        mode: GuidanceMode,
        steps_per_call: int,
        num_slots: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._num_negative = mode.num_negative_rows(steps_per_call)
        num_rows = mode.num_rows(steps_per_call)

        def zeros(*size: int) -> torch.Tensor:
            return torch.zeros((num_slots, num_rows, *size), dtype=dtype, device=device)

        self.tokens = zeros(traits.num_text_tokens, traits.text_width)
        has_pooled = traits.pooled_width is not None
        self.pooled = zeros(traits.pooled_width or 0) if has_pooled else None
        self.size_ids = zeros(6) if has_pooled else None

    def set_slot(self, slot: int, prompts: EncodedPrompts, size: tuple[int, int]) -> None:
        """Writes a stream's prompts; ``size`` is (width, height) in pixels, for SDXL."""
        for rows, embedding in (
            (slice(0, self._num_negative), prompts.negative),
            (slice(self._num_negative, None), prompts.positive),
        ):
            self.tokens[slot, rows].copy_(embedding.tokens)
            if self.pooled is not None and embedding.pooled is not None:
                self.pooled[slot, rows].copy_(embedding.pooled)
        if self.size_ids is not None:
            width, height = size
            ids: Sequence[int] = (height, width, 0, 0, height, width)
            self.size_ids[slot].copy_(torch.tensor(ids))

    def copy_slots(self, other: "ConditioningRows") -> None:
        """Takes over every slot of smaller tables of the same layout."""
        for name in ("tokens", "pooled", "size_ids"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None:
                mine[: len(theirs)].copy_(theirs)

    def gather(self, slots: torch.Tensor) -> Conditioning:
        """The rows of (S,) slots, stream by stream; copied, as networks want them side by side."""
        return Conditioning(
            self.tokens.index_select(0, slots).flatten(0, 1),
            None if self.pooled is None else self.pooled.index_select(0, slots).flatten(0, 1),
            None if self.size_ids is None else self.size_ids.index_select(0, slots).flatten(0, 1),
        )
