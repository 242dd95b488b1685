"""The composition root: builds every object of a node, owns their tasks, shuts down in order."""

import asyncio
import logging
import socket
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from lpnode import __version__
from lpnode.admission.admit import Admitter, AdmitterConfig
from lpnode.admission.ai_models import ModelEntry, load_ai_models, slots_of
from lpnode.admission.auth_token import AuthTokens, load_secret
from lpnode.admission.auth_webhook import AuthWebhook, AuthWebhookConfig
from lpnode.admission.paid_quote import PaidQuote
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.admission.till import Till
from lpnode.config.node_config import NodeConfig
from lpnode.edge.certificate import CertificateFiles, ensure_certificate, server_context
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.edge.http.live import LiveEndpoint
from lpnode.edge.http.operator import Operator, OperatorConfig, OperatorState, health_routes
from lpnode.edge.http.payment import PaymentEndpoint
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.edge.routes import ANY, Route, Router
from lpnode.edge.trickle import TrickleConnection, TrickleRoutes
from lpnode.errors import ChainError, ConfigError, DeviceError, first_cause
from lpnode.gateway.availability import check_availability
from lpnode.log import set_verbosity
from lpnode.metrics import Metrics
from lpnode.onchain import OnChain
from lpnode.payment.payment_metrics import PaymentMetrics
from lpnode.payment.ticket import TicketHash
from lpnode.payment.winning import Winner
from lpnode.pipeline.catalog import Catalog, built_in
from lpnode.pipeline.open_model import DiffusionConfig, choose_device
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO, pipeline_of
from lpnode.protocol.ethereum import ZERO_ADDRESS, checksum_text
from lpnode.schedule.capacity import Capacity, ModelKey
from lpnode.schedule.hardware import Gpu, find_gpus
from lpnode.schedule.hosted_model import ModelState
from lpnode.schedule.local_host import LocalHost, LocalHostConfig, ModelStatus
from lpnode.session.live import LiveConfig
from lpnode.session.live_sessions import LIVE_PIPELINE, LiveSessions
from lpnode.trickle.channels import Channels

_log = logging.getLogger(__name__)

_CLOSE_S = 2.0

T = TypeVar("T")


class Node:
    """One orchestrator node. ``run`` serves until ``stop``; ``ready`` is set once it serves.

    Shutdown: the offer is withdrawn, running sessions go on to the drain deadline, then channels,
    listeners and models end in that order, and at last the payment store.
    """

    def __init__(self, config: NodeConfig) -> None:
        """Reads what is kept on disk and checks that the models can be served.

        Raises: ConfigError: says what to change.
        """
        self.config = config
        self.ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self.on_chain: OnChain | None = None
        self._models = load_ai_models(config.ai_models) if config.service_uri else ()
        catalog = built_in(diffusion_config(config))
        check_models(self._models, catalog)
        self._slots = slots_of(self._models)
        self._tokens = AuthTokens(load_secret(config.data_dir / "auth_secret"))
        self.capacity = Capacity(self._slots)
        self.metrics = Metrics(node_id=f"{checksum_text(ZERO_ADDRESS)}-{socket.gethostname()}")
        self.metrics.describe_node(version=__version__, max_sessions=config.max_sessions)
        self.metrics.at_scrape(self._count)
        self.channels = Channels(config.trickle)
        self.host = LocalHost(
            LocalHostConfig(
                device=choose_device(config.gpu, may_use_gpu=config.may_use_gpu),
                models={entry.model_id: entry.warm for entry in self._models},
            ),
            catalog,
        )
        self.host.watch(self._model_changed)
        self.sessions = LiveSessions(
            LiveConfig(input_timeout_s=config.live_input_timeout_s),
            channels=self.channels,
            capacity=self.capacity,
            host=self.host,
            metrics=self.metrics,
        )
        self.listener = Listener(
            ListenerConfig(
                host=config.listen.host,
                port=config.listen.port,
                trickle_base=config.trickle.base_path,
            ),
            tls=server_context(_certificate(config)) if config.is_tls else None,
            trickle=lambda fallback: TrickleConnection(self.channels, config.trickle, fallback),
        )
        self.operator = Operator(
            OperatorConfig(
                host=config.operator.host,
                port=config.operator.port,
                is_monitored=config.is_monitored,
            ),
            self._operator_state(),
        )

    @property
    def service_uri(self) -> str:
        """Where gateways find the node; known once ``ready``."""
        if self.config.listen.port or not self.config.service_uri:
            return self.config.service_uri
        # Any free port was asked for: the advertised one is that which the system gave.
        parts = urlsplit(self.config.service_uri)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}:{self.listener.port}"

    def stop(self) -> None:
        """Begins the shutdown; a second call cuts the drain short."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    async def run(self) -> None:
        """Serves until ``stop``, then drains; a cancelled node ends its sessions at once.

        Raises:
            ConfigError: a port is taken, or nothing answers at the node's own address.
            ChainError: the chain cannot be reached at the start.
        """
        try:
            await self._run()
        except* (ConfigError, ChainError) as problems:
            raise first_cause(problems) from None

    async def _run(self) -> None:
        async with AsyncExitStack() as resources:
            if self.config.chain is not None:
                opened = OnChain.opened(self.config.chain, self.config, self._models)
                self.on_chain = await self._unless_stopped(resources.enter_async_context(opened))
                if self.on_chain is None:
                    return
            await self.listener.bind()
            try:
                await self.operator.bind()
            except ConfigError:
                await self.listener.drain(0)
                raise
            http = await resources.enter_async_context(aiohttp.ClientSession())
            await self._serve(http)

    async def _serve(self, http: aiohttp.ClientSession) -> None:
        on_chain = self.on_chain
        quote = Quote(
            QuoteConfig(
                service_uri=self.service_uri,
                nodes=self.config.nodes,
                address=ZERO_ADDRESS if on_chain is None else on_chain.connection.signer.address,
            ),
            models=self._models,
            capacity=self.capacity,
            tokens=self._tokens,
            gpus=await asyncio.to_thread(_gpus),
        )
        till = None
        if on_chain is not None:
            prices = on_chain.tariff.prices
            paid_quote = PaidQuote(quote, prices, on_chain.payments.recipient)
            till = Till(on_chain.payments, prices, paid_quote)
            assert self.config.chain is not None  # on_chain is made from it
            gas_price = self.config.chain.gas_price
            PaymentMetrics(
                self.metrics,
                on_chain.payments.summary,
                min_gas_price_wei=gas_price.min_wei,
                max_gas_price_wei=gas_price.max_wei,
            )
        async with asyncio.TaskGroup() as tasks:
            orchestrator = self._orchestrator(quote if till is None else till.quote, http)
            router = Router(self._routes(quote, till))
            until_drained = [
                tasks.create_task(self.channels.run(), name="trickle sweep"),
                tasks.create_task(self.host.run(), name="model host"),
                tasks.create_task(self.sessions.run(), name="live sessions"),
            ]
            if on_chain is not None:
                until_drained.append(tasks.create_task(on_chain.run(), name="paid side"))
            tasks.create_task(self.operator.run(), name="operator port")
            tasks.create_task(self.listener.run(router, orchestrator.methods()), name="listener")
            starting = tasks.create_task(self._start(), name="start")
            await self._stopping.wait()
            starting.cancel()
            await self._drain()
            for task in until_drained:
                task.cancel()

    async def _unless_stopped(self, opening: Coroutine[Any, Any, T]) -> T | None:
        """Waits for ``opening``, which may take as long as a chain needs to answer; None when the
        node is told to stop meanwhile."""
        async with asyncio.TaskGroup() as tasks:
            opened = tasks.create_task(opening, name="open the chain")
            stopped = tasks.create_task(self._stopping.wait(), name="stop")
            await asyncio.wait((opened, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not opened.done():
                opened.cancel()
        return None if opened.cancelled() else opened.result()

    async def _start(self) -> None:
        """Loading models may take minutes, which a node that is told to stop does not wait for."""
        await self.host.wait_warm()
        if self.config.is_checked_at_start and self.service_uri:
            account = None if self.on_chain is None else self.on_chain.connection.signer.address
            await check_availability(self.service_uri, account)
        self.ready.set()
        _log.info("serving %s, operator port %d", self.service_uri, self.operator.port)

    async def _drain(self) -> None:
        deadline_s = self.config.drain_deadline_s
        _log.info("draining %d live sessions, for %g s at most", len(self.sessions), deadline_s)
        self.capacity.withdraw()
        async with asyncio.TaskGroup() as tasks:
            hurry = tasks.create_task(self._hurry(), name="second stop")
            await self.sessions.drain(deadline_s)
            hurry.cancel()
        self.channels.close_all()
        await self.listener.drain(_CLOSE_S)
        await self.operator.drain(_CLOSE_S)

    async def _hurry(self) -> None:
        await self._hurrying.wait()
        await self.sessions.drain(0)

    def _orchestrator(self, quote: Quote | PaidQuote, http: aiohttp.ClientSession) -> Orchestrator:
        url = self.config.auth_webhook_url
        return Orchestrator(
            quote=quote,
            capacity=self.capacity,
            tokens=self._tokens,
            signer=None if self.on_chain is None else self.on_chain.connection.signer,
            webhook=AuthWebhook(AuthWebhookConfig(url=url), http) if url else None,
        )

    def _routes(self, quote: Quote, till: Till | None) -> list[Route]:
        """The public port, but for gRPC and what the trickle data plane answers itself."""
        base = self.channels.config.base_path
        admitter = Admitter(
            AdmitterConfig(verify_signatures=till is not None),
            tokens=self._tokens,
            capabilities=lambda: quote.capabilities,
        )
        live = LiveEndpoint(
            self.sessions, admitter, channels_url=self.service_uri + base, till=till
        )
        return [
            *health_routes(),
            *live.routes(),
            *PaymentEndpoint(admitter, quote, till).routes(),
            Route(
                path=f"{base}*",
                methods=ANY,
                handler=TrickleRoutes(self.channels).handle,
                max_body_bytes=None,
            ),
        ]

    def _operator_state(self) -> OperatorState:
        return OperatorState(
            version=__version__,
            sessions=lambda: [asdict(status) for status in self.sessions.snapshot()],
            models=lambda: [asdict(status) for status in self.host.snapshot()],
            metrics=self.metrics.exposition,
            base_prices=lambda: self.on_chain.tariff.base_prices() if self.on_chain else {},
            set_base_price=self._set_base_price if self.config.chain else None,
            chain=lambda: self.on_chain.facts() if self.on_chain else None,
            log_level=lambda: self.config.log.verbosity,
            set_log_level=set_verbosity,
            payments=lambda: (
                self.on_chain.payments.summary().as_fields() if self.on_chain else None
            ),
            retry_tickets=self._retry_tickets if self.config.chain else None,
            is_ready=self.ready.is_set,
        )

    def _set_base_price(self, sender: str, price: str, pixels: str, currency: str) -> None:
        assert self.on_chain is not None  # the operator's port is served with it
        self.on_chain.tariff.set_base_price(sender, price, pixels, currency)

    async def _retry_tickets(self, ticket_hash: TicketHash | None) -> list[Winner]:
        assert self.on_chain is not None  # the operator's port is served with it
        return await self.on_chain.redemption.retry(ticket_hash)

    def _model_changed(self, status: ModelStatus) -> None:
        """Takes a model that was given up off the offer, and puts it back when it has recovered."""
        key = ModelKey(LIVE_VIDEO_TO_VIDEO, status.model_id)
        if status.state is ModelState.FAILED:
            self.capacity.set_total(key, 0)
        elif status.state is ModelState.READY:
            self.capacity.set_total(key, self._slots[key])

    def _count(self) -> None:
        self.metrics.trickle_channels.set(len(self.channels))
        self.metrics.asyncio_tasks.set(len(asyncio.all_tasks()))
        keys = self.capacity.keys()
        for key in keys:
            labels = {
                "pipeline": pipeline_of(key.capability),
                "model_name": key.model_id,
                "orchestrator_uri": "",
            }
            self.metrics.ai_container_idle.set(self.capacity.idle(key), **labels)
            self.metrics.ai_container_in_use.set(self.capacity.in_use(key), **labels)


def check_models(models: Sequence[ModelEntry], catalog: Catalog) -> None:
    """Raises: ConfigError: an entry this build cannot serve, or whose weights are not there."""
    for number, entry in enumerate(models, 1):
        name = f"-aiModels: entry {number} ({entry.pipeline}, {entry.model_id})"
        if entry.pipeline != LIVE_PIPELINE:
            raise ConfigError(f"{name}: this build serves the pipeline {LIVE_PIPELINE} alone")
        if entry.url:
            raise ConfigError(f"{name}: url: models run in this process; leave url out")
        if entry.model_id not in catalog:
            raise ConfigError(f"{name}: model_id: this build knows {catalog.model_ids()}")
        try:
            catalog.maker(entry.model_id)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error


def diffusion_config(config: NodeConfig) -> DiffusionConfig:
    """Where the node has diffusion models, and what runs them."""
    return DiffusionConfig(
        models_dir=config.diffusion_models,
        engines_dir=config.data_dir / "engines",
        backend=config.ai_backend,
        precision=config.ai_precision,
    )


def _certificate(config: NodeConfig) -> CertificateFiles:
    if config.certificate_path is not None and config.key_path is not None:
        return CertificateFiles(certificate=config.certificate_path, key=config.key_path)
    host = urlsplit(config.service_uri).hostname or "localhost"
    return ensure_certificate(Path(config.data_dir), host)


def _gpus() -> tuple[Gpu, ...]:
    try:
        return find_gpus()
    except DeviceError as error:
        _log.warning("GPUs are not listed to gateways: %s", error)
        return ()
