"""A gateway that discovers, starts, pays and stops paying. Source: payments.md 2.9 to 2.11."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from live_input import h264_input
from node_bench import KEY, MODEL, Gateway, NodeBench
from paying_gateway import (
    GATEWAY,
    OTHER_GATEWAY,
    Funds,
    PaymentBench,
    pay,
    quoted_params,
)
from payment_vectors import VECTORS

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
from lpnode.edge.status import grpc_status
from lpnode.payment.balance import BalanceKey
from lpnode.payment.payments import Payments
from lpnode.payment.work_units import LIVE_PREPAID_S, LIVE_UNITS_PER_S
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO, to_bitstring
from lpnode.protocol.ethereum import Account, checksum_text
from lpnode.protocol.segment_header import ai_segment, segment_header, signed_part
from lpnode.schedule.capacity import ModelKey
from lpnode.session.stop_reason import StopReason

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

    def __post_init__(self) -> None:
        tokens = AuthTokens(bytes(32))
        self.quote = Quote(
            QuoteConfig(service_uri="https://node.example:8935", address=NODE.address),
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
            channels_url="https://node.example:8935/ai/trickle/",
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
            sig=account.sign(checksum_text(account.address).encode()),
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
        segment = ai_segment(manifest_id.encode(), demand(), info.auth_token)
        segment.sig = account.sign(signed_part(segment))
        headers = {
            "Livepeer-Payment": payment if isinstance(payment, str) else encode_message(payment),
            "Livepeer-Segment": segment_header(segment),
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


def price_of(info: pb.OrchestratorInfo) -> Fraction:
    return Fraction(info.price_info.pricePerUnit, info.price_info.pixelsPerUnit)


def paid_for(info: pb.OrchestratorInfo, duration_s: int, first_nonce: int = 1) -> pb.Payment:
    """What a gateway sends for so many seconds of live video."""
    params = quoted_params(info.ticket_params)
    fee = duration_s * LIVE_UNITS_PER_S * price_of(info)
    num_tickets = -(-fee // params.expected_value)
    return pay(params, range(first_nonce, first_nonce + int(num_tickets)), price_of(info))


def no_tickets(price: Fraction | None = None) -> pb.Payment:
    payment = pb.Payment(sender=GATEWAY.address)
    if price is not None:
        payment.expected_price.pricePerUnit = price.numerator
        payment.expected_price.pixelsPerUnit = price.denominator
    return payment


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[PaidNode]:
    money = PaymentBench(tmp_path)
    async with NodeBench().running() as bench, money.running() as payments:
        yield PaidNode(bench, money, payments)
        for session in list(bench.sessions._sessions.values()):
            session.stop(StopReason.SHUTDOWN)
        await bench.ended()


def manifest_of(response: Response) -> str:
    assert response.status == 200, text(response)
    found: str = json.loads(text(response))["manifest_id"]
    return found


async def test_a_reply_has_a_price_and_parameters_that_gateways_accept(node: PaidNode) -> None:
    """R17."""
    info = await node.discover()
    assert price_of(info) == PRICE * Fraction(101, 100)
    assert info.address == NODE.address
    params = quoted_params(info.ticket_params)
    assert params.expiration_block == node.money.chain.last_l1_block + 40
    assert params.creation_round == 3500
    assert params.expected_value < params.face_value_wei
    again = await node.discover()
    assert again.ticket_params.recipient_rand_hash != info.ticket_params.recipient_rand_hash


async def test_a_sender_without_reserve_is_told_so(node: PaidNode) -> None:
    node.money.chain.funds[GATEWAY.address] = Funds(reserve_wei=0)
    with pytest.raises(Exception, match="reserve") as refusal:
        await node.discover()
    assert grpc_status(refusal.value) == (2, "insufficient sender reserve")


async def test_a_paid_job_starts_and_its_payment_counts_for_it(node: PaidNode) -> None:
    """R13."""
    info = await node.discover()
    manifest_id = manifest_of(await node.start(paid_for(info, LIVE_PREPAID_S), info))
    balance = node.balance(manifest_id)
    assert balance is not None
    fee = LIVE_PREPAID_S * LIVE_UNITS_PER_S * price_of(info)
    assert fee <= balance < fee + quoted_params(info.ticket_params).expected_value


@pytest.mark.parametrize("price", [None, Fraction(0), Fraction(10**9)])
async def test_no_tickets_buy_no_work_whatever_price_they_state(
    node: PaidNode, price: Fraction | None
) -> None:
    """R9."""
    info = await node.discover()
    response = await node.start(no_tickets(price), info)
    assert (response.status, text(response)) == (400, "Insufficient balance\n")
    assert node.bench.capacity.idle(KEY) == 1
    assert len(node.payments.balances) == 0


async def test_parameters_for_cheap_work_pay_for_no_other(node: PaidNode) -> None:
    """R10."""
    info = await node.discover(CHEAP)
    assert price_of(info) < PRICE
    response = await node.start(paid_for(info, LIVE_PREPAID_S * 400), info)
    assert response.status == 400
    assert text(response).startswith("payment price does not match")
    assert node.bench.capacity.idle(KEY) == 1
    assert len(node.payments.balances) == 0


async def test_a_price_that_was_raised_since_is_honoured_while_its_parameters_live(
    node: PaidNode,
) -> None:
    info = await node.discover()
    node.prices.replace(PriceBook(base={}, models={None: {KEY: 2 * PRICE}}))
    assert manifest_of(await node.start(paid_for(info, LIVE_PREPAID_S), info))
    node.money.chain.last_l1_block += 40
    assert node.prices.lowest(GATEWAY.address, KEY) == 2 * PRICE


async def test_free_work_needs_no_payment(node: PaidNode) -> None:
    node.prices.replace(PriceBook(base={}))
    info = await node.discover()
    assert (price_of(info), info.ticket_params.face_value) == (0, b"")
    manifest_id = manifest_of(await node.start(no_tickets(), info))
    node.money.now_ns += 600 * S
    gateway = Gateway(node.bench.channels, node.bench.sessions._sessions[manifest_id])
    await gateway.exchange(list(h264_input(3))[:2])
    assert gateway.session.stop_reason is None


async def test_a_payment_without_tickets_is_answered_with_new_parameters(node: PaidNode) -> None:
    """R12."""
    info = await node.discover()
    response = await node.pay_more(no_tickets(), info, "8badf00d")
    assert response.status == 200
    assert isinstance(response.body, bytes)
    result = pb.PaymentResult.FromString(response.body)
    assert result.info.auth_token == info.auth_token
    assert price_of(result.info) == price_of(info)
    assert result.info.ticket_params.recipient_rand_hash != info.ticket_params.recipient_rand_hash
    assert result.info.ticket_params.HasField("expiration_params")
    assert result.info.transcoder == info.transcoder


async def test_a_payment_counts_for_the_manifest_that_its_credentials_name(node: PaidNode) -> None:
    """R13."""
    info = await node.discover()
    payment = paid_for(info, 5)
    assert (await node.pay_more(payment, info, "8badf00d")).status == 200
    ev = quoted_params(info.ticket_params).expected_value
    assert node.balance("8badf00d") == len(payment.ticket_sender_params) * ev


async def test_a_payment_is_acknowledged_when_there_are_no_new_parameters(node: PaidNode) -> None:
    """R14."""
    info = await node.discover()
    node.money.chain.round_hashes.clear()
    response = await node.pay_more(paid_for(info, 5), info, "8badf00d")
    assert (response.status, response.body) == (200, b"")
    assert node.balance("8badf00d") is not None


async def test_refused_payments_say_what_gateways_look_for(node: PaidNode) -> None:
    """R3."""
    info = await node.discover()
    payment = paid_for(info, 1)
    await node.pay_more(payment, info, "8badf00d")
    response = await node.pay_more(payment, info, "8badf00d")
    assert response.status == 400
    assert text(response).startswith("invalid ticket senderNonce: already seen")
    node.money.chain.last_l1_block += 40
    response = await node.pay_more(paid_for(info, 1, first_nonce=100), info, "8badf00d")
    assert (response.status, text(response)) == (400, "TicketParams expired\n")


@pytest.mark.parametrize("case", VECTORS["http_headers"]["decode_cases"])
async def test_headers_that_cannot_be_read_are_402(node: PaidNode, case: dict[str, str]) -> None:
    """R1."""
    info = await node.discover()
    response = await node.pay_more(case["header"], info, "8badf00d")
    if case.get("status") == 402:
        assert response.status == 402
        assert text(response).startswith(case["error_prefix"])
    else:
        # Readable, and then not this sender's: the credentials are checked next.
        assert response.status == 403


@pytest.mark.parametrize("case", VECTORS["must_reject_payments"], ids=lambda case: case["name"])
async def test_malformed_payments_leave_nothing_behind(
    node: PaidNode, case: dict[str, str]
) -> None:
    """R8."""
    info = await node.discover()
    response = await node.pay_more(case["base64"], info, "8badf00d")
    assert response.status in (400, 403)
    assert len(node.payments.balances) == 0


async def test_nobody_pays_in_anothers_name(node: PaidNode) -> None:
    info = await node.discover()
    payment = paid_for(info, 1)
    response = await node.send("/payment", payment, info, "8badf00d", account=OTHER_GATEWAY)
    assert (response.status, text(response)) == (403, "ErrSegSig\n")
    info.auth_token.session_id = "0" + info.auth_token.session_id[1:]
    info.auth_token.expiration += 1
    response = await node.pay_more(payment, info, "8badf00d")
    assert (response.status, text(response)) == (403, "invalid auth token\n")
    assert node.balance("8badf00d") is None


async def test_an_echoed_token_carries_nothing_else_back(node: PaidNode) -> None:
    info = await node.discover()
    padded = info.auth_token.SerializeToString() + b"\x7a\xff\x01" + b"x" * 255
    info.auth_token.ParseFromString(padded)
    response = await node.pay_more(no_tickets(), info, "8badf00d")
    assert isinstance(response.body, bytes)
    token = pb.PaymentResult.FromString(response.body).info.auth_token
    assert token.ByteSize() < 64


async def test_a_manifest_id_is_bounded(node: PaidNode) -> None:
    info = await node.discover()
    response = await node.pay_more(paid_for(info, 1), info, "m" * 300)
    assert response.status == 400
    assert len(node.payments.balances) == 0


async def test_a_stream_lives_on_payments_and_ends_when_they_stop(node: PaidNode) -> None:
    """A1, A2: every five seconds paid for one more interval, then no more."""
    info = await node.discover()
    fee_per_s = LIVE_UNITS_PER_S * price_of(info)
    manifest_id = manifest_of(await node.start(paid_for(info, LIVE_PREPAID_S), info))
    gateway = Gateway(node.bench.channels, node.bench.sessions._sessions[manifest_id])
    frames = h264_input(60)
    paid_s, nonce = LIVE_PREPAID_S, 1000
    for _ in range(6):
        await gateway.exchange([next(frames)])
        node.money.now_ns += 5 * S
        payment = paid_for(info, 5, first_nonce=nonce)
        nonce += len(payment.ticket_sender_params)
        response = await node.pay_more(payment, info, manifest_id)
        assert response.status == 200
        assert isinstance(response.body, bytes)
        info = pb.PaymentResult.FromString(response.body).info
        paid_s += 5
    await gateway.exchange([next(frames)])
    balance = node.balance(manifest_id)
    assert balance is not None
    assert balance >= (paid_s - 30) * fee_per_s
    num_intervals = 0
    reading = asyncio.create_task(gateway.remaining_events())
    while gateway.session.stop_reason is None:
        node.money.now_ns += 5 * S
        gateway.send(next(frames))
        if not await gateway.receive():
            break
        num_intervals += 1
    assert gateway.session.stop_reason is StopReason.UNPAID
    # The prepayment is the grace, and rounding to whole tickets adds less than an interval.
    assert LIVE_PREPAID_S // 5 <= num_intervals <= LIVE_PREPAID_S // 5 + 1
    events = await reading
    errors = [event["message"] for event in events if event["type"] == "error"]
    assert errors
    assert errors[-1].startswith(f"insufficient balance, mid={manifest_id}, fee=")
    await node.bench.ended()
    left = node.balance(manifest_id)
    assert left is not None
    assert 0 <= left < 5 * fee_per_s
    job = await node.payments.store.write(
        lambda c: c.execute(
            "SELECT units, fee, price, close_reason FROM jobs JOIN debits ON job_id = jobs.id"
        ).fetchone()
    )
    credited = await node.payments.store.write(
        lambda c: [Fraction(row[0]) for row in c.execute("SELECT credit FROM payments")]
    )
    assert job[0] * Fraction(job[2]) == Fraction(job[1]) == sum(credited) - left
    assert job[3] == str(StopReason.UNPAID)


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
async def test_600_tickets_fit_in_one_header(node: PaidNode, http2: bool, tmp_path: Path) -> None:
    """R2, over TLS on a real port."""
    info = await node.discover()
    payment = pay(quoted_params(info.ticket_params), range(600), price_of(info))
    segment = ai_segment(b"8badf00d", demand(), info.auth_token)
    segment.sig = GATEWAY.sign(signed_part(segment))
    headers = {
        "Livepeer-Payment": encode_message(payment),
        "Livepeer-Segment": segment_header(segment),
    }
    listener = Listener(
        ListenerConfig(host="127.0.0.1", port=0),
        tls=server_context(ensure_certificate(tmp_path / "tls", "127.0.0.1")),
    )
    await listener.bind()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.run(node.router, node.orchestrator.methods()), name="listener")
        async with httpx.AsyncClient(verify=False, http2=http2) as client:
            response = await client.post(
                f"https://127.0.0.1:{listener.port}/payment", headers=headers
            )
        await listener.drain(1.0)
    assert len(headers["Livepeer-Payment"]) > 57_000
    assert response.status_code == 200, response.text
    ev = quoted_params(info.ticket_params).expected_value
    assert node.balance("8badf00d") == 600 * ev
