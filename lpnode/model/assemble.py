"""One model made of its networks, wherever the weights of each of them lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lpnode.errors import ModelError
from lpnode.model.diffusion_model import DiffusionModel, ModelFamily, PromptEncoder
from lpnode.model.meta_module import quiet_imports
from lpnode.model.prompt_encoder import ClipPromptEncoder, SdxlPromptEncoder
from lpnode.model.safetensors_file import SafetensorsFile
from lpnode.model.traits import check_fit, traits_of
from lpnode.model.weights import AS_IN_MODULE, Layout, Progress, Stored, entries_of, fill

TEXT_MODEL = "text_model."
"""In front of an encoder's names, by which transformers before 5.6 and its files call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSource:
    """A network without weights, and where they are.

    Attributes:
        module: on the meta device; filled by ``assemble``.
        where: the file that says what the network is, for errors.
        layout: how its tensors are named in ``files``.
    """

    module: Any
    where: Path
    files: Sequence[SafetensorsFile]
    layout: Layout = AS_IN_MODULE


def assemble(
    name: str,
    *,
    unet: NetworkSource,
    vae: NetworkSource,
    text_models: Sequence[NetworkSource],
    tokenizers: Sequence[Any],
    scheduler_config: Mapping[str, Any],
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Progress,
    family: ModelFamily | None = None,
) -> DiffusionModel:
    """Checks that the networks belong together, and gives them their weights.

    Args:
        text_models: one, or SDXL's two, with a tokenizer each.
        dtype: of UNet and VAE; text encoders, which never run for a frame, are float32 on a
            processor and ``dtype`` on a GPU.
        family: None: told from the widths of the networks.
    Raises: ModelError, OutOfDeviceMemory.
    """
    sources = [unet, vae, *text_models]
    check_fit(
        (unet.where, unet.module),
        (vae.where, vae.module),
        [(source.where, source.module) for source in text_models],
    )
    num_tokens = _fit_tokenizers(tokenizers, [source.module for source in text_models])
    traits = traits_of(
        name,
        unet.module,
        vae.module,
        [source.module for source in text_models],
        scheduler_config,
        num_tokens,
        family,
    )
    text_dtype = torch.float32 if torch.device(device).type == "cpu" else dtype
    for source in sources:
        fill(
            source.module,
            source.files,
            device=device,
            dtype=text_dtype if source in text_models else dtype,
            what=type(source.module).__name__,
            layout=source.layout,
            progress=progress,
        )
        source.module.eval().requires_grad_(False)
    modules = [source.module for source in text_models]
    encoder: PromptEncoder = (
        ClipPromptEncoder(tokenizers[0], modules[0])
        if len(modules) == 1
        else SdxlPromptEncoder(tokenizers, modules)
    )
    return DiffusionModel(
        name=name,
        traits=traits,
        unet=unet.module,
        vae=vae.module,
        prompt_encoder=encoder,
        weights_sha256={},
        scheduler_config=scheduler_config,
    )


def read_tokenizer(folder: Path, **settings: Any) -> Any:
    """The CLIP tokenizer of a folder; ``settings`` come before those of the folder.

    Raises: ModelError.
    """
    with quiet_imports():
        from transformers import CLIPTokenizer
    has_words = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if not has_words and not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder}: there is no tokenizer: vocab.json and merges.txt, or tokenizer.json"
        )
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True, **settings)
    # The tokenizers library raises plain exceptions for what it cannot read.
    except Exception as error:
        raise ModelError(f"{folder}: the tokenizer cannot be read: {error}") from error


def text_layout(files: Sequence[SafetensorsFile], *, is_projected: bool) -> Layout:
    """How a ``CLIPTextModel`` lies in files: transformers before 5.6 had ``text_model.`` in front.

    A model with projection has it still.
    """
    if is_projected or not any(
        name.startswith(TEXT_MODEL) for name in entries_of(files, AS_IN_MODULE)
    ):
        return AS_IN_MODULE
    return Layout(lambda name: Stored(TEXT_MODEL + name))


def _fit_tokenizers(tokenizers: Sequence[Any], text_models: Sequence[Any]) -> int:
    """L, the most tokens that every encoder has positions for."""
    most = min(
        int(model.config.max_position_embeddings)
        if tokenizer.model_max_length > model.config.max_position_embeddings
        else int(tokenizer.model_max_length)
        for tokenizer, model in zip(tokenizers, text_models, strict=True)
    )
    for tokenizer, model in zip(tokenizers, text_models, strict=True):
        if len(tokenizer) > model.config.vocab_size:
            raise ModelError(
                f"the tokenizer has {len(tokenizer)} words, but the text encoder knows "
                f"{model.config.vocab_size}: {tokenizer.name_or_path} is another model's"
            )
        tokenizer.model_max_length = most
    return most
