"""The operator's port: health, state, metrics and a few settings, in plain HTTP without passwords.

It listens on loopback unless told otherwise. Parameters are form fields, in the query or an
urlencoded body; answers are text that ends with a newline, as go-livepeer's tools expect. This
node's own are ``/tickets/retry``, and ``LiveSessions``, ``Models`` and ``Payments`` in ``/status``.

Source: discovery.md section 7.3.
"""

import json
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from lpnode.edge.exchange import Handler, Request, Response, read_body, text_response
from lpnode.edge.http.operator_chain import ChainFacts, chain_handlers
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.edge.routes import ANY, Route, Router
from lpnode.errors import LpnodeError, ProtocolError
from lpnode.payment.ticket import TicketHash, parse_ticket_hash
from lpnode.payment.winning import Winner

MAX_LOG_LEVEL = 6

_NOT_A_GATEWAY = "Node must be gateway node to get network capabilities\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """Where the operator's port listens. ``is_monitored``: it serves ``/metrics``."""

    host: str = "127.0.0.1"
    port: int = 7935
    is_monitored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorState:
    """What the operator's port shows and changes; supplied by the node.

    Attributes:
        version: of this node.
        sessions: live sessions now, as JSON can hold them.
        models: those that are served and what state each is in, as JSON can hold them.
        metrics: the Prometheus text.
        base_prices: wei per pixel as rational text, by sender's address or ``default``.
        set_base_price: sender, price per unit, pixels per unit and currency (may be empty), all
            as text; raises LpnodeError with a text for the operator. None: prices are fixed.
        log_level, set_log_level: verbosity, 0 to 6.
        chain: what is known of it; None off-chain.
        payments: how payments stand, as JSON can hold it; None where work is free.
        retry_tickets: has one won ticket, or with None every one that is not paid, tried again
            and returns them; raises LpnodeError with a text for the operator. None: off-chain.
        is_ready: whether the models that are loaded at start can be used, or were given up.
    """

    version: str
    sessions: Callable[[], object]
    metrics: Callable[[], bytes]
    base_prices: Callable[[], Mapping[str, str]]
    log_level: Callable[[], int]
    set_log_level: Callable[[int], None]
    set_base_price: Callable[[str, str, str, str], None] | None = None
    chain: Callable[[], ChainFacts | None] = lambda: None
    payments: Callable[[], object] | None = None
    retry_tickets: Callable[[TicketHash | None], Awaitable[Sequence[Winner]]] | None = None
    is_ready: Callable[[], bool] = lambda: True
    models: Callable[[], object] = list


def health_routes() -> list[Route]:
    """``/healthz``, on the public port as on this one: 200 and nothing else, for any method."""
    return [Route(path="/healthz", handler=_healthz, methods=ANY)]


def operator_routes(state: OperatorState, *, is_monitored: bool) -> list[Route]:
    """Every path of the operator's port."""
    handlers: dict[str, Handler] = {
        "/status": _Status(state),
        "/IsOrchestrator": _Text(200, "true"),
        "/IsRedeemer": _Text(200, "false"),
        "/getLogLevel": _GetLogLevel(state),
        "/setLogLevel": _SetLogLevel(state),
        "/setPriceForBroadcaster": _SetPrice(state),
        "/getAISessionPoolsInfo": _Json("{}"),
        "/getNetworkCapabilities": _Text(400, _NOT_A_GATEWAY),
        "/registerLiveRunners": _Text(404, "live runners are not supported\n"),
    }
    handlers |= chain_handlers(state.chain)
    if is_monitored:
        handlers["/metrics"] = _Metrics(state)
    routes = [Route(path=path, handler=one, methods=ANY) for path, one in handlers.items()]
    retry = Route(path="/tickets/retry", handler=_RetryTickets(state), methods="POST")
    ready = Route(path="/readyz", handler=_Ready(state), methods=ANY)
    return [*health_routes(), ready, *routes, retry]


class Operator:
    """The operator's port as a component: ``bind``, then ``run`` until ``drain``."""

    def __init__(self, config: OperatorConfig, state: OperatorState) -> None:
        self._listener = Listener(ListenerConfig(host=config.host, port=config.port))
        self._router = Router(operator_routes(state, is_monitored=config.is_monitored))

    @property
    def port(self) -> int:
        """The port that was bound."""
        return self._listener.port

    async def bind(self) -> None:
        """Takes the port. Raises: ConfigError: the address cannot be used."""
        await self._listener.bind()

    async def run(self) -> None:
        """Serves until ``drain`` has finished or the caller cancels."""
        await self._listener.run(self._router)

    async def drain(self, deadline_s: float = 1.0) -> None:
        """Accepts nothing more and ends what is open."""
        await self._listener.drain(deadline_s)


async def _healthz(request: Request) -> Response:
    return Response()


@dataclass(frozen=True, slots=True)
class _Ready:
    """200 once the models that are loaded at start can be used, or are given up; 503 before."""

    state: OperatorState

    async def __call__(self, request: Request) -> Response:
        return (
            text_response(200, "ok\n")
            if self.state.is_ready()
            else text_response(503, "starting\n")
        )


@dataclass(frozen=True, slots=True)
class _Text:
    status: int
    text: str

    async def __call__(self, request: Request) -> Response:
        return text_response(self.status, self.text)


@dataclass(frozen=True, slots=True)
class _Json:
    text: str

    async def __call__(self, request: Request) -> Response:
        return _json(self.text)


@dataclass(frozen=True, slots=True)
class _Status:
    state: OperatorState

    async def __call__(self, request: Request) -> Response:
        fields = {
            "Version": self.state.version,
            "GolangRuntimeVersion": f"Python {platform.python_version()}",
            "GOArch": platform.machine(),
            "GOOS": platform.system().lower(),
            "LocalTranscoding": False,
            "RegisteredTranscodersNumber": 0,
            "RegisteredTranscoders": [],
            "BroadcasterPrices": dict(self.state.base_prices()),
            "Manifests": {},
            "InternalManifests": {},
            "StreamInfo": {},
            "OrchestratorPool": [],
            "OrchestratorPoolInfos": None,
            "LiveSessions": self.state.sessions(),
            "Models": self.state.models(),
            "Payments": self.state.payments() if self.state.payments else None,
        }
        return _json(json.dumps(fields))


@dataclass(frozen=True, slots=True)
class _Metrics:
    state: OperatorState

    async def __call__(self, request: Request) -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(200, [("Content-Type", kind)], self.state.metrics())


@dataclass(frozen=True, slots=True)
class _GetLogLevel:
    state: OperatorState

    async def __call__(self, request: Request) -> Response:
        return text_response(200, str(self.state.log_level()))


@dataclass(frozen=True, slots=True)
class _SetLogLevel:
    state: OperatorState

    async def __call__(self, request: Request) -> Response:
        form = await _form(request)
        text = form.get("loglevel")
        if not text.isdecimal() or int(text[:4]) > MAX_LOG_LEVEL:
            return text_response(400, f"loglevel must be 0 to {MAX_LOG_LEVEL}, got {text!r}\n")
        self.state.set_log_level(int(text))
        return text_response(200, f"log level set to {int(text)}\n")


@dataclass(frozen=True, slots=True)
class _SetPrice:
    state: OperatorState

    async def __call__(self, request: Request) -> Response:
        form = await _form(request)
        price = form.get("pricePerUnit")
        pixels = form.get("pixelsPerUnit")
        sender = form.get("broadcasterEthAddr")
        if self.state.set_base_price is None:
            return text_response(500, "prices cannot be changed while the node runs\n")
        try:
            self.state.set_base_price(sender, price, pixels, form.optional("currency"))
        except LpnodeError as error:
            return text_response(400, f"{error}\n")
        return text_response(200, f"Price per pixel set for {sender}\n")


@dataclass(frozen=True, slots=True)
class _RetryTickets:
    """This node's own: ``hash`` is that of a ticket, or ``all``; the answer is JSON."""

    state: OperatorState

    async def __call__(self, request: Request) -> Response:
        text = (await _form(request)).get("hash")
        if self.state.retry_tickets is None:
            return text_response(500, "missing ETH client\n")
        try:
            ticket_hash = None if text == "all" else parse_ticket_hash(text)
            winners = await self.state.retry_tickets(ticket_hash)
        except LpnodeError as error:
            return text_response(400, f"{error}\n")
        tickets = [
            {"hash": f"0x{winner.hash.hex()}", "state": winner.state, "reason": winner.reason}
            for winner in winners
        ]
        return _json(json.dumps({"tickets": tickets}))


@dataclass(frozen=True, slots=True)
class _Form:
    fields: dict[str, list[str]] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """A field that has to be there. Raises: ProtocolError."""
        text = self.optional(name)
        if not text:
            raise ProtocolError(f"missing form param: {name}")
        return text

    def optional(self, name: str) -> str:
        """A field, or the empty text."""
        return self.fields.get(name, [""])[0]


async def _form(request: Request) -> _Form:
    fields = parse_qs(request.query)
    kind = request.headers.get("content-type").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        body = (await read_body(request)).decode("utf-8", "replace")
        # As in the reference, the body's fields come before the query's.
        fields = {**fields, **parse_qs(body)}
    return _Form(fields)


def _json(text: str) -> Response:
    return Response(200, [("Content-Type", "application/json")], text.encode())
