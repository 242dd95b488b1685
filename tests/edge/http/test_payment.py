"""A gateway that discovers, starts, pays and stops paying. Source: payments.md 2.9 to 2.11."""

import asyncio
import json
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from live_input import h264_input
from node_bench import KEY, Gateway, NodeBench
from paid_node import CHEAP, NODE, PRICE, PaidNode, S, demand, no_tickets, paid_for, text
from paying_gateway import (
    GATEWAY,
    OTHER_GATEWAY,
    Funds,
    PaymentBench,
    pay,
)
from payment_vectors import VECTORS

from lpnode.admission.price import PriceBook
from lpnode.edge.certificate import ensure_certificate, server_context
from lpnode.edge.exchange import Response
from lpnode.edge.listener import Listener, ListenerConfig
from lpnode.edge.status import grpc_status
from lpnode.gateway.credentials import credentials_header
from lpnode.gateway.ticket_terms import price_of, read_ticket_params
from lpnode.payment.work_units import LIVE_PREPAID_S, LIVE_UNITS_PER_S
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.session.stop_reason import StopReason


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
    params = read_ticket_params(info.ticket_params)
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
    assert fee <= balance < fee + read_ticket_params(info.ticket_params).expected_value


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
    ev = read_ticket_params(info.ticket_params).expected_value
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
    payment = pay(read_ticket_params(info.ticket_params), range(600), price_of(info))
    headers = {
        "Livepeer-Payment": encode_message(payment),
        "Livepeer-Segment": credentials_header("8badf00d", demand(), info.auth_token, GATEWAY),
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
    ev = read_ticket_params(info.ticket_params).expected_value
    assert node.balance("8badf00d") == 600 * ev
