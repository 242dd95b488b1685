"""What does a payment of 100 tickets cost us that we refuse, in time on one core?

Baseline: the same number of valid new tickets from the same known sender, durably accepted. What
is refused early must cost little; a bad signature costs a recovery, as it does in the reference.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from paying_gateway import GATEWAY, PRICE, PaymentBench, pay
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.errors import TicketRejected
from lpnode.payment.payments import Payments
from lpnode.protocol import lp_rpc_pb2 as pb

NUM_TICKETS = 100
NUM_ROUNDS = 100
KNOWN_AFTER = 5


@dataclass
class Gateway:
    runner: asyncio.Runner
    payments: Payments

    def payment(self) -> pb.Payment:
        """Of new tickets over new parameters."""
        params = self.runner.run(self.payments.recipient.ticket_params(GATEWAY.address, PRICE))
        return pay(params, range(NUM_TICKETS))

    def send(self, payment: pb.Payment) -> str:
        """Returns why it was refused, empty if it was not."""
        try:
            self.runner.run(self.payments.recipient.receive(payment, "manifest"))
        except TicketRejected as error:
            return str(error)
        return ""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        payments = runner.run(stack.enter_async_context(PaymentBench(tmp_path).running()))
        gateway = Gateway(runner, payments)
        for _ in range(KNOWN_AFTER):
            gateway.send(gateway.payment())
        yield gateway
        runner.run(stack.aclose())


def accepted(gateway: Gateway) -> Callable[[], pb.Payment]:
    return gateway.payment


def replayed(gateway: Gateway) -> Callable[[], pb.Payment]:
    payment = gateway.payment()
    gateway.send(payment)
    return lambda: payment


def with_bad_signatures(gateway: Gateway) -> Callable[[], pb.Payment]:
    payment = gateway.payment()
    for ticket in payment.ticket_sender_params:
        ticket.sig = bytes([ticket.sig[0] ^ 1]) + ticket.sig[1:]
    return lambda: payment


def over_changed_terms(gateway: Gateway) -> Callable[[], pb.Payment]:
    payment = gateway.payment()
    payment.ticket_params.seed = b"\1"
    return lambda: payment


@pytest.mark.benchmark(group="refuse 100 tickets")
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (accepted, ""),
        (replayed, "invalid ticket senderNonce: already seen"),
        (with_bad_signatures, "invalid ticket signature"),
        (over_changed_terms, "invalid recipientRand for ticket recipientRandHash"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def bench_payment(
    benchmark: BenchmarkFixture,
    gateway: Gateway,
    kind: Callable[[Gateway], Callable[[], pb.Payment]],
    answer: str,
) -> None:
    make = kind(gateway)
    said = benchmark.pedantic(gateway.send, setup=lambda: ((make(),), {}), rounds=NUM_ROUNDS)
    assert said.startswith(answer)
    assert bool(said) == bool(answer)
