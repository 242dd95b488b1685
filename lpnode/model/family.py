"""What kind of model lies somewhere, by headers and configurations alone."""

from pathlib import Path

from lpnode.model.diffusion_model import ModelFamily
from lpnode.model.model_files import read_json
from lpnode.model.safetensors_file import SafetensorsFile
from lpnode.model.single_file import family_of
from lpnode.model.traits import family_by_width


def family_at(path: Path) -> ModelFamily:
    """The family of the model folder or checkpoint at ``path``. Raises: ModelError."""
    if path.is_dir():
        config = read_json(path / "unet" / "config.json")
        is_sdxl = config.get("addition_embed_type") == "text_time"
        return ModelFamily.SDXL if is_sdxl else family_by_width(config.get("cross_attention_dim"))
    file = SafetensorsFile(path)
    return family_of(path, {name: entry.shape for name, entry in file.entries.items()})
