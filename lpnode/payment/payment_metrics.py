"""Payments as Prometheus reads them: the reference's names, and this node's own. Values in gwei.

Counts of payments and tickets begin with the process, as the reference's do; what is redeemed and
what won, by state, begin with the store.

Source: discovery.md section 9.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lpnode.metrics import Metrics
from lpnode.payment.reason_classes import RefusalReason
from lpnode.payment.summary import PaymentSummary
from lpnode.payment.winner_totals import TicketSum
from lpnode.protocol.ethereum import checksum_text

_WEI_PER_GWEI = 10**9


class PaymentMetrics(Collector):
    """Adds the metrics of payments to those of the node, and has them current at each scrape."""

    def __init__(
        self,
        metrics: Metrics,
        summary: Callable[[], PaymentSummary],
        *,
        min_gas_price_wei: int = 0,
        max_gas_price_wei: int | None = None,
    ) -> None:
        """``summary`` is asked once a scrape; the gas prices are the operator's limits."""
        self._read = summary
        self._summary = summary()
        self._value_recv = metrics.counter("ticket_value_recv", "EV of credited tickets, gwei")
        self._tickets_recv = metrics.counter("tickets_recv", "Tickets credited")
        self._winning_recv = metrics.counter("winning_tickets_recv", "Tickets that won")
        self._recv_errors = metrics.counter(
            "payment_recv_errors", "Payments answered with an error", ("error_code",)
        )
        self._redeemed = metrics.counter("value_redeemed", "Paid by the chain for tickets, gwei")
        self._redemption_errors = metrics.counter(
            "ticket_redemption_errors", "Redemptions that failed, tried again or not"
        )
        self._max_float = metrics.gauge(
            "gateway_max_float", "Largest face value a sender could be offered, gwei", ("sender",)
        )
        self._face_value = metrics.gauge(
            "gateway_ticket_face_value", "Face value a sender was last offered, gwei", ("sender",)
        )
        self._gas_price = metrics.gauge("suggested_gas_price", "Gas price now, gwei")
        metrics.gauge("min_gas_price", "Lowest gas price assumed, gwei").set(
            min_gas_price_wei / _WEI_PER_GWEI
        )
        if max_gas_price_wei is not None:
            metrics.gauge("max_gas_price", "Gas price above which nothing is sent, gwei").set(
                max_gas_price_wei / _WEI_PER_GWEI
            )
        metrics.at_scrape(self._refresh)
        metrics.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """This node's own names. Called by the registry at each scrape."""
        now = self._summary
        yield _counter("payments", "Payments that were taken", now.num_payments)
        yield _counter("tickets_received", "Tickets that came, good or bad", now.num_tickets)
        yield _counter("tickets_credited", "Tickets that were credited", now.num_credited)
        refused = CounterMetricFamily(
            "lpnode_tickets_refused", "Tickets that were not credited", labels=["reason"]
        )
        for reason, num in now.refused_tickets.items():
            refused.add_metric([reason.value], num)
        yield refused
        winners = [(state.value, total) for state, total in now.winners.items()]
        yield from _ticket_sums("winning_tickets", "Tickets that won", "state", winners)
        losses = [(reason.value, total) for reason, total in now.losses.items()]
        yield from _ticket_sums("lost_tickets", "Winners that were given up", "reason", losses)
        yield _gauge("pending_face_value_gwei", "Won and not paid yet", _gwei(now.pending_wei))
        yield _gauge("paying_senders", "Senders with a balance", now.num_senders)
        yield _gauge("balance_gwei", "Credit that was not used yet", _gwei(now.balance_wei))

    def _refresh(self) -> None:
        now = self._summary = self._read()
        self._value_recv.set(_gwei(int(now.credit_wei)))
        self._tickets_recv.set(now.num_credited)
        self._winning_recv.set(now.num_won)
        for code, num in _reference_codes(now).items():
            self._recv_errors.set(num, error_code=code)
        self._redeemed.set(_gwei(now.payout_wei))
        self._redemption_errors.set(now.num_redemption_errors)
        self._gas_price.set(_gwei(now.gas_price_wei))
        for gauge in (self._max_float, self._face_value):
            gauge.clear()
        for sender, offer in now.offers.items():
            text = checksum_text(sender)
            self._max_float.set(_gwei(offer.max_float_wei), sender=text)
            self._face_value.set(_gwei(offer.face_value_wei), sender=text)


def _reference_codes(now: PaymentSummary) -> dict[str, int]:
    codes = dict.fromkeys((reason.reference_code for reason in RefusalReason), 0)
    for reason, num in now.refused_payments.items():
        codes[reason.reference_code] += num
    return codes


def _ticket_sums(
    name: str, text: str, label: str, sums: Iterable[tuple[str, TicketSum]]
) -> Iterator[Metric]:
    nums = GaugeMetricFamily(f"lpnode_{name}", text, labels=[label])
    values = GaugeMetricFamily(
        f"lpnode_{name}_face_value_gwei", f"{text}: face values", labels=[label]
    )
    for kind, total in sums:
        nums.add_metric([kind], total.num)
        values.add_metric([kind], _gwei(total.face_value_wei))
    yield nums
    yield values


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"lpnode_{name}", text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"lpnode_{name}", text, value)


def _gwei(amount_wei: int) -> float:
    """Prometheus has only floating point; nothing is computed with what comes out here."""
    return amount_wei / _WEI_PER_GWEI
