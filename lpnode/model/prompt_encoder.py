"""CLIP text encoders, one for SD 1.5 and 2.1, two for SDXL."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from lpnode.model.diffusion_model import Embedding

logger = logging.getLogger(__name__)


class ClipPromptEncoder:
    """The last layer's normalised output, as SD 1.5 and 2.1 are trained on it.

    A folder of SD 2.1 has one layer less than the encoder it was made from, so that its last layer
    is the other's penultimate one.

    Args:
        tokenizer: a ``transformers.CLIPTokenizer``.
        text_model: a ``transformers.CLIPTextModel``.
    """

    def __init__(self, tokenizer: Any, text_model: Any) -> None:
        self._tokenizer = tokenizer
        self._text_model = text_model

    @property
    def text_models(self) -> Sequence[torch.nn.Module]:
        """See ``PromptEncoder.text_models``."""
        return () if self._text_model is None else (self._text_model,)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Embedding:
        """See ``PromptEncoder.encode``."""
        ids = token_ids(self._tokenizer, texts, self._text_model.device)
        return Embedding(self._text_model(ids).last_hidden_state)

    def unload(self) -> None:
        """Forgets the encoder."""
        self._text_model = None


class SdxlPromptEncoder:
    """Both encoders' penultimate layers side by side, and the second one's pooled projection.

    Args: the second model is a ``transformers.CLIPTextModelWithProjection``.
    Source: the SDXL report, arXiv 2307.01952, section 2.1.
    """

    def __init__(self, tokenizers: Sequence[Any], text_models: Sequence[Any]) -> None:
        self._tokenizers = tuple(tokenizers)
        self._text_models = tuple(text_models)

    @property
    def text_models(self) -> Sequence[torch.nn.Module]:
        """See ``PromptEncoder.text_models``."""
        return self._text_models

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Embedding:
        """See ``PromptEncoder.encode``."""
        outputs = [
            model(token_ids(tokenizer, texts, model.device), output_hidden_states=True)
            for tokenizer, model in zip(self._tokenizers, self._text_models, strict=True)
        ]
        tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return Embedding(tokens, outputs[1].text_embeds)

    def unload(self) -> None:
        """Forgets the encoders."""
        self._text_models = ()


def token_ids(tokenizer: Any, texts: Sequence[str], device: torch.device) -> torch.Tensor:
    """(N, L) token numbers, padded; what is beyond L is cut off."""
    length = tokenizer.model_max_length
    encoded = tokenizer(
        list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    if logger.isEnabledFor(logging.DEBUG):
        for text in texts:
            num_tokens = len(tokenizer(text)["input_ids"])
            if num_tokens > length:
                logger.debug("a prompt of %d tokens is cut to %d", num_tokens, length)
    ids: torch.Tensor = encoded.input_ids
    return ids.to(device)
