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
from lpnode.model.library import ModelSummary, check_values, places, summary
from lpnode.model.place import find_model, folder_name

_HUB = "https://huggingface.co"
_HELP = {
    "list": "what is there, with size and precision",
    "check": "read every weight of a model",
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
        table = Table("model", "kind", "size", "precision", "")
        for model in found:
            size = f"{model.num_bytes / 1e6:,.1f} MB"
            row = (model.place.name, model.kind, size, " ".join(model.precisions), model.problem)
            table.add_row(*row)
        console = Console()
        console.print(table)
        console.print(f"in {folder}; lpnode model add NAME fetches another", highlight=False)
    return 1 if any(model.problem for model in found) else 0


def _fields(model: ModelSummary) -> dict[str, object]:
    return {
        "name": model.place.name,
        "path": str(model.place.path),
        "kind": model.kind,
        "bytes": model.num_bytes,
        "precisions": list(model.precisions),
        "problem": model.problem,
    }


def _check(name: str, folder: Path) -> int:
    place = find_model(name, folder)
    found = summary(place)
    console = Console()
    if not found.problem:
        with _progress() as progress:
            task = progress.add_task(name, total=found.num_bytes)
            check_values(place, lambda what, done, of: progress.update(task, completed=done))
    console.print(found.problem or f"{name}: every weight of {place.path} is sound")
    return 1 if found.problem else 0


def _add(arguments: argparse.Namespace, folder: Path) -> int:
    source: str = arguments.source
    local = Path(source).expanduser()
    name = arguments.name or _name_of(source)
    target = folder / folder_name(name)
    if local.exists():
        _copy(local, target)
    else:
        uvloop.run(_fetch(arguments, name, target))
    Console().print(f"{name} is in {target}", highlight=False)
    return 0


async def _fetch(arguments: argparse.Namespace, name: str, target: Path) -> None:
    source: str = arguments.source
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, connect=30, sock_read=60)
    ) as http:
        if "://" in source:
            sources = [await url_source(http, source, arguments.sha256)]
        else:
            endpoint = arguments.endpoint.rstrip("/")
            sources = await hub_sources(http, endpoint, source, arguments.revision)
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
    add.add_argument("--sha256", help="digest that the file of a URL must have")
    add.add_argument("--revision", default="main", help="of the repository (%(default)s)")
    add.add_argument("--endpoint", default=_HUB, help="of the hub (%(default)s)")
