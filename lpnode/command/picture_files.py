"""Picture files: read as models want them, written with what made them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from lpnode.errors import ConfigError

PARAMETERS_KEY = "lpnode"
"""Of the PNG text chunk that has a picture's parameters as a JSON object."""

_MULTIPLE = 8
_MAX_NAME = 40


def read_picture(path: Path) -> Image.Image:
    """A picture file as RGB, upright. Raises: ConfigError: no such file, or not a picture."""
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except UnidentifiedImageError as error:
        raise ConfigError(f"--image {path}: is not a picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise ConfigError(f"--image {path}: is too large: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--image {path}: {reason}") from error


def size_near(image: Image.Image, side: int) -> tuple[int, int]:
    """(width, height) of the picture's shape, multiples of 8, the shorter one about ``side``."""
    scale = side / min(image.size)
    width, height = (max(1, round(length * scale / _MULTIPLE)) for length in image.size)
    return width * _MULTIPLE, height * _MULTIPLE


def fitted(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) of ``size`` (width, height), filled; what is over is cut off."""
    return np.array(ImageOps.fit(image, size, Image.Resampling.LANCZOS))


def write_picture(folder: Path, rgb: NDArray[np.uint8], parameters: Mapping[str, Any]) -> Path:
    """Writes a PNG named after its prompt and seed; an existing file is never overwritten.

    Args: parameters: with ``prompt`` and ``seed``; they go into the file.
    Raises: ConfigError: the folder cannot be written to.
    """
    text = PngInfo()
    text.add_text(PARAMETERS_KEY, json.dumps(parameters))
    stem = f"{_words(parameters['prompt'])}-{parameters['seed']}"
    number = 1
    while True:
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}_{number}.png")
        try:
            with path.open("xb") as file:
                try:
                    Image.fromarray(rgb).save(file, format="PNG", pnginfo=text)
                except BaseException:  # Ctrl-C leaves no half of a picture either
                    path.unlink(missing_ok=True)
                    raise
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"--output {path}: {error.strerror or error}") from error
        else:
            return path


def _words(prompt: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    return words[:_MAX_NAME].rstrip("-") or "picture"
