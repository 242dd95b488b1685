"""The shipped model on disk: a diffusers folder with float16 weights."""

import copy
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from torch import nn

from lpnode.builtin.noise import BETA_END, BETA_START, NUM_TIMESTEPS
from lpnode.builtin.tokens import write_tokenizer
from lpnode.builtin.vocabulary import words

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

    from lpnode.builtin.train_unet import Denoiser

SHIPPED: Final = Path(__file__).parent / "weights"
"""The model that comes with the package."""

_SCHEDULER = {
    "_class_name": "LCMScheduler",
    "beta_start": BETA_START,
    "beta_end": BETA_END,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": NUM_TIMESTEPS,
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
_MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "LCMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def make_tokenizer(folder: Path) -> "CLIPTokenizer":
    """Writes the vocabulary's tokenizer to ``folder`` and reads it back."""
    from transformers import CLIPTokenizer

    write_tokenizer(folder, words())
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def save_model(folder: Path, vae: nn.Module, denoiser: "Denoiser") -> None:
    """Writes networks, tokenizer and scheduler as diffusers and transformers read them."""
    folder.mkdir(parents=True, exist_ok=True)
    networks: dict[str, nn.Module] = {
        "vae": vae,
        "unet": denoiser.unet,
        "text_encoder": denoiser.text_encoder,
    }
    for name, network in networks.items():
        halved = _copy_in_half(network)
        halved.save_pretrained(folder / name, safe_serialization=True)  # type: ignore[operator]
    # diffusers writes a key here that it then warns of; and float32 is what a plain load should
    # give, as it does of the other networks, whatever the file's own type is.
    _change_json(folder / "vae" / "config.json", {"block_out_channels": None})
    _change_json(folder / "text_encoder" / "config.json", {"dtype": "float32"})
    for path in folder.glob("*/*.safetensors"):
        path.chmod(0o644)
    write_tokenizer(folder / "tokenizer", words())
    (folder / "scheduler").mkdir(exist_ok=True)
    _write_json(folder / "scheduler" / "scheduler_config.json", _SCHEDULER)
    _write_json(folder / "model_index.json", _MODEL_INDEX)


def digest(folder: Path) -> str:
    """One SHA-256 over the three weight files: names a set of weights in reports."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*/*.safetensors")):
        total.update(path.read_bytes())
    return total.hexdigest()


def _copy_in_half(network: nn.Module) -> nn.Module:
    halved = copy.deepcopy(network).half()
    for parameter in halved.parameters():
        parameter.data = parameter.data.contiguous()
    return halved


def _change_json(path: Path, changes: dict[str, object]) -> None:
    """Sets keys of a JSON object; None takes one away."""
    content = json.loads(path.read_text()) | changes
    _write_json(path, {key: value for key, value in content.items() if value is not None})


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
