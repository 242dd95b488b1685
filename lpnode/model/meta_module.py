"""Modules of diffusers and transformers without weights, made from a configuration."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lpnode.errors import ModelError


def make_network(config: Mapping[str, Any], where: Path, *allowed: str) -> torch.nn.Module:
    """A network of diffusers on the meta device.

    Args: where: the file that ``config`` is from, for errors. allowed: class names.
    Raises: ModelError: another class, or a configuration that makes no network.
    """
    kind = config.get("_class_name")
    if kind not in allowed:
        raise ModelError(f"{where}: _class_name: expected {' or '.join(allowed)}, got {kind!r}")
    with quiet_imports():
        from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    kinds: Mapping[str, Any] = {
        "UNet2DConditionModel": UNet2DConditionModel,
        "AutoencoderKL": AutoencoderKL,
        "AutoencoderTiny": AutoencoderTiny,
    }
    with torch.device("meta"), _config_errors(where):
        module: torch.nn.Module = kinds[kind].from_config(dict(config))
    return module


def make_text_model(config: Mapping[str, Any], where: Path, *, is_projected: bool) -> Any:
    """A CLIP text encoder of transformers on the meta device.

    Args: is_projected: a ``CLIPTextModelWithProjection``, else a ``CLIPTextModel``.
    Raises: ModelError.
    """
    with quiet_imports():
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    kind: Any = CLIPTextModelWithProjection if is_projected else CLIPTextModel
    with torch.device("meta"), _config_errors(where):
        return kind(CLIPTextConfig(**config))


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Libraries of models log advice at import that is none of an operator's business."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _config_errors(path: Path) -> Iterator[None]:
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        NotImplementedError,
        ZeroDivisionError,
        StrictDataclassError,
    ) as error:
        raise ModelError(f"{path}: no network can be made of it: {error}") from error
