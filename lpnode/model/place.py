"""Where models are, by id."""

from dataclasses import dataclass
from pathlib import Path

from lpnode.errors import ConfigError

SHIPPED_MODEL = "lpnode/shapes"
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
        models_dir: has a folder for each id, with ``--`` for the slash, or a Hugging Face cache.
    Raises: ConfigError: says where it was looked for, and how to get it.
    """
    if name == SHIPPED_MODEL:
        return ModelPlace(name, SHIPPED_FOLDER)
    given = Path(name).expanduser()
    if given.is_absolute() or name.startswith((".", "~")):
        if given.exists():
            return ModelPlace(name, given)
        raise ConfigError(f"{name}: there is no such model folder or file")
    candidates = [models_dir / folder_name(name), models_dir / name]
    candidates += _snapshots(models_dir / f"models--{folder_name(name)}")
    for candidate in candidates:
        if (candidate / "model_index.json").is_file() or candidate.suffix == ".safetensors":
            return ModelPlace(name, candidate)
        checkpoint = candidate.with_name(candidate.name + ".safetensors")
        if checkpoint.is_file():
            return ModelPlace(name, checkpoint)
    raise ConfigError(
        f"there is no model {name!r} in {models_dir}; "
        f"get it with: lpnode model add {name} --models-dir {models_dir}"
    )


def folder_name(model_id: str) -> str:
    """``owner/name`` → ``owner--name``."""
    return model_id.replace("/", "--")


def _snapshots(repository: Path) -> list[Path]:
    """The newest first."""
    folders = [path for path in (repository / "snapshots").glob("*") if path.is_dir()]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)
