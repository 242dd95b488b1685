"""The models on one device of this machine."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lpnode.errors import ConfigError, NotCapable
from lpnode.pipeline.catalog import Catalog
from lpnode.pipeline.params import BaseParams
from lpnode.pipeline.pipeline import EngineBuild
from lpnode.schedule.hosted_model import Clocks, HostedModel, ModelState, RestartConfig
from lpnode.schedule.hosted_stream import HostedStream
from lpnode.schedule.recent_logs import RecentLogs

SYSTEM_CLOCKS = Clocks(monotonic=time.monotonic, wall=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHostConfig:
    """Which models a device serves."""

    device: str = "cpu"
    """As torch names it: ``cpu``, ``cuda:0``."""
    models: Mapping[str, bool]
    """Model id → whether it is loaded at start (warm) or when first asked for."""
    restart: RestartConfig = field(default_factory=RestartConfig)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device, re.ASCII):
            raise ConfigError(f"device: expected cpu, cuda or cuda:N, got {self.device!r}")


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """What an operator may want to know of a model."""

    model_id: str
    state: ModelState
    num_streams: int
    restart_count: int
    engine_builds: tuple[EngineBuild, ...] = ()


class LocalHost:
    """Loads, runs and restarts the models of one device. Used from the event loop only.

    Raises: ConfigError: a model is not in the catalog, or its weights are not there.
    """

    def __init__(
        self, config: LocalHostConfig, catalog: Catalog, *, clocks: Clocks = SYSTEM_CLOCKS
    ) -> None:
        unknown = [model_id for model_id in config.models if model_id not in catalog]
        if unknown:
            raise ConfigError(f"unknown models {unknown}; this build knows {catalog.model_ids()}")
        self._recent_logs = RecentLogs()
        self._watchers: list[Callable[[ModelStatus], None]] = []
        self._models: dict[str, HostedModel] = {}
        for model_id, is_warm in config.models.items():
            model = HostedModel(
                model_id,
                partial(catalog.maker(model_id), config.device),
                config.restart,
                clocks,
                self._recent_logs.lines,
                self._changed,
            )
            self._models[model_id] = model
            if is_warm:
                model.want()
        self._warm = [
            self._models[model_id] for model_id, is_warm in config.models.items() if is_warm
        ]

    def parse(self, model_id: str, raw: Mapping[str, Any] | None) -> BaseParams:
        """Validates a full parameter set for a model, loaded or not.

        Raises: NotCapable: the host has no such model. BadParameters: names the field.
        """
        return self._model(model_id).parse(raw)

    def open_stream(self, model_id: str, params: BaseParams) -> HostedStream:
        """Makes a stream at once; it becomes ready when the model is loaded and has prepared it.

        Raises: NotCapable: the host has no such model. HostError: the model has been given up.
        """
        return self._model(model_id).open_stream(params)

    async def wait_warm(self) -> None:
        """Returns when every warm model is ready or given up."""
        for model in self._warm:
            await model.wait_settled()

    def snapshot(self) -> list[ModelStatus]:
        """Every model, in order of configuration."""
        return [_status_of(model) for model in self._models.values()]

    def watch(self, changed: Callable[[ModelStatus], None]) -> None:
        """Calls ``changed`` whenever a model enters another state, on the event loop.

        A model that is ``FAILED`` takes no streams; its slots should not be offered meanwhile.
        """
        self._watchers.append(changed)

    async def run(self) -> None:
        """Keeps the models alive until cancelled; then unloads them."""
        with self._recent_logs.listening():
            async with asyncio.TaskGroup() as models:
                for model in self._models.values():
                    models.create_task(model.run(), name=f"model {model.model_id}")

    def _changed(self, model: HostedModel) -> None:
        for changed in self._watchers:
            changed(_status_of(model))

    def _model(self, model_id: str) -> HostedModel:
        model = self._models.get(model_id)
        if model is None:
            raise NotCapable(f"model {model_id!r} is not served; served: {list(self._models)}")
        return model


def _status_of(model: HostedModel) -> ModelStatus:
    return ModelStatus(
        model.model_id,
        model.state,
        model.num_streams,
        model.restart_count,
        model.engine_builds,
    )
