"""Attacks that only a node's port can show: headers, statuses, and many connections at once.

Each leaves the payments as they were, no slot taken and no session running. What the recipient
refuses by itself is in ``tests/payment/test_attacks.py``. Source: payments.md 2.2, 2.3 and 2.14.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from node_bench import KEY, MODEL, NodeBench
from paid_node import CHEAP, PRICE, PaidNode, demand, no_tickets, paid_for, serving_paid_node, text
from paying_gateway import GATEWAY, OTHER_GATEWAY, Funds, PaymentBench, pay
from payment.receiving import everything

from lpnode.admission.price import PriceBook
from lpnode.gateway.credentials import credentials_header
from lpnode.gateway.ticket_terms import price_of, read_ticket_params
from lpnode.payment.balance import BalanceKey
from lpnode.payment.work_units import LIVE_PREPAID_S
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO
from lpnode.protocol.ethereum import Account, checksum_text
from lpnode.schedule.capacity import ModelKey
from lpnode.session.stop_reason import StopReason

MANIFEST = "8badf00d"
SENDER = checksum_text(GATEWAY.address)
JOB = json.dumps({"model_id": MODEL, "gateway_request_id": "1a2b3c4d"}).encode()
ENDPOINTS = ("/payment", "/live-video-to-video")
MANY = 12


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[PaidNode]:
    async with serving_paid_node(tmp_path) as node:
        yield node


@dataclass
class Peer:
    """Whoever sends requests, each over a connection of its own. ``info``: what it was quoted."""

    node: PaidNode
    info: pb.OrchestratorInfo
    account: Account = GATEWAY
    http2: bool = False

    async def send(
        self, path: str, payment: str, segment: str | None = None, manifest_id: str = MANIFEST
    ) -> httpx.Response:
        async with httpx.AsyncClient(verify=False, http2=self.http2, timeout=30) as http:
            return await http.post(
                f"{self.node.service_uri}{path}",
                content=JOB,
                headers={
                    "Livepeer-Payment": payment,
                    "Livepeer-Segment": self.credentials(manifest_id)
                    if segment is None
                    else segment,
                    "Content-Type": "application/json",
                },
            )

    def credentials(self, manifest_id: str = MANIFEST) -> str:
        return credentials_header(manifest_id, demand(), self.info.auth_token, self.account)

    def good_payment(self, first_nonce: int = 1) -> pb.Payment:
        return paid_for(self.info, LIVE_PREPAID_S, first_nonce)


async def peer_of(node: PaidNode, *, http2: bool = False) -> Peer:
    """A gateway that has paid before: 20 tickets, nonces 501 to 520."""
    peer = Peer(node, await node.discover(), http2=http2)
    paid = pay(read_ticket_params(peer.info.ticket_params), range(501, 521), price_of(peer.info))
    assert (await peer.send("/payment", encode_message(paid))).status_code == 200
    return peer


async def assert_refused(
    peer: Peer, path: str, payment: str, status: int, start: str, segment: str | None = None
) -> None:
    before = await everything(peer.node.payments)
    answer = await peer.send(path, payment, segment)
    assert (answer.status_code, answer.text[: len(start)]) == (status, start), answer.text
    assert answer.text.endswith("\n")
    assert await everything(peer.node.payments) == before
    assert peer.node.bench.capacity.idle(KEY) == 1
    assert len(peer.node.bench.sessions) == 0


@dataclass(frozen=True)
class Attack:
    """``make``: the payment. ``text``: how the 400's body begins."""

    text: str
    make: Callable[[Peer], pb.Payment]
    paths: tuple[str, ...] = field(default=ENDPOINTS)


def replayed(peer: Peer) -> pb.Payment:
    return pay(read_ticket_params(peer.info.ticket_params), [501, 520], price_of(peer.info))


def misspelt(peer: Peer) -> pb.Payment:
    payment = peer.good_payment()
    for ticket in payment.ticket_sender_params:
        ticket.sig = ticket.sig[:64] + bytes([55 - ticket.sig[64]])
    return payment


def dearer(peer: Peer) -> pb.Payment:
    payment = peer.good_payment()
    payment.ticket_params.face_value = b"\xff" * 16
    return payment


def expired(peer: Peer) -> pb.Payment:
    peer.node.money.chain.last_l1_block += 40
    return peer.good_payment()


def broke(peer: Peer) -> pb.Payment:
    peer.node.money.chain.funds[GATEWAY.address] = Funds(deposit_wei=0, reserve_wei=0)
    peer.node.payments.senders.doubt(GATEWAY.address)
    return peer.good_payment()


ATTACKS = {
    "a replay": Attack(
        f"invalid ticket senderNonce: already seen sender={SENDER} nonce=520", replayed
    ),
    "another v": Attack("invalid ticket signature", misspelt),
    "another face value": Attack("invalid recipientRand for ticket recipientRandHash", dearer),
    "expired parameters": Attack("TicketParams expired", expired),
    "a sender whose funds are gone": Attack("insufficient sender reserve", broke),
    "no tickets": Attack("Insufficient balance", lambda _: no_tickets(), ENDPOINTS[1:]),
    "no tickets and a price of 0": Attack(
        "Insufficient balance", lambda _: no_tickets(Fraction(0)), ENDPOINTS[1:]
    ),
}


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for name, attack in ATTACKS.items() for path in attack.paths]
)
async def test_what_the_recipient_refuses_is_400_with_its_text(
    node: PaidNode, path: str, name: str, http2: bool
) -> None:
    """R3: on both ways in, over both protocols."""
    peer = await peer_of(node, http2=http2)
    attack = ATTACKS[name]
    await assert_refused(peer, path, encode_message(attack.make(peer)), 400, attack.text)


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_header_cut_anywhere_is_refused_and_the_whole_one_still_counts(
    node: PaidNode, path: str
) -> None:
    """Whatever the cut leaves is no base64 or no message (402), or nobody's payment (403)."""
    peer = await peer_of(node)
    header = encode_message(peer.good_payment())
    raw_cut = [encode_message(no_tickets())[:n] for n in (1, 2, 3)]
    before = await everything(node.payments)
    statuses = set()
    for part in (*raw_cut, *(header[:n] for n in range(1, len(header), len(header) // 40))):
        answer = await peer.send(path, part)
        assert answer.status_code in (402, 403), (len(part), answer.text)
        statuses.add(answer.status_code)
    assert 402 in statuses
    segment = peer.credentials()
    for n in range(0, len(segment), 7):
        assert (await peer.send(path, header, segment[:n])).status_code == 403
    assert await everything(node.payments) == before
    assert node.bench.capacity.idle(KEY) == 1
    assert (await peer.send(path, header)).status_code == 200


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_header_larger_than_any_payment_is_431(node: PaidNode, path: str) -> None:
    """Of HTTP/2, ``tests/edge/http2/test_heads.py`` says the same."""
    peer = await peer_of(node)
    before = await everything(node.payments)
    assert (await peer.send(path, "A" * (1 << 20))).status_code == 431
    assert await everything(node.payments) == before
    assert node.bench.capacity.idle(KEY) == 1
    assert (await peer.send("/payment", encode_message(peer.good_payment()))).status_code == 200


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_the_longest_header_of_bad_tickets_is_refused_by_its_last_one(
    node: PaidNode, path: str
) -> None:
    peer = await peer_of(node)
    payment = pay(read_ticket_params(peer.info.ticket_params), [], price_of(peer.info))
    for nonce in range(10_000):
        payment.ticket_sender_params.add(sender_nonce=nonce, sig=nonce.to_bytes(65))
    header = encode_message(payment)
    assert 900_000 < len(header) < 1 << 20
    reason = f"invalid ticket senderNonce: too many values sender={SENDER} nonce=9999"
    await assert_refused(peer, path, header, 400, reason)


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_credentials_that_were_overheard_are_worth_nothing_with_another_payment(
    node: PaidNode, path: str
) -> None:
    """A signature of the gateway does not carry a payment of another, nor the other way round."""
    peer = await peer_of(node)
    thief = Peer(node, await node.discover(account=OTHER_GATEWAY), OTHER_GATEWAY)
    params = read_ticket_params(thief.info.ticket_params)
    own = encode_message(pay(params, [1], price_of(thief.info), OTHER_GATEWAY))
    seen = encode_message(peer.good_payment())
    await assert_refused(peer, path, own, 403, "ErrSegSig\n", peer.credentials())
    await assert_refused(peer, path, seen, 403, "ErrSegSig\n", thief.credentials())
    # With both, a replay is all that it can be.
    assert (await peer.send("/payment", seen)).status_code == 200
    segment = peer.credentials()
    await assert_refused(peer, path, seen, 400, "invalid ticket senderNonce", segment)


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
async def test_the_same_payment_on_many_connections_counts_once(
    node: PaidNode, http2: bool
) -> None:
    """R6: at once, to two manifests, on both ways in."""
    peer = await peer_of(node, http2=http2)
    header = encode_message(peer.good_payment())
    ev_wei = read_ticket_params(peer.info.ticket_params).expected_value
    before = sum(entry.amount_wei for entry in node.payments.balances._entries.values())
    answers = await asyncio.gather(
        *(peer.send("/payment", header, manifest_id=f"manifest {n % 2}") for n in range(MANY)),
        peer.send("/live-video-to-video", header),
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, *[400] * MANY]
    refusals = {answer.text[:41] for answer in answers if answer.status_code == 400}
    assert refusals == {"invalid ticket senderNonce: already seen "}
    after = sum(entry.amount_wei for entry in node.payments.balances._entries.values())
    assert after - before == len(peer.good_payment().ticket_sender_params) * ev_wei


async def test_pieces_of_one_sequence_on_many_connections_count_each_once(node: PaidNode) -> None:
    """payments.md section 7.4: nonces come interleaved and out of order, here with overlaps."""
    peer = await peer_of(node)
    params = read_ticket_params(peer.info.ticket_params)
    answers = await asyncio.gather(
        *(
            peer.send(
                "/payment",
                encode_message(pay(params, range(n + 29, n - 1, -1), price_of(peer.info))),
                manifest_id=f"manifest {n % 3}",
            )
            for n in range(0, 300, 15)
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 400}
    total = sum(
        node.payments.balances.get(BalanceKey(GATEWAY.address, f"manifest {n}")) or 0
        for n in range(3)
    )
    assert total == (285 + 30) * params.expected_value


async def test_many_gateways_pay_600_tickets_each_at_once(node: PaidNode) -> None:
    """And a good one between senders of as many bad ones is none the worse for it."""
    gateways = [Account(bytes(31) + bytes([n])) for n in range(20, 26)]
    payments = []
    for number, account in enumerate(gateways):
        peer = Peer(node, await node.discover(account=account), account)
        params = read_ticket_params(peer.info.ticket_params)
        payment = pay(params, range(600), price_of(peer.info), account)
        if number % 2:
            for ticket in payment.ticket_sender_params:
                ticket.sig = bytes(65)
        payments.append((peer, encode_message(payment), params.expected_value))
    answers = await asyncio.gather(*(peer.send("/payment", header) for peer, header, _ in payments))
    assert [answer.status_code for answer in answers] == [200, 400] * 3
    for number, (peer, _, ev_wei) in enumerate(payments):
        balance = node.payments.balances.get(BalanceKey(peer.account.address, MANIFEST))
        assert balance == (None if number % 2 else 600 * ev_wei)


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_payment_that_cannot_be_written_is_500_and_may_come_again(
    node: PaidNode, path: str
) -> None:
    """payments.md section 9.4; what the disk said is the operator's to know."""
    peer = await peer_of(node)
    header = encode_message(peer.good_payment())
    await node.payments.store.write(
        lambda c: c.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON payments "
            "BEGIN SELECT RAISE(ABORT, 'the disk failed'); END"
        )
    )
    before = await everything(node.payments)
    answer = await peer.send(path, header)
    assert answer.status_code == 500
    assert "disk" not in answer.text
    assert await everything(node.payments) == before
    assert node.bench.capacity.idle(KEY) == 1
    await node.payments.store.write(lambda c: c.execute("DROP TRIGGER broken"))
    assert (await peer.send(path, header)).status_code == 200


async def test_a_price_that_was_stated_without_tickets_pins_nothing(node: PaidNode) -> None:
    """payments.md section 9.3: in the reference it makes the whole session free."""
    peer = await peer_of(node)
    for path in ENDPOINTS:
        await peer.send(path, encode_message(no_tickets(Fraction(0))))
    answer = await peer.send("/live-video-to-video", encode_message(peer.good_payment()))
    assert answer.status_code == 200
    (price,) = await node.payments.store.write(
        lambda c: c.execute("SELECT price FROM jobs").fetchall()
    )
    assert Fraction(*price) == price_of(peer.info) > 0


async def test_free_work_does_not_become_dear_work(node: PaidNode) -> None:
    """Parameters for a price of 0 are anybody's; they open nothing that has a price."""
    node.prices.replace(PriceBook(base={}, models={None: {KEY: price_of(await node.discover())}}))
    info = await node.discover(CHEAP)
    assert (price_of(info), info.ticket_params.face_value) == (0, b"")
    peer = Peer(node, info)
    payment = pay(read_ticket_params(info.ticket_params), range(20), Fraction(0))
    before = await everything(node.payments)
    answer = await peer.send("/live-video-to-video", encode_message(payment))
    assert (answer.status_code, answer.text[:28]) == (400, "payment price does not match")
    # A payment towards it is answered as one without tickets is.
    assert (await peer.send("/payment", encode_message(payment))).status_code == 200
    assert await everything(node.payments) == before


async def test_requests_without_tickets_hold_no_slot_while_the_chain_is_asked(
    node: PaidNode,
) -> None:
    """Anybody can make up an address and send one; with slow endpoints, the slots would be gone."""
    stranger = Account(bytes(31) + b"\x63")
    info = await node.discover(ModelKey(LIVE_VIDEO_TO_VIDEO, "unknown"), stranger)
    payment = pb.Payment(sender=stranger.address)
    before = await everything(node.payments)
    peer = Peer(node, info, stranger)
    answer = await peer.send("/live-video-to-video", encode_message(payment))
    assert (answer.status_code, answer.text) == (400, "Insufficient balance\n")
    assert node.money.chain.num_reads == 0
    assert await everything(node.payments) == before


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_tokens_of_others_expired_or_changed_are_403(node: PaidNode, path: str) -> None:
    """R16."""
    peer = await peer_of(node)
    header = encode_message(peer.good_payment())
    token = peer.info.auth_token
    good = token.SerializeToString()
    for change, reason in (
        (lambda: setattr(token, "session_id", token.session_id[:-1]), "invalid auth token"),
        (lambda: setattr(token, "expiration", token.expiration + 1), "invalid auth token"),
        (lambda: setattr(token, "expiration", -token.expiration), "invalid auth token"),
        (lambda: setattr(token, "token", token.token[:-1]), "invalid auth token"),
        (lambda: setattr(token, "token", b""), "invalid auth token"),
    ):
        change()
        await assert_refused(peer, path, header, 403, f"{reason}\n")
        token.ParseFromString(good)


async def test_a_gateway_that_pays_over_a_restart_notices_nothing(tmp_path: Path) -> None:
    """A6: the parameters, tokens, nonces and balances of before are those of after."""
    money = PaymentBench(tmp_path)
    balance = None
    for number in range(3):
        async with NodeBench().running() as bench, money.running() as payments:
            node = PaidNode(bench, money, payments)
            if number == 0:
                info = await node.discover()
            ev_wei = read_ticket_params(info.ticket_params).expected_value
            assert node.balance(MANIFEST) == balance
            payment = paid_for(info, 5, first_nonce=1 + 100 * number)
            before = await node.pay_more(payment, info, MANIFEST)
            assert before.status == 200, text(before)
            balance = (balance or 0) + len(payment.ticket_sender_params) * ev_wei
            assert node.balance(MANIFEST) == balance


@pytest.mark.parametrize("key", [KEY, CHEAP], ids=["the same work", "cheaper work"])
async def test_tickets_of_before_a_restart_start_work_at_the_price_of_after_it(
    tmp_path: Path, key: ModelKey
) -> None:
    """A gateway that was quoted less is not turned away, and nobody gets work for less by it."""
    money = PaymentBench(tmp_path)
    async with NodeBench().running() as bench, money.running() as payments:
        info = await PaidNode(bench, money, payments).discover(key)
    money.chain.last_l1_block += 1
    async with NodeBench().running() as bench, money.running() as payments:
        node = PaidNode(bench, money, payments)
        node.prices._book = PriceBook(base={}, models={None: {KEY: 2 * PRICE}})
        tickets = pay(read_ticket_params(info.ticket_params), range(300), price_of(info))
        answer = await node.start(tickets, info)
        assert answer.status == 200, text(answer)
        (price,) = await payments.store.write(
            lambda c: c.execute("SELECT price FROM jobs").fetchall()
        )
        assert Fraction(*price) == 2 * PRICE
        for session in list(bench.sessions._sessions.values()):
            session.stop(StopReason.SHUTDOWN)
        await bench.ended()


async def test_every_reply_has_parameters_that_a_gateway_can_use(node: PaidNode) -> None:
    """R17: discovery and /payment, with tickets and without, also while the chain goes on."""
    info = await node.discover()
    for number in range(4):
        payment = paid_for(info, 1, first_nonce=1) if number % 2 else no_tickets()
        response = await node.pay_more(payment, info, MANIFEST)
        assert response.status == 200
        assert isinstance(response.body, bytes)
        info = pb.PaymentResult.FromString(response.body).info
        expiration_block = int.from_bytes(info.ticket_params.expiration_block)
        assert expiration_block >= node.money.chain.last_l1_block + 2
        assert info.ticket_params.expiration_params.creation_round == 3500
        assert info.ticket_params.expiration_params.creation_round_block_hash == b"\x35" * 32
        node.money.chain.last_l1_block += 30
