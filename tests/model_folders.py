"""Small models with random weights, on disk as diffusers writes them."""

import json
from pathlib import Path

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUM_TOKENS = 8
TEXT_WIDTH = 16


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer that knows the letters alone."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": NUM_TOKENS,
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
            }
        )
    )


def write_model(
    folder: Path,
    *,
    is_sdxl: bool = False,
    is_tiny_vae: bool = True,
    scheduler: str = "LCMScheduler",
    prediction: str = "epsilon",
    seed: int = 0,
) -> Path:
    """A model of SD 1.5's or SDXL's kind with a few thousand weights; takes a fraction of a second.

    Returns: ``folder``.
    """
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts: dict[str, object] = {}
        width = TEXT_WIDTH * (2 if is_sdxl else 1)
        sdxl = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 4 * 6 + TEXT_WIDTH,
        }
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=8,
            norm_num_groups=4,
            **(sdxl if is_sdxl else {}),
        )
        unet.save_pretrained(folder / "unet")
        if is_tiny_vae:
            vae = diffusers.AutoencoderTiny(
                encoder_block_out_channels=(4,) * 4,
                decoder_block_out_channels=(4,) * 4,
                num_encoder_blocks=(1, 1, 1, 1),
                num_decoder_blocks=(1, 1, 1, 1),
            )
        else:
            vae = diffusers.AutoencoderKL(
                block_out_channels=(4,) * 4,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                latent_channels=4,
                norm_num_groups=2,
            )
        vae.save_pretrained(folder / "vae")
        text_config = CLIPTextConfig(
            vocab_size=2 * len(LETTERS) + 2,
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=NUM_TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=2 * len(LETTERS),
            eos_token_id=2 * len(LETTERS) + 1,
        )
        CLIPTextModel(text_config).save_pretrained(folder / "text_encoder")
        write_tokenizer(folder / "tokenizer")
        if is_sdxl:
            CLIPTextModelWithProjection(text_config).save_pretrained(folder / "text_encoder_2")
            write_tokenizer(folder / "tokenizer_2")
        betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        betas |= {"steps_offset": 1}
        getattr(diffusers, scheduler)(prediction_type=prediction, **betas).save_pretrained(
            folder / "scheduler"
        )
        parts = {
            "_class_name": "StableDiffusionXLPipeline" if is_sdxl else "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderTiny" if is_tiny_vae else "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", scheduler],
        }
        if is_sdxl:
            parts["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
            parts["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
        else:
            parts |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
        (folder / "model_index.json").write_text(json.dumps(parts))
    return folder
