"""What of a node a paying gateway meets, with or without its sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from node_bench import KEY, MODEL, NodeBench
from paying_gateway import GATEWAY, PaymentBench, pay

from lpnode.admission.admit import Admitter, AdmitterConfig
from lpnode.admission.ai_models import ModelEntry
from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.paid_quote import PaidQuote, Prices
from lpnode.admission.price import PriceBook
from lpnode.admission.quote import Quote, QuoteConfig
from lpnode.admission.till import Till
from lpnode.chain.signer import LocalSigner
from lpnode.edge.certificate import ensure_certificate, server_context
from lpnode.edge.exchange import Headers, Request, Response
from lpnode.edge.grpc.orchestrator import Orchestrator
from lpnode.edge.http.live import LiveEndpoint
from lpnode.edge.http.payment import PaymentEndpoint
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.edge.routes import Router
from lpnode.edge.trickle.connection import TrickleConnection
from lpnode.gateway.credentials import address_signature, credentials_header
from lpnode.gateway.ticket_sender import tickets_needed
from lpnode.gateway.ticket_terms import price_of, read_ticket_params
from lpnode.payment.balance import BalanceKey
from lpnode.payment.params import PricingConfig
from lpnode.payment.payments import Payments
from lpnode.payment.work_units import LIVE_UNITS_PER_S
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO, to_bitstring
from lpnode.protocol.ethereum import Account
from lpnode.schedule.capacity import ModelKey
from lpnode.session.stop_reason import StopReason
from lpnode.trickle import TrickleConfig

NODE = LocalSigner(bytes(31) + b"\x0b")
CHEAP = ModelKey(LIVE_VIDEO_TO_VIDEO, "cheap")
PRICE = Fraction(1200)
S = 1_000_000_000


class Body:
    """A request body that is there at once."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data

    async def read(self) -> bytes:
        data, self._data = self._data, b""
        return data


def text(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


def demand(key: ModelKey = KEY) -> pb.Capabilities:
    """What a gateway asks for that wants one model."""
    wanted = pb.Capabilities(
        bitstring=to_bitstring([key.capability]), capacities={key.capability: 1}
    )
    wanted.constraints.PerCapability[key.capability].models[key.model_id].SetInParent()
    return wanted


@dataclass
class PaidNode:
    """What of a node a paying gateway meets, without its sockets."""

    bench: NodeBench
    money: PaymentBench
    payments: Payments
    service_uri: str = "https://node.example:8935"

    def __post_init__(self) -> None:
        tokens = AuthTokens(bytes(32))
        self.quote = Quote(
            QuoteConfig(service_uri=self.service_uri, address=NODE.address),
            models=[ModelEntry(pipeline="live-video-to-video", model_id=MODEL)],
            capacity=self.bench.capacity,
            tokens=tokens,
        )
        self.prices = Prices(
            PriceBook(base={}, models={None: {KEY: PRICE, CHEAP: Fraction(3)}}),
            last_l1_block=lambda: self.money.chain.last_l1_block,
        )
        paid_quote = PaidQuote(self.quote, self.prices, self.payments.recipient)
        till = Till(self.payments, self.prices, paid_quote)
        admitter = Admitter(
            AdmitterConfig(verify_signatures=True),
            tokens=tokens,
            capabilities=lambda: self.quote.capabilities,
        )
        live = LiveEndpoint(
            self.bench.sessions,
            admitter,
            channels_url=f"{self.service_uri}/ai/trickle/",
            till=till,
        )
        payment = PaymentEndpoint(admitter, self.quote, till)
        self.router = Router([*live.routes(), *payment.routes()])
        self.orchestrator = Orchestrator(
            quote=paid_quote, capacity=self.bench.capacity, tokens=tokens, signer=NODE
        )

    async def discover(
        self, key: ModelKey = KEY, account: Account = GATEWAY
    ) -> pb.OrchestratorInfo:
        request = pb.OrchestratorRequest(
            address=account.address,
            sig=address_signature(account),
            capabilities=demand(key),
            ignoreCapacityCheck=True,
        )
        reply = self.orchestrator.get_orchestrator(request.SerializeToString())
        assert not isinstance(reply, bytes)
        return pb.OrchestratorInfo.FromString(await reply)

    async def send(
        self,
        path: str,
        payment: pb.Payment | str,
        info: pb.OrchestratorInfo,
        manifest_id: str = "35_noop",
        account: Account = GATEWAY,
        body: bytes = b"",
    ) -> Response:
        headers = {
            "Livepeer-Payment": payment if isinstance(payment, str) else encode_message(payment),
            "Livepeer-Segment": credentials_header(manifest_id, demand(), info.auth_token, account),
            "Content-Type": "application/json",
        }
        return await self.router(Request("POST", path, "", Headers(headers.items()), Body(body)))

    async def start(self, payment: pb.Payment, info: pb.OrchestratorInfo) -> Response:
        body = json.dumps({"model_id": MODEL, "gateway_request_id": "1a2b3c4d"}).encode()
        return await self.send("/live-video-to-video", payment, info, body=body)

    async def pay_more(
        self, payment: pb.Payment | str, info: pb.OrchestratorInfo, manifest_id: str
    ) -> Response:
        return await self.send("/payment", payment, info, manifest_id)

    def balance(self, manifest_id: str) -> Fraction | None:
        return self.payments.balances.get(BalanceKey(GATEWAY.address, manifest_id))


def paid_for(info: pb.OrchestratorInfo, duration_s: int, first_nonce: int = 1) -> pb.Payment:
    """What a gateway sends for so many seconds of live video."""
    params = read_ticket_params(info.ticket_params)
    fee = duration_s * LIVE_UNITS_PER_S * price_of(info)
    num_tickets = tickets_needed(Fraction(0), fee, params.expected_value)
    return pay(params, range(first_nonce, first_nonce + num_tickets), price_of(info))


def no_tickets(price: Fraction | None = None) -> pb.Payment:
    payment = pb.Payment(sender=GATEWAY.address)
    if price is not None:
        payment.expected_price.pricePerUnit = price.numerator
        payment.expected_price.pixelsPerUnit = price.denominator
    return payment


@asynccontextmanager
async def serving_paid_node(
    folder: Path,
    *,
    money: PaymentBench | None = None,
    pricing: PricingConfig | None = None,
    now_ns: Callable[[], int] | None = None,
) -> AsyncIterator[PaidNode]:
    """The whole of it on a free port of loopback; ``now_ns``: the clock that meters go by."""
    money = money or PaymentBench(folder, pricing=pricing or PricingConfig())
    bench = NodeBench()
    listener = Listener(
        ListenerConfig(host="127.0.0.1", port=0),
        tls=server_context(ensure_certificate(folder / "tls", "127.0.0.1")),
        trickle=lambda fallback: TrickleConnection(bench.channels, TrickleConfig(), fallback),
    )
    await listener.bind()
    async with bench.running(), money.running(now_ns) as payments, asyncio.TaskGroup() as tasks:
        node = PaidNode(bench, money, payments, f"https://127.0.0.1:{listener.port}")
        tasks.create_task(
            listener.run(node.router, node.orchestrator.methods()), name="paid node's listener"
        )
        try:
            yield node
        finally:
            for session in list(bench.sessions._sessions.values()):
                session.stop(StopReason.SHUTDOWN)
            await bench.ended()
            await listener.drain(1.0)
