"""``lpnode model``: the diffusion models on this machine. Nothing is fetched unless asked for."""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import uvloop
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from lpnode.config.node_config import data_directory
from lpnode.config.serve_flags import SERVE_FLAGS
from lpnode.config.settings import read_settings
from lpnode.errors import ConfigError
from lpnode.model.download import fetch_model, hub_sources, url_source
from lpnode.model.hub import TOKENIZER_NAMES
from lpnode.model.library import ModelSummary, check_model, places, summary
from lpnode.model.place import find_model, folder_name
from lpnode.model.single_file import TOKENIZER_FOLDER

_HUB = "https://huggingface.co"
_HELP = {
    "list": "what is there, with size and precision",
    "check": "read every weight of a model, and see whether its parts fit each other",
    "add": "copy a model from a folder, or fetch it from a URL or a Hugging Face repository",
}


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs one of the subcommands. Returns: 0, or 1 if a model is not sound.

    Raises: ConfigError, ModelError.
    """
    arguments = _parser().parse_args(list(words) or ["--help"])
    folder: Path = arguments.models_dir or _default_folder(environment)
    match arguments.action:
        case "list":
            return _list(folder, is_json=arguments.json)
        case "check":
            return _check(arguments.name, folder)
        case _:
            return _add(arguments, folder)


def _default_folder(environment: Mapping[str, str]) -> Path:
    settings = read_settings(SERVE_FLAGS, [], environment)
    given = settings.text("aiModelsDir")
    return Path(given).expanduser() if given else data_directory(settings) / "models"


def _list(folder: Path, *, is_json: bool) -> int:
    found = [summary(place) for place in places(folder)]
    if is_json:
        print(json.dumps([_fields(model) for model in found]))
    else:
        table = Table("model", "kind", "family", "size", "precision", "")
        for model in found:
            size = f"{model.num_bytes / 1e6:,.1f} MB"
            precisions = " ".join(model.precisions)
            family = model.family or ""
            table.add_row(model.place.name, model.kind, family, size, precisions, model.problem)
        console = Console()
        console.print(table)
        console.print(f"in {folder}; lpnode model add NAME fetches another", highlight=False)
    return 1 if any(model.problem for model in found) else 0


def _fields(model: ModelSummary) -> dict[str, object]:
    return {
        "name": model.place.name,
        "path": str(model.place.path),
        "kind": model.kind,
        "family": model.family,
        "bytes": model.num_bytes,
        "precisions": list(model.precisions),
        "problem": model.problem,
    }


def _check(name: str, folder: Path) -> int:
    place = find_model(name, folder)
    found = summary(place)
    console = Console()
    if found.problem:
        console.print(found.problem)
        return 1
    with _progress() as progress:
        task = progress.add_task(name, total=found.num_bytes)

        def show(what: str, num_done: int, num_bytes: int) -> None:
            progress.update(task, description=what, completed=num_done, total=num_bytes)

        digests = check_model(found, show)
    console.print(f"{name}: every weight of {place.path} is sound", soft_wrap=True)
    for part, digest in digests.items():
        console.print(f"{part} {digest}", highlight=False, soft_wrap=True)
    return 0


def _add(arguments: argparse.Namespace, folder: Path) -> int:
    source: str = arguments.source
    local = Path(source).expanduser()
    if arguments.tokenizer:
        name = target_name = TOKENIZER_FOLDER
    else:
        name = arguments.name or _name_of(source)
        target_name = folder_name(name)
    target = folder / target_name
    if local.exists():
        _copy(_tokenizer_in(local) if arguments.tokenizer else local, target)
    else:
        uvloop.run(_fetch(arguments, name, target))
    Console().print(f"{name} is in {target}", highlight=False)
    return 0


async def _fetch(arguments: argparse.Namespace, name: str, target: Path) -> None:
    source: str = arguments.source
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, connect=30, sock_read=60)
    ) as http:
        if "://" in source and arguments.tokenizer:
            raise ConfigError("--tokenizer takes a folder or a repository, not a URL")
        if "://" in source:
            sources = [await url_source(http, source, arguments.sha256)]
        else:
            endpoint = arguments.endpoint.rstrip("/")
            sources = await hub_sources(
                http, endpoint, source, arguments.revision, is_tokenizer=arguments.tokenizer
            )
        with _progress() as progress:
            task = progress.add_task(name, total=None)

            def show(what: str, num_done: int, num_bytes: int) -> None:
                progress.update(task, description=what, completed=num_done, total=num_bytes)

            await fetch_model(http, sources, target, show)


def _copy(source: Path, target: Path) -> None:
    if target.exists():
        raise ConfigError(f"{target} exists already; remove it or give another --name")
    partial = target.with_name(target.name + ".partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, partial, dirs_exist_ok=True)
        elif source.suffix == ".safetensors":
            partial.mkdir(exist_ok=True)
            shutil.copy2(source, partial / source.name)
        else:
            raise ConfigError(f"{source}: expected a model folder or a .safetensors file")
        partial.rename(target)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from error


def _tokenizer_in(source: Path) -> Path:
    for folder in (source / TOKENIZER_FOLDER, source):
        if all((folder / name).is_file() for name in TOKENIZER_NAMES):
            return folder
    raise ConfigError(f"{source}: has no tokenizer of CLIP: {' and '.join(TOKENIZER_NAMES)}")


def _name_of(source: str) -> str:
    if "://" in source:
        return Path(urlsplit(source).path).stem
    path = Path(source).expanduser()
    return path.stem if path.is_file() else path.name if path.exists() else source


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpnode model",
        description="The diffusion models on this machine. Nothing is fetched unless asked for.",
    )
    parser.set_defaults(models_dir=None, json=False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in _HELP.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument(
            "--models-dir",
            type=Path,
            metavar="DIR",
            help="folder of models (default: -aiModelsDir, or models in the data directory)",
        )
        if name == "list":
            action.add_argument("--json", action="store_true", help="print JSON")
        elif name == "check":
            action.add_argument("name", metavar="NAME", help="id or path of a model")
        else:
            _add_add_arguments(action)
    return parser


def _add_add_arguments(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "source",
        metavar="SOURCE",
        help="folder, .safetensors file, URL of one, or a repository such as stabilityai/sd-turbo",
    )
    add.add_argument("--name", help="id to serve it by (default: the source's own)")
    add.add_argument(
        "--tokenizer",
        action="store_true",
        help="take CLIP's words alone, which every checkpoint in one file needs",
    )
    add.add_argument("--sha256", help="digest that the file of a URL must have")
    add.add_argument("--revision", default="main", help="of the repository (%(default)s)")
    add.add_argument("--endpoint", default=_HUB, help="of the hub (%(default)s)")
