"""Attacks on the recipient: each is refused with its text and leaves no trace at all.

What a payment may change is compared whole before and after, in memory and in every row of the
store. Source: payments.md sections 2.5 to 2.7 and 9.2 to 9.6.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from coincurve import PublicKey
from node_bench import until
from paying_gateway import (
    ETH,
    GATEWAY,
    OTHER_GATEWAY,
    PRICE,
    RECIPIENT,
    Funds,
    PaymentBench,
    changed,
    minbe,
    pay,
    with_nonces,
)
from payment.receiving import KEY, MANIFEST, OFTEN_WON, everything, params_for, refused

from lpnode.payment.balance import BalanceKey
from lpnode.payment.nonce_rows import load_nonces
from lpnode.payment.payments import Payments
from lpnode.payment.ticket import Ticket, TicketParams
from lpnode.payment.verifier import TicketVerifier, Verdicts
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import ZERO_ADDRESS, Account, Address, checksum_text

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SENDER = checksum_text(GATEWAY.address)
GATEWAY_SECRET = 7
RAND = "invalid recipientRand for ticket recipientRandHash"
SIGNATURE = "invalid ticket signature"


@dataclass
class Scene:
    """A gateway has paid 20 tickets, nonces 1 to 20, over ``params``; ``paid`` is that payment."""

    bench: PaymentBench
    payments: Payments
    params: TicketParams
    paid: pb.Payment

    def pay(self, *nonces: int, **terms: Any) -> pb.Payment:
        """Tickets over changed parameters, all of them properly signed."""
        return pay(replace(self.params, **terms), nonces or [21])

    def signed(self, signature: bytes) -> pb.Payment:
        """A fresh ticket with another signature."""
        payment = self.pay()
        payment.ticket_sender_params[0].sig = signature
        return payment

    @property
    def signature(self) -> bytes:
        """The good one of the ticket that ``pay`` makes."""
        return self.pay().ticket_sender_params[0].sig

    def priced(self, price_per_unit: int, pixels_per_unit: int) -> pb.Payment:
        payment = self.pay()
        payment.expected_price.pricePerUnit = price_per_unit
        payment.expected_price.pixelsPerUnit = pixels_per_unit
        return payment

    def in_round(self, number: int) -> pb.Payment:
        """A round that no ticket can be of."""
        payment = self.pay()
        payment.expiration_params.creation_round = number
        return payment

    def without(self, field_name: str) -> pb.Payment:
        payment = self.pay()
        payment.ClearField(field_name)  # type: ignore[arg-type]
        return payment

    def mirrored(self) -> bytes:
        """The other signature that anybody can make of a good one: n - s, and v turned round."""
        sig = self.signature
        high_s = ORDER - int.from_bytes(sig[32:64])
        return sig[:32] + high_s.to_bytes(32) + bytes([55 - sig[64]])

    def has_funds(self, **funds: int) -> pb.Payment:
        """The sender's funds have become others since the parameters were made."""
        self.bench.chain.funds[GATEWAY.address] = Funds(**funds)
        self.payments.senders.doubt(GATEWAY.address)
        return self.pay()

    def at_block(self, number: int) -> pb.Payment:
        self.bench.chain.last_l1_block = number
        return self.pay()

    def inactive(self) -> pb.Payment:
        self.bench.chain.is_recipient_active = False
        return self.pay()

    def out_of_reach(self) -> pb.Payment:
        self.bench.chain.is_reachable = False
        self.bench.now_ns += 3600 * 10**9
        return self.pay()


@dataclass(frozen=True)
class Attack:
    """``make``: the payment. ``text``: how the answer begins."""

    text: str
    make: Callable[[Scene], pb.Payment]
    receiving: dict[str, Any] = field(default_factory=dict)


ATTACKS: dict[str, Attack] = {
    "a replayed payment": Attack(
        f"invalid ticket senderNonce: already seen sender={SENDER} nonce=20", lambda s: s.paid
    ),
    "a replayed ticket among others that are bad": Attack(
        f"invalid ticket senderNonce: already seen sender={SENDER} nonce=7",
        lambda s: with_nonces(
            s.paid,
            [
                pb.TicketSenderParams(sender_nonce=30, sig=bytes(65)),
                s.paid.ticket_sender_params[6],
            ],
        ),
    ),
    "another face value": Attack(RAND, lambda s: s.pay(face_value_wei=10**17)),
    "another win probability": Attack(RAND, lambda s: s.pay(win_prob=2**256 - 1)),
    "no win probability": Attack(RAND, lambda s: s.pay(win_prob=0)),
    "another seed": Attack(RAND, lambda s: s.pay(seed=s.params.seed ^ 1)),
    "a later expiration": Attack(RAND, lambda s: s.pay(expiration_block=10**6)),
    "another round": Attack(RAND, lambda s: s.pay(creation_round=3499)),
    "another round's hash": Attack(RAND, lambda s: s.pay(creation_round_block_hash=b"\x34" * 32)),
    "a round without hash": Attack(
        RAND, lambda s: s.pay(creation_round=0, creation_round_block_hash=bytes(32))
    ),
    "another commitment": Attack(RAND, lambda s: s.pay(recipient_rand_hash=b"\1" * 32)),
    "a lower price": Attack(RAND, lambda s: s.priced(1199, 1)),
    "a price turned over": Attack(RAND, lambda s: s.priced(1, 1200)),
    "a price of nothing": Attack(RAND, lambda s: s.priced(0, 1)),
    "a negative price": Attack("invalid expected price", lambda s: s.priced(-1200, 1)),
    "a price for negative pixels": Attack("invalid expected price", lambda s: s.priced(1200, -1)),
    "a price for no pixels": Attack("invalid expected price", lambda s: s.priced(1200, 0)),
    "no price": Attack("invalid expected price", lambda s: s.without("expected_price")),
    "a negative round": Attack(RAND, lambda s: s.in_round(-3500)),
    "no round": Attack(
        "invalid ticket: expiration_params is missing", lambda s: s.without("expiration_params")
    ),
    "another recipient": Attack(
        "invalid ticket recipient", lambda s: s.pay(recipient=Address(b"\5" * 20))
    ),
    "another sender": Attack(RAND, lambda s: pay(s.params, [21], account=OTHER_GATEWAY)),
    "the zero address": Attack(
        "invalid ticket sender", lambda s: changed(s.pay(), sender=ZERO_ADDRESS)
    ),
    "no sender": Attack(
        "Could not find Sender for payment", lambda s: changed(s.pay(), sender=b"")
    ),
    "a sender with a byte in front": Attack(
        "invalid ticket sender", lambda s: changed(s.pay(), sender=b"\0" + GATEWAY.address)
    ),
    "a face value of 33 bytes": Attack(
        RAND, lambda s: changed(s.pay(), face_value=minbe(s.params.face_value_wei).rjust(33, b"\0"))
    ),
    "a foreign signature": Attack(
        SIGNATURE,
        lambda s: s.signed(pay(s.params, [21], account=OTHER_GATEWAY).ticket_sender_params[0].sig),
    ),
    "the signature of another nonce": Attack(
        SIGNATURE, lambda s: s.signed(s.paid.ticket_sender_params[0].sig)
    ),
    "a malleated signature": Attack(SIGNATURE, lambda s: s.signed(s.mirrored())),
    "a signature with v of 0 or 1": Attack(
        SIGNATURE, lambda s: s.signed(s.signature[:64] + bytes([s.signature[64] - 27]))
    ),
    "a signature with the other v": Attack(
        SIGNATURE, lambda s: s.signed(s.signature[:64] + bytes([55 - s.signature[64]]))
    ),
    "a truncated signature": Attack(SIGNATURE, lambda s: s.signed(s.signature[:64])),
    "a signature with a byte behind it": Attack(SIGNATURE, lambda s: s.signed(s.signature + b"\0")),
    "a signature of zeros": Attack(SIGNATURE, lambda s: s.signed(bytes(65))),
    "no signature": Attack(SIGNATURE, lambda s: s.signed(b"")),
    "a signature over the bare hash": Attack(
        SIGNATURE, lambda s: s.signed(GATEWAY.sign(Ticket(s.params, GATEWAY.address, 21).hash))
    ),
    "a sender without funds": Attack(
        "insufficient sender reserve", lambda s: s.has_funds(deposit_wei=0, reserve_wei=0)
    ),
    "a sender whose share of the reserve is claimed": Attack(
        "insufficient sender reserve",
        lambda s: s.has_funds(deposit_wei=0, reserve_wei=ETH, claimed_by_us_wei=ETH // 10),
    ),
    "a sender that can leave in the next round": Attack(
        f"deposit and reserve for sender {SENDER} is set to unlock soon",
        lambda s: s.has_funds(withdraw_round=3501),
    ),
    "expired parameters": Attack("TicketParams expired", lambda s: s.at_block(140)),
    "parameters that expired long ago": Attack("TicketParams expired", lambda s: s.at_block(9999)),
    "parameters made for cheaper work": Attack(
        "payment price does not match", lambda s: s.pay(), {"lowest_price": PRICE + 1}
    ),
    "a recipient that is no orchestrator any more": Attack(
        f"orchestrator {checksum_text(RECIPIENT)} is inactive", lambda s: s.inactive()
    ),
    "a chain that has not been seen for long": Attack(
        f"could not get sender info for {SENDER}", lambda s: s.out_of_reach()
    ),
}


@pytest.mark.parametrize("is_restarted", [False, True], ids=["at once", "after a restart"])
@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_refused_and_changes_nothing(
    bench: PaymentBench, name: str, is_restarted: bool
) -> None:
    attack = ATTACKS[name]
    async with bench.running() as payments:
        params = await params_for(payments)
        paid = pay(params, range(1, 21))
        await payments.recipient.receive(paid, MANIFEST)
        if not is_restarted:
            await attacked(Scene(bench, payments, params, paid), attack)
    if is_restarted:
        async with bench.running() as payments:
            await attacked(Scene(bench, payments, params, paid), attack)


async def attacked(scene: Scene, attack: Attack) -> None:
    payment = attack.make(scene)
    before = await everything(scene.payments)
    assert before["balances"][KEY] == 20 * scene.params.expected_value
    for manifest_id in (MANIFEST, "another manifest"):
        receiving = scene.payments.recipient.receive(payment, manifest_id, **attack.receiving)
        text = await refused(receiving)
        assert text.startswith(attack.text), text
        assert await everything(scene.payments) == before


async def test_what_every_attack_starts_from_is_a_good_payment(bench: PaymentBench) -> None:
    """Without this, the attacks could be refused for something else."""
    async with bench.running() as payments:
        params = await params_for(payments)
        await payments.recipient.receive(pay(params, range(1, 21)), MANIFEST)
        scene = Scene(bench, payments, params, pay(params, range(1, 21)))
        assert (await payments.recipient.receive(scene.pay(), MANIFEST)).num_credited == 1


async def test_parameters_of_another_node_are_worth_nothing_here(
    bench: PaymentBench, tmp_path: Path
) -> None:
    """Same recipient, same chain, another key."""
    async with PaymentBench(tmp_path / "other").running() as other:
        params = await params_for(other)
        async with bench.running() as payments:
            before = await everything(payments)
            assert await refused(payments.recipient.receive(pay(params, [1]), MANIFEST)) == RAND
            assert await everything(payments) == before
        assert (await other.recipient.receive(pay(params, [1]), MANIFEST)).num_credited == 1


async def test_ten_thousand_bad_tickets_in_one_payment_leave_no_trace(bench: PaymentBench) -> None:
    """As many as the longest header holds; only as many as could ever count are verified."""
    async with bench.running() as payments:
        params = await params_for(payments)
        payment = pay(params, [])
        payment.ticket_sender_params.extend(
            pb.TicketSenderParams(sender_nonce=nonce, sig=nonce.to_bytes(65))
            for nonce in range(10_000)
        )
        before = await everything(payments)
        text = await refused(payments.recipient.receive(payment, MANIFEST))
        assert text == f"invalid ticket senderNonce: too many values sender={SENDER} nonce=9999"
        assert await everything(payments) == before
        refusals = payments.summary().refused_tickets
        assert (refusals["signature"], refusals["nonce"]) == (600, 9400)  # type: ignore[index]


async def test_a_flood_of_bad_tickets_does_not_keep_good_ones_out(bench: PaymentBench) -> None:
    async with bench.running() as payments:
        params = await params_for(payments)
        bad = pay(params, [])
        for nonce in range(100):
            bad.ticket_sender_params.add(sender_nonce=nonce, sig=bytes(65))
        receive = payments.recipient.receive
        outcomes = await asyncio.gather(
            *(receive(bad, MANIFEST) for _ in range(20)),
            *(receive(pay(params, range(n, n + 10)), MANIFEST) for n in range(0, 100, 10)),
            *(receive(bad, MANIFEST) for _ in range(20)),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 40
        assert payments.balances.get(KEY) == 100 * params.expected_value


@dataclass
class SlowVerifier:
    """The real one; payments of hundreds of tickets wait for ``may_verify``."""

    verifier: TicketVerifier
    may_verify: threading.Event = field(default_factory=threading.Event)
    num_waiting: int = 0

    def verify(self, *arguments: Any) -> Verdicts:
        nonces = arguments[3]
        if len(nonces) >= 100:
            self.num_waiting += 1
            self.may_verify.wait()
        return self.verifier.verify(*arguments)


async def test_big_payments_keep_neither_small_ones_nor_quotes_waiting(
    bench: PaymentBench,
) -> None:
    """However many come at once, they are verified beside the event loop."""
    async with bench.running() as payments:
        slow = SlowVerifier(payments.recipient._verifier)
        payments.recipient._verifier = slow  # type: ignore[assignment]
        big = [await params_for(payments) for _ in range(20)]
        receive = payments.recipient.receive
        tasks = [asyncio.create_task(receive(pay(p, range(100)), MANIFEST)) for p in big]
        try:
            await until(lambda: slow.num_waiting)
            params = await params_for(payments)
            assert (await receive(pay(params, [1, 2]), MANIFEST)).num_credited == 2
            assert not any(task.done() for task in tasks)
        finally:
            slow.may_verify.set()
        receipts = await asyncio.gather(*tasks)
        assert [receipt.num_credited for receipt in receipts] == [100] * 20


def signed_again(digest: bytes, ephemeral: int) -> bytes:
    """A signature of the gateway over ``digest``, made with the secret number ``ephemeral``."""
    point = PublicKey.from_secret(ephemeral.to_bytes(32)).format(compressed=False)
    r, is_odd = int.from_bytes(point[1:33]), point[64] & 1
    s = pow(ephemeral, -1, ORDER) * (int.from_bytes(digest) + r * GATEWAY_SECRET) % ORDER
    if s > ORDER // 2:
        s, is_odd = ORDER - s, 1 - is_odd
    return r.to_bytes(32) + s.to_bytes(32) + bytes([27 + is_odd])


async def test_many_signatures_of_one_ticket_are_one_credit_and_one_redemption(
    bench: PaymentBench,
) -> None:
    """A sender can sign a ticket in as many ways as it likes; the contract pays it once."""
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        params = await params_for(payments)
        digest = Ticket(params, GATEWAY.address, 1).digest
        for is_one_payment in (True, False):
            tickets = [
                pb.TicketSenderParams(sender_nonce=1, sig=signed_again(digest, k))
                for k in range(2, 42)
            ]
            for group in [tickets] if is_one_payment else [[ticket] for ticket in tickets]:
                payment = with_nonces(pay(params, []), group)
                text = await refused(payments.recipient.receive(payment, MANIFEST))
                assert text.startswith("invalid ticket senderNonce: already seen")
            assert payments.balances.get(KEY) == params.expected_value
            assert len(payments.winners) == 1
            assert payments.winners.pending_wei(GATEWAY.address) == params.face_value_wei
            rows = (await everything(payments))["rows"]
            assert (len(rows["params"]), len(rows["winners"])) == (1, 1)
            assert len((await payments.store.write(load_nonces))[0].nonces) == 1


async def test_tickets_worth_nothing_leave_no_trace(bench: PaymentBench) -> None:
    """Anybody gets parameters for free work, under as many addresses as he likes."""
    async with bench.running() as payments:
        before = await everything(payments)
        for n in range(1, 20):
            stranger = Account(n.to_bytes(32))
            params = await payments.recipient.ticket_params(stranger.address, Fraction(0))
            for manifest_id in ("a", "b"):
                receipt = await payments.recipient.receive(
                    pay(params, range(5), Fraction(0), account=stranger), manifest_id
                )
                assert (receipt.price, receipt.num_credited) == (0, 0)
        assert await everything(payments) == before
        assert (bench.chain.num_reads, len(payments.senders)) == (0, 0)


@pytest.mark.parametrize("num_payments", [1, 30])
async def test_credit_ends_where_the_senders_funds_do_in_one_payment_as_in_many(
    bench: PaymentBench, num_payments: int
) -> None:
    """payments.md section 3.2: what has been won counts at once, not when it is on the disk."""
    bench.pricing = OFTEN_WON
    bench.chain.pool_size = 1
    bench.chain.funds[GATEWAY.address] = Funds(deposit_wei=0, reserve_wei=3 * 12 * 10**14)
    async with bench.running() as payments:
        params = await params_for(payments)
        size = 300 // num_payments
        texts = await asyncio.gather(
            *(
                payments.recipient.receive(pay(params, range(n, n + size)), MANIFEST)
                for n in range(0, 300, size)
            ),
            return_exceptions=True,
        )
        assert "insufficient sender reserve" in map(str, texts)
        state = await everything(payments)
        credited = {nonce for nonces in state["nonces"].values() for nonce in nonces}
        won = {winner.signed.ticket.nonce for winner in state["winners"]}
        # All that won are kept; those that were credited are no more than the funds can pay.
        assert len(won) > 50
        assert len(won & credited) == 3
        assert payments.balances.get(KEY) == len(credited) * params.expected_value


async def test_no_more_than_one_of_many_equal_payments_is_credited(bench: PaymentBench) -> None:
    """R6, with every order of claiming, writing and refusing at once."""
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        params = await params_for(payments)
        tickets = list(pay(params, range(40)).ticket_sender_params)
        shuffled = [
            with_nonces(pay(params, []), tickets[n:] + tickets[:n]) for n in range(0, 40, 2)
        ]
        await asyncio.gather(
            *(
                payments.recipient.receive(payment, f"manifest {n % 3}")
                for n, payment in enumerate(shuffled)
            ),
            return_exceptions=True,
        )
        total = sum(
            payments.balances.get(BalanceKey(GATEWAY.address, f"manifest {n}")) or 0
            for n in range(3)
        )
        assert total == 40 * params.expected_value
        state = await everything(payments)
        assert [len(row.nonces) for row in await payments.store.write(load_nonces)] == [40]
        assert len(state["rows"]["winners"]) == len(state["winners"]) > 0
        on_disk = sum(Fraction(row[2]) for row in state["rows"]["balances"])
        assert on_disk == total == sum(Fraction(row[7]) for row in state["rows"]["payments"])
