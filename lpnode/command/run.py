"""``lpnode run``: pictures from a prompt, or from a picture and a prompt, on this machine."""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from lpnode import __version__
from lpnode.command.foreign_text import printable
from lpnode.command.money_table import money_table, print_whole
from lpnode.command.node_place import split_settings
from lpnode.config import SERVE_FLAGS, node_config, read_settings
from lpnode.errors import BadParameters, ConfigError
from lpnode.model.place import SHIPPED_MODEL, find_model

# torch and diffusers take seconds to load, which --help and a mistyped argument should not cost.
if TYPE_CHECKING:
    from PIL.Image import Image

    from lpnode.model.diffusion_model import ModelTraits
    from lpnode.pipeline.one_shot.params import (
        ImageToImageParams,
        PictureParams,
        TextToImageParams,
    )
    from lpnode.pipeline.one_shot.pictures import Picture
    from lpnode.pipeline.one_shot.safety import SafetyChecker
    from lpnode.pipeline.open_model import ModelOpener, OpenModel

TEXT_TO_IMAGE = "text-to-image"
IMAGE_TO_IMAGE = "image-to-image"

_MAX_ROWS = 8

_DESCRIPTION = """\
Runs a pipeline once on this machine, without a node, a gateway or a payment.

    lpnode run text-to-image --prompt "a red circle" --seed 7 --count 4
    lpnode run image-to-image --image cat.png --prompt "a blue cat" --strength 0.6"""

_MORE = """\
Pictures are PNG files named after prompt and seed; none is ever overwritten. Each carries its
parameters in a text chunk named "lpnode", with which it can be made again: the same seed, model
and backend give the same picture, to rounding.

Steps, guidance and size that are not given are those that the model is made for. Models are looked
for where the node with the same settings has them: -aiModelsDir or -dataDir, LP_AIMODELSDIR, or a
-config file, just as for lpnode serve; -nvidia N says which GPU, -nvidia none the processor.

Exit codes: 0 done, 1 failed, 2 an argument that cannot be used, 130 interrupted."""


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs ``text-to-image`` or ``image-to-image`` and writes the pictures.

    Raises: ConfigError: an argument, a picture or a model that cannot be used. LpnodeError: the
        model cannot be loaded, or failed.
    """
    of_serve, rest = split_settings(words)
    arguments = _parser().parse_args(rest)
    config = node_config(read_settings(SERVE_FLAGS, of_serve, environment))
    models_dir = arguments.models_dir or config.diffusion_models
    place = find_model(arguments.model, models_dir)
    _params(arguments)  # a mistake in them should not cost the time to load torch and the model
    image = None
    if arguments.pipeline == IMAGE_TO_IMAGE:
        from lpnode.command.picture_files import read_picture

        image = read_picture(arguments.image)
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {arguments.output}: {error.strerror}") from error
    with Console(stderr=True).status(f"loading {printable(place.name)}") as status:
        from lpnode.pipeline.open_model import DiffusionConfig, ModelOpener, choose_device

        diffusion = DiffusionConfig(
            models_dir=models_dir,
            engines_dir=config.data_dir / "engines",
            backend=arguments.backend or config.ai_backend,
            precision=config.ai_precision,
        )
        device = choose_device(config.gpu, may_use_gpu=config.may_use_gpu)
        opener = ModelOpener(place=place, config=diffusion, device=device)
        job = _Job(arguments, image, opener, show=status.update)
        try:
            report = job.run()
        except BadParameters as error:
            raise ConfigError(str(error)) from error
        finally:
            job.model.unload()
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        _print_table(report)
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="lpnode run",
        description=_DESCRIPTION,
        epilog="lpnode run PIPELINE --help says more.",
        formatter_class=raw,
        allow_abbrev=False,
    )
    pipelines = parser.add_subparsers(dest="pipeline", metavar="PIPELINE", required=True)

    one = pipelines.add_parser(
        TEXT_TO_IMAGE,
        help="pictures from a prompt",
        description='Draws pictures: lpnode run text-to-image --prompt "a red circle" --seed 7',
        epilog=_MORE,
        formatter_class=raw,
        allow_abbrev=False,
    )
    _add_common(one)
    one.add_argument("--size", type=_size, metavar="WxH", help="multiples of 8; default: native")

    one = pipelines.add_parser(
        IMAGE_TO_IMAGE,
        help="pictures from a picture and a prompt",
        description=(
            "Redraws a picture: lpnode run image-to-image --image cat.png "
            '--prompt "a blue cat" --strength 0.6'
        ),
        epilog=_MORE,
        formatter_class=raw,
        allow_abbrev=False,
    )
    one.add_argument("--image", type=Path, required=True, metavar="FILE", help="PNG, JPEG, WebP …")
    _add_common(one)
    one.add_argument(
        "--strength",
        type=float,
        default=0.8,
        help="0 leaves the picture as it is, 1 leaves nothing of it (%(default)s)",
    )
    one.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="multiples of 8, what is over is cut off; default: scaled to the model's native size",
    )
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", required=True, help="what is to be seen")
    parser.add_argument(
        "--negative-prompt", default="", metavar="TEXT", help="what is not; needs guidance above 1"
    )
    parser.add_argument("--seed", type=int, help="of the first picture; default: drawn, and shown")
    parser.add_argument(
        "--count", type=int, default=1, help="pictures, with seeds that count on (%(default)s)"
    )
    parser.add_argument("--steps", type=int, default=0, help="of denoising; default: the model's")
    parser.add_argument("--guidance", type=float, help="how strictly the prompt is followed")
    parser.add_argument(
        "--model",
        default=SHIPPED_MODEL,
        metavar="ID_OR_PATH",
        help="id, or a path that begins with / or . (%(default)s, which ships with lpnode)",
    )
    parser.add_argument(
        "--models-dir", type=Path, metavar="DIR", help="folder of models; default: the node's"
    )
    parser.add_argument(
        "--lora",
        action="append",
        type=_lora,
        default=[],
        metavar="FILE=STRENGTH",
        help="a .safetensors file in the folder of models; up to four",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="torch, onnxruntime, openvino …; default: -aiBackend, which is auto, the fastest",
    )
    parser.add_argument(
        "--no-safety-check", action="store_true", help="do not run the model's safety checker"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("lpnode-pictures"),
        metavar="DIR",
        help="folder to write (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")


def _params(
    arguments: argparse.Namespace, defaults: Mapping[str, Any] | None = None
) -> "TextToImageParams | ImageToImageParams":
    from lpnode.pipeline.one_shot.params import ImageToImageParams, TextToImageParams

    raw: dict[str, Any] = {
        "prompt": arguments.prompt,
        "negative_prompt": arguments.negative_prompt,
        "seed": arguments.seed,
        "num_images_per_prompt": arguments.count,
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance,
        "safety_check": not arguments.no_safety_check,
        "loras": json.dumps(dict(arguments.lora)),
    }
    try:
        if arguments.pipeline == IMAGE_TO_IMAGE:
            return ImageToImageParams.parse({**raw, "strength": arguments.strength}, defaults)
        if arguments.size is not None:
            raw["width"], raw["height"] = arguments.size
        return TextToImageParams.parse(raw, defaults)
    except BadParameters as error:
        raise ConfigError(str(error)) from error


class _Job:
    """One run: the model, and what it is asked for."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        image: "Image | None",
        opener: "ModelOpener",
        show: Callable[[str], None],
    ) -> None:
        from lpnode.pipeline.one_shot.one_shot_model import OneShotModel

        self._arguments = arguments
        self._image = image
        self._place = opener.place
        self._show = show
        self.model = OneShotModel(
            lambda loras, shapes: opener.open(shapes, loras=loras, is_for_frames=False),
            names=(opener.place.name,),
            max_rows=_MAX_ROWS,
            load_safety_checker=self._safety_checker,
        )

    def run(self) -> dict[str, Any]:
        """Makes and writes the pictures; returns the fields of ``--json``."""
        from diffusers.utils.logging import set_verbosity_error

        from lpnode.command.picture_files import write_picture
        from lpnode.pipeline.one_shot.model_rules import default_values

        set_verbosity_error()  # what it warns of is for programmers

        arguments = self._arguments
        started = time.perf_counter()
        opened = self.model.load(tuple(arguments.lora), self._size)
        load_s = time.perf_counter() - started
        params = _params(arguments, default_values(opened.model))
        started = time.perf_counter()
        pictures = self._make(params, opened.model.traits)
        make_s = time.perf_counter() - started
        parameters = self._parameters(opened, params)
        images = []
        for picture in pictures:
            height, width = picture.rgb.shape[:2]
            own = {**parameters, "width": width, "height": height, "seed": picture.seed}
            path = write_picture(arguments.output, picture.rgb, own)
            images.append(
                {
                    "file": str(path),
                    "width": width,
                    "height": height,
                    "seed": picture.seed,
                    "ms": round(picture.elapsed_s * 1e3, 1),
                    "nsfw": picture.nsfw,
                    "is_checked": picture.is_checked,
                }
            )
        times = {"load_ms": round(load_s * 1e3, 1), "make_ms": round(make_s * 1e3, 1)}
        return {**parameters, **times, "images": images}

    def _make(
        self, params: "TextToImageParams | ImageToImageParams", traits: "ModelTraits"
    ) -> list["Picture"]:
        from lpnode.command.picture_files import fitted
        from lpnode.pipeline.one_shot.image_to_image import image_to_image
        from lpnode.pipeline.one_shot.params import TextToImageParams
        from lpnode.pipeline.one_shot.sampling import Watch
        from lpnode.pipeline.one_shot.text_to_image import text_to_image

        started = time.perf_counter()

        def on_step(done: int, total: int) -> None:
            left_s = (time.perf_counter() - started) / done * (total - done)
            self._show(f"step {done} of {total}, about {left_s:.0f} s left")

        watch = Watch(on_step=on_step)
        if isinstance(params, TextToImageParams):
            return text_to_image(self.model, params, watch)
        assert self._image is not None
        return image_to_image(self.model, params, fitted(self._image, self._size(traits)), watch)

    def _size(self, traits: "ModelTraits") -> tuple[int, int]:
        from lpnode.command.picture_files import size_near

        size: tuple[int, int] | None = self._arguments.size
        if size is not None:
            return size
        side = traits.native_size
        return (side, side) if self._image is None else size_near(self._image, side)

    def _parameters(self, opened: "OpenModel", params: "PictureParams") -> dict[str, Any]:
        """What makes the same picture again, beside its seed and size."""
        from lpnode.pipeline.one_shot import model_rules

        arguments, model = self._arguments, opened.model
        fields: dict[str, Any] = {
            "pipeline": arguments.pipeline,
            "model": model.name,
            "weights_sha256": dict(model.weights_sha256),
            "backend": opened.networks.name,
            "lpnode": __version__,
            "prompt": params.prompt,
            "negative_prompt": params.negative_prompt,
            "num_inference_steps": model_rules.num_steps(model, params),
            "guidance_scale": model_rules.guidance_scale(model, params),
            "loras": dict(params.loras),
        }
        if arguments.pipeline == IMAGE_TO_IMAGE:
            fields |= {"image": str(arguments.image), "strength": arguments.strength}
        return fields

    def _safety_checker(self) -> "SafetyChecker | None":
        from lpnode.pipeline.one_shot.safety import SafetyChecker

        folder = self._place.path
        return SafetyChecker(folder) if SafetyChecker.is_in(folder) else None


def _print_table(report: Mapping[str, Any]) -> None:
    images = report["images"]
    print(
        f"{printable(report['model'])} on {report['backend']}: "
        f"{report['num_inference_steps']} steps, loaded in {report['load_ms'] / 1e3:.1f} s, "
        f"made in {report['make_ms'] / 1e3:.1f} s"
    )
    table = money_table("")
    for name in ("file", "size", "seed", "ms"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"seed", "ms"} else "left")
    is_flagged = any(image["nsfw"] for image in images)
    if is_flagged:
        table.add_column("safety checker", no_wrap=True)
    for image in images:
        cells = [
            printable(image["file"]),
            f"{image['width']}x{image['height']}",
            str(image["seed"]),
            f"{image['ms']:.0f}",
        ]
        if is_flagged:
            cells.append("flagged" if image["nsfw"] else "")
        table.add_row(*(Text(cell) for cell in cells))
    print_whole(table)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, for example 512x512")
    size = int(width), int(height)
    if not all(side % 8 == 0 and 8 <= side <= 4096 for side in size):
        raise argparse.ArgumentTypeError(f"{text}: both sides must be multiples of 8 up to 4096")
    return size


def _lora(text: str) -> tuple[str, float]:
    name, equals, strength = text.rpartition("=")
    try:
        return (name, float(strength)) if equals else (text, 1.0)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FILE=STRENGTH, for example style.safetensors=0.8"
        ) from None
