"""Where models are, by id."""

from dataclasses import dataclass
from pathlib import Path

from lpnode.errors import ConfigError

SHIPPED_MODEL = "lpnode/shapes"
_CHECKPOINT = ".safetensors"
SHIPPED_FOLDER = Path(__file__).parent.parent / "builtin" / "weights"


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A model folder or a single-file checkpoint, and the name it goes by."""

    name: str
    path: Path


def find_model(name: str, models_dir: Path) -> ModelPlace:
    """Looks a model up.

    Args:
        name: the shipped model's id, an id such as ``stabilityai/sd-turbo``, or a path.
        models_dir: has a folder or a checkpoint for each id, with ``--`` for the slash, or is a
            Hugging Face cache. A folder is one of diffusers, or has one checkpoint in it.
    Raises: ConfigError: says where it was looked for, and how to get it.
    """
    if name == SHIPPED_MODEL:
        return ModelPlace(name, SHIPPED_FOLDER)
    given = Path(name).expanduser()
    if given.is_absolute() or name.startswith((".", "~")):
        if given.exists():
            return ModelPlace(name, _model_in(given) or given)
        raise ConfigError(f"{name}: there is no such model folder or file")
    candidates = [models_dir / folder_name(name), models_dir / name]
    candidates += _snapshots(models_dir / f"models--{folder_name(name)}")
    for candidate in candidates:
        for path in (candidate, candidate.with_name(candidate.name + _CHECKPOINT)):
            if found := _model_in(path):
                return ModelPlace(name, found)
    raise ConfigError(
        f"there is no model {name!r} in {models_dir}; "
        f"get it with: lpnode model add {name} --models-dir {models_dir}"
    )


def folder_name(model_id: str) -> str:
    """``owner/name`` → ``owner--name``."""
    return model_id.replace("/", "--")


def checkpoint_in(folder: Path) -> Path | None:
    """The one ``.safetensors`` file of a folder that has no layout, unless it is a LoRA."""
    if (folder / "config.json").is_file():
        return None
    files = [file for file in folder.glob(f"*{_CHECKPOINT}") if "lora" not in file.name.lower()]
    return files[0] if len(files) == 1 else None


def _model_in(path: Path) -> Path | None:
    if path.is_dir():
        return path if (path / "model_index.json").is_file() else checkpoint_in(path)
    return path if path.suffix == _CHECKPOINT and path.is_file() else None


def _snapshots(repository: Path) -> list[Path]:
    """The newest first."""
    folders = [path for path in (repository / "snapshots").glob("*") if path.is_dir()]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)
