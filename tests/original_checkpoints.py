"""Small checkpoints with random weights, in the layout of the original Stable Diffusion code."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from model_folders import LETTERS, NUM_TOKENS
from safetensors.torch import save_file

from lpnode.model.diffusion_model import ModelFamily
from lpnode.model.ldm_names import OpenClipNames, UnetNames, VaeNames
from lpnode.model.weights import Stored

WORDS = ["!", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
WORDS += ["<|startoftext|>", "<|endoftext|>"]
WIDTH = 32


@dataclass(frozen=True)
class Original:
    """Networks, and the checkpoint that they were written to."""

    path: Path
    unet: Any
    vae: Any
    text_models: list[Any]

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        return load_file(self.path)

    def rewrite(self, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
        """Changes the tensors of the file."""
        tensors = self.tensors
        change(tensors)
        save_file(tensors, self.path)


def write_words(folder: Path) -> None:
    """CLIP's tokenizer with letters for words, as vocab.json and merges.txt alone."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def make_unet(family: ModelFamily, texts: int) -> Any:
    from diffusers import UNet2DConditionModel

    is_sd15, is_sdxl = family is ModelFamily.SD15, family is ModelFamily.SDXL
    channels = (32, 64) if is_sd15 else (64, 128)
    size_ids = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 4 * 6 + WIDTH,
    }
    return UNet2DConditionModel(
        block_out_channels=channels,
        layers_per_block=1 if is_sdxl else 2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D")
        if is_sdxl
        else ("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")
        if is_sdxl
        else ("UpBlock2D", "CrossAttnUpBlock2D"),
        transformer_layers_per_block=[1, 2] if is_sdxl else 1,
        cross_attention_dim=texts,
        attention_head_dim=8 if is_sd15 else [width // 64 for width in channels],
        use_linear_projection=not is_sd15,
        **(size_ids if is_sdxl else {}),
    )


def make_vae(family: ModelFamily) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        scaling_factor=0.13025 if family is ModelFamily.SDXL else 0.18215,
    )


def make_text_model(*, is_open_clip: bool, is_projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=NUM_TOKENS,
        projection_dim=WIDTH,
        hidden_act="gelu" if is_open_clip else "quick_gelu",
        bos_token_id=len(WORDS) - 2,
        eos_token_id=len(WORDS) - 1,
    )
    return (CLIPTextModelWithProjection if is_projected else CLIPTextModel)(config)


def write_checkpoint(
    folder: Path, family: ModelFamily, *, name: str = "model", has_words: bool = True
) -> Original:
    """A checkpoint of ``family``; it takes a fraction of a second."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        is_sdxl = family is ModelFamily.SDXL
        unet = make_unet(family, 2 * WIDTH if is_sdxl else WIDTH)
        vae = make_vae(family)
        if is_sdxl:
            text_models = [
                make_text_model(is_open_clip=False),
                make_text_model(is_open_clip=True, is_projected=True),
            ]
        else:
            text_models = [make_text_model(is_open_clip=family is ModelFamily.SD21)]
    unet_names = UnetNames(1 if is_sdxl else 2, (False, True) if is_sdxl else (True, False))
    tensors = original(unet.state_dict(), unet_names)
    tensors |= original(vae.state_dict(), VaeNames(4))
    tensors["first_stage_model.loss.logvar"] = torch.zeros(1)
    match family:
        case ModelFamily.SD15:
            prefix = "cond_stage_model.transformer.text_model."
            tensors |= original(text_models[0].state_dict(), lambda name: Stored(prefix + name))
            positions = torch.arange(NUM_TOKENS).expand(1, -1).contiguous()
            tensors[f"{prefix}embeddings.position_ids"] = positions
        case ModelFamily.SD21:
            prefix = "cond_stage_model.model."
            names = OpenClipNames(prefix, is_projected=False)
            tensors |= original(text_models[0].state_dict(), names)
            # The layer that SD 2 leaves out, and what CLIP compares pictures by.
            for entry in list(tensors):
                if ".resblocks.1." in entry:
                    tensors[entry.replace(".1.", ".2.", 1)] = torch.zeros_like(tensors[entry])
            tensors[f"{prefix}text_projection"] = torch.zeros(WIDTH, WIDTH)
            tensors[f"{prefix}logit_scale"] = torch.zeros(())
        case _:
            prefix = "conditioner.embedders.0.transformer.text_model."
            tensors |= original(text_models[0].state_dict(), lambda name: Stored(prefix + name))
            names = OpenClipNames("conditioner.embedders.1.model.", is_projected=True)
            tensors |= original(text_models[1].state_dict(), names)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    save_file(tensors, path)
    if has_words:
        write_words(folder / "tokenizer")
    return Original(path, unet, vae, text_models)


def original(
    state: Mapping[str, torch.Tensor], names: Callable[[str], Stored]
) -> dict[str, torch.Tensor]:
    """The tensors of a network as the original code keeps them."""
    tensors: dict[str, torch.Tensor] = {}
    joined: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        stored = names(name).name
        if "in_proj" in stored:
            joined.setdefault(stored, {})[name.rsplit(".", 2)[1]] = tensor
        elif stored.endswith("text_projection"):
            tensors[stored] = tensor.t().contiguous()
        elif ".attn_1." in stored and tensor.ndim == 2:
            tensors[stored] = tensor[:, :, None, None]
        else:
            tensors[stored] = tensor
    for stored, parts in joined.items():
        tensors[stored] = torch.cat([parts[part] for part in ("q_proj", "k_proj", "v_proj")])
    return tensors
