"""What operators see of payments as they come. Source: discovery.md section 9."""

from pathlib import Path

from paying_gateway import GATEWAY, PRICE, Funds, PaymentBench, changed, pay
from payment.receiving import KEY, MANIFEST, OFTEN_WON, params_for, refused
from payment.redeeming import FACE_VALUE, running
from prometheus_client.parser import text_string_to_metric_families

from lpnode.metrics import Metrics
from lpnode.payment.payment_metrics import PaymentMetrics
from lpnode.payment.payments import Payments
from lpnode.payment.reason_classes import RefusalReason
from lpnode.payment.summary import PaymentSummary
from lpnode.payment.winner_state import WinnerState
from lpnode.payment.winner_totals import TicketSum
from lpnode.protocol.ethereum import checksum_text


def samples(payments: Payments) -> dict[str, float]:
    """Value by name, without the suffix of counters, and the labels that are not the node's."""
    metrics = Metrics(node_id="n")
    PaymentMetrics(metrics, payments.summary, max_gas_price_wei=3 * 10**9)
    found = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            labels = [value for name, value in sample.labels.items() if "node_" not in name]
            found[" ".join([sample.name.removesuffix("_total"), *labels])] = sample.value
    return found


async def test_tickets_are_counted_as_they_are_credited(bench: PaymentBench) -> None:
    async with bench.running() as payments:
        params = await params_for(payments)
        await payments.recipient.receive(pay(params, range(20)), MANIFEST)
        summary = payments.summary()
        assert (summary.num_payments, summary.num_tickets, summary.num_credited) == (1, 20, 20)
        assert summary.credit_wei == 20 * params.expected_value
        assert (summary.num_senders, summary.balance_wei) == (1, int(summary.credit_wei))
        assert summary.offers[GATEWAY.address].face_value_wei == params.face_value_wei
        found = samples(payments)
    gwei = int(summary.credit_wei) / 10**9
    assert found["livepeer_ticket_value_recv"] == found["lpnode_balance_gwei"] == gwei
    assert found["livepeer_tickets_recv"] == found["lpnode_tickets_credited"] == 20
    assert found["livepeer_suggested_gas_price"] == 0.01
    assert found["livepeer_max_gas_price"] == 3
    sender = checksum_text(GATEWAY.address)
    assert found[f"livepeer_gateway_ticket_face_value {sender}"] == params.face_value_wei / 10**9
    assert found[f"livepeer_gateway_max_float {sender}"] == 10**8  # its share of the reserve


async def test_each_refused_ticket_is_counted_under_its_reason(bench: PaymentBench) -> None:
    async with bench.running() as payments:
        receive = payments.recipient.receive
        params = await params_for(payments)
        good = pay(params, [1, 2])
        await receive(good, MANIFEST)
        await refused(receive(good, MANIFEST))
        await refused(receive(changed(good, face_value=b"\1"), MANIFEST))
        await refused(receive(changed(good, recipient=b"\2" * 20), MANIFEST))
        await refused(receive(changed(good, sender=b""), MANIFEST))
        forged = pay(params, [3, 4, 5])
        forged.ticket_sender_params[0].sig = bytes(65)
        await refused(receive(forged, MANIFEST))
        await refused(receive(pay(params, [6]), MANIFEST, lowest_price=2 * PRICE))
        bench.chain.last_l1_block = params.expiration_block
        await refused(receive(pay(params, [7]), MANIFEST))
        bench.chain.is_recipient_active = False
        await refused(receive(pay(params, [8]), MANIFEST))
        summary = payments.summary()
        found = samples(payments)
    assert {k: n for k, n in summary.refused_tickets.items() if n} == {
        RefusalReason.NONCE: 2,
        RefusalReason.RECIPIENT_RAND: 2,
        RefusalReason.RECIPIENT: 2,
        RefusalReason.MALFORMED: 2,
        RefusalReason.SIGNATURE: 1,
        RefusalReason.PRICE: 1,
        RefusalReason.EXPIRED: 1,
        RefusalReason.INACTIVE: 1,
    }
    refusals = sum(summary.refused_tickets.values())
    assert summary.num_tickets == summary.num_credited + refusals == 16
    assert found["lpnode_tickets_refused nonce"] == 2
    assert found["livepeer_payment_recv_errors InvalidRecipientRand"] == 1
    assert found["livepeer_payment_recv_errors InvalidPrice"] == 1
    assert found["livepeer_payment_recv_errors PaymentError"] == 6


async def test_what_the_senders_funds_forbid_is_counted_apart(bench: PaymentBench) -> None:
    async with bench.running() as payments:
        receive = payments.recipient.receive
        params = await params_for(payments)
        for funds in (Funds(deposit_wei=0, reserve_wei=0), Funds(withdraw_round=3501)):
            bench.chain.funds[GATEWAY.address] = funds
            payments.senders.doubt_all()
            await refused(receive(pay(params, [1]), MANIFEST))
        bench.chain.is_reachable = False
        payments.senders._known.clear()
        await refused(receive(pay(params, [1]), MANIFEST))
        counted = {k: n for k, n in payments.summary().refused_payments.items() if n}
    assert counted == {
        RefusalReason.SENDER_FUNDS: 1,
        RefusalReason.SENDER_UNLOCKING: 1,
        RefusalReason.CHAIN: 1,
    }


async def test_won_tickets_are_followed_from_state_to_state_and_over_a_restart(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as bench:
        won = await bench.win(3)
        await bench.settle()
        bench.broker.final.add(won[0].hash)
        await bench.settle()
        before = bench.payments.summary()
        found = samples(bench.payments)
    redeemed, confirmed = WinnerState.REDEEMED, WinnerState.CONFIRMED
    assert {k: n for k, n in before.winners.items() if n.num} == {
        redeemed: TicketSum(1, FACE_VALUE),
        confirmed: TicketSum(len(won) - 1, (len(won) - 1) * FACE_VALUE),
    }
    assert (before.payout_wei, before.pending_wei) == (len(won) * FACE_VALUE, 0)
    assert found["livepeer_value_redeemed"] == len(won) * FACE_VALUE / 10**9
    assert found["livepeer_winning_tickets_recv"] == len(won)
    assert found["lpnode_winning_tickets redeemed"] == 1
    async with running(tmp_path) as again:
        after = again.payments.summary()
    assert (after.winners, after.payout_wei) == (before.winners, before.payout_wei)
    assert (after.num_won, after.num_credited) == (0, 0)


async def test_the_status_says_amounts_exactly_and_as_text(bench: PaymentBench) -> None:
    bench.pricing = OFTEN_WON
    async with bench.running() as payments:
        params = await params_for(payments)
        await payments.recipient.receive(pay(params, range(30)), MANIFEST)
        summary: PaymentSummary = payments.summary()
        fields = summary.as_fields()
        assert fields["credited_wei"] == str(payments.balances.get(KEY))
        pending = summary.num_won * params.face_value_wei
        assert fields["pending_wei"] == str(pending)
        winners = fields["winners"]
        assert isinstance(winners, dict)
        assert winners["stored"] == {"tickets": summary.num_won, "face_value_wei": str(pending)}
