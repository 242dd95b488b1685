"""What was earned, against what the test itself has paid and worked."""

from dataclasses import replace
from fractions import Fraction

from paying_gateway import GATEWAY, OTHER_GATEWAY, PRICE, PaymentBench, pay
from payment.ledgers import DAY_S
from payment.receiving import OFTEN_WON

from lpnode.payment.balance import BalanceKey
from lpnode.payment.earnings import Grouping, earnings_by, total_earnings
from lpnode.payment.ledger import Job
from lpnode.payment.ledger_sums import Earnings
from lpnode.payment.payments import Payments
from lpnode.payment.store_reader import StoreReader
from lpnode.payment.ticket_history import manifest_record, payment_record, ticket_record
from lpnode.payment.winner_state import WinnerState
from lpnode.payment.winning import Winner, change_winner
from lpnode.protocol.ethereum import Account, checksum_text

NO_WEI = Fraction(0)


async def pay_and_work(
    payments: Payments, account: Account, manifest_id: str, model_id: str, num_tickets: int
) -> Earnings:
    """Pays for a job of 7 units at a price of thirds, and says what that should come to."""
    params = await payments.recipient.ticket_params(account.address, PRICE)
    before = {winner.hash for winner in payments.winners.open()}
    receipt = await payments.recipient.receive(
        pay(params, range(num_tickets), account=account), manifest_id
    )
    key = BalanceKey(account.address, manifest_id)
    purse = await payments.open_job(
        Job(key=key, capability=35, model_id=model_id, price=Fraction(1, 3))
    )
    assert purse.debit(7, Fraction(7, 3))
    purse.close("the input ended")
    won = [winner for winner in payments.winners.open() if winner.hash not in before]
    assert len(won) == receipt.num_won
    return Earnings(
        num_payments=1,
        num_tickets=num_tickets,
        num_credited=num_tickets,
        credit_wei=num_tickets * params.expected_value,
        units=7,
        fee_wei=Fraction(7, 3),
        num_pending=len(won),
        pending_face_value_wei=Fraction(len(won) * params.face_value_wei),
    )


async def move(payments: Payments, winner: Winner, **changes: object) -> None:
    moved = replace(winner, **changes)
    await payments.store.write(lambda c: change_winner(c, moved, 1_800_000_009.0))


async def test_earnings_are_told_apart_by_model_gateway_and_day(bench: PaymentBench) -> None:
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        one = await pay_and_work(payments, GATEWAY, "a", "passthrough", 20)
        two = await pay_and_work(payments, OTHER_GATEWAY, "a", "edge-style", 30)
        bench.now_s += DAY_S
        three = await pay_and_work(payments, GATEWAY, "b", "edge-style", 10)
        unused = await payments.recipient.ticket_params(OTHER_GATEWAY.address, PRICE)
        await payments.recipient.receive(pay(unused, [1], account=OTHER_GATEWAY), "never used")
        only_paid = Earnings(num_payments=1, num_tickets=1, num_credited=1)
        only_paid += Earnings(credit_wei=unused.expected_value)
        if winner := [w for w in payments.winners.open() if w.manifest_id == "never used"]:
            value_wei = Fraction(winner[0].face_value_wei)
            only_paid += Earnings(num_pending=1, pending_face_value_wei=value_wei)
        with StoreReader(bench.path) as reader:
            found = {by: reader.read(lambda c, by=by: earnings_by(c, by)) for by in Grouping}
            total = reader.read(total_earnings)
    assert found[Grouping.MODEL] == {
        "": only_paid,
        "edge-style": two + three,
        "passthrough": one,
    }
    assert found[Grouping.GATEWAY] == {
        checksum_text(GATEWAY.address): one + three,
        checksum_text(OTHER_GATEWAY.address): two + only_paid,
    }
    assert found[Grouping.DAY] == {"2027-01-15": one + two, "2027-01-16": three + only_paid}
    assert total == one + two + three + only_paid


async def test_won_tickets_count_by_what_became_of_them(bench: PaymentBench) -> None:
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        await pay_and_work(payments, GATEWAY, "a", "passthrough", 60)
        won = payments.winners.open()
        assert len(won) > 5
        value_wei = won[0].face_value_wei
        await move(payments, won[0], state=WinnerState.REDEEMED, payout_wei=value_wei)
        await move(payments, won[1], state=WinnerState.CONFIRMED, payout_wei=value_wei - 5)
        await move(payments, won[2], state=WinnerState.REDEEMED)  # somebody else's transaction
        await move(payments, won[3], state=WinnerState.EXPIRED, reason="round 1 is over")
        await move(payments, won[4], state=WinnerState.SUBMITTED, tx_hash=bytes(32))
        total = await payments.store.write(total_earnings)
    assert (total.num_won, total.won_face_value_wei) == (len(won), len(won) * value_wei)
    assert (total.num_redeemed, total.redeemed_face_value_wei) == (3, 3 * value_wei)
    assert total.payout_wei == 2 * value_wei - 5
    assert (total.num_lost, total.lost_face_value_wei) == (1, value_wei)
    assert total.num_pending == len(won) - 4


async def test_a_payment_counts_for_the_first_model_of_its_manifest(bench: PaymentBench) -> None:
    async with bench.running() as payments:
        one = await pay_and_work(payments, GATEWAY, "a", "passthrough", 20)
        two = await pay_and_work(payments, GATEWAY, "a", "edge-style", 30)
        models = await payments.store.write(lambda c: earnings_by(c, Grouping.MODEL))
    assert models["passthrough"].credit_wei == one.credit_wei + two.credit_wei
    assert models["passthrough"].fee_wei == models["edge-style"].fee_wei == Fraction(7, 3)
    assert models["edge-style"].credit_wei == NO_WEI


async def test_from_a_job_to_the_transaction_and_back(bench: PaymentBench) -> None:
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        paid = await pay_and_work(payments, GATEWAY, "a", "passthrough", 60)
        await pay_and_work(payments, OTHER_GATEWAY, "b", "edge-style", 5)
        won = [winner for winner in payments.winners.open() if winner.manifest_id == "a"]
        await move(payments, won[0], state=WinnerState.SUBMITTED, tx_hash=b"\1" * 32)
        await move(payments, won[0], state=WinnerState.STORED, reason="reverted")
        await move(payments, won[0], state=WinnerState.CONFIRMED, tx_hash=b"\2" * 32, payout_wei=9)
        with StoreReader(bench.path) as reader:
            record = reader.read(lambda c: manifest_record(c, "a"))
            ticket = reader.read(lambda c: ticket_record(c, won[0].hash))
            assert ticket is not None
            payment = reader.read(lambda c: payment_record(c, ticket.payment_id))
            assert reader.read(lambda c: manifest_record(c, "unknown")).jobs == []
    (job,) = record.jobs
    assert (job.model_id, job.units, job.fee_wei, job.close_reason) == (
        *("passthrough", 7, Fraction(7, 3), "the input ended"),
    )
    assert record.payments == [payment]
    assert payment is not None
    assert (payment.num_credited, payment.credit_wei) == (60, paid.credit_wei)
    assert {each.hash for each in record.tickets} == {winner.hash for winner in won}
    assert [(step.state, step.reason, step.tx_hash) for step in ticket.steps] == [
        (WinnerState.SUBMITTED, "", b"\1" * 32),
        (WinnerState.STORED, "reverted", None),
        (WinnerState.CONFIRMED, "", b"\2" * 32),
    ]
    assert (ticket.state, ticket.payout_wei, ticket.manifest_id) == (WinnerState.CONFIRMED, 9, "a")
    assert won[0].signed.recipient_rand.hex() not in repr(record)
