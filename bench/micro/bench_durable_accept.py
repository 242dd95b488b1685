"""How long until a payment of 100 tickets is on the disk and acknowledged, for a known sender?

Baseline: one durable commit of one row to the same store, which is what the disk itself takes.
The difference is ours: decoding, MAC, signatures, draws, 100 nonces and the credit.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from paying_gateway import GATEWAY, PRICE, PaymentBench, pay
from pytest_benchmark.fixture import BenchmarkFixture

from lpnode.payment.facts import set_fact
from lpnode.payment.payments import Payments
from lpnode.payment.recipient import Receipt
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import encode_message
from lpnode.protocol.payment_header import parse_payment

NUM_TICKETS = 100
NUM_ROUNDS = 200


@dataclass
class Till:
    runner: asyncio.Runner
    payments: Payments
    num_commits: int = 0

    def header(self) -> str:
        """A new payment, as it comes over the wire."""

        async def make() -> pb.Payment:
            params = await self.payments.recipient.ticket_params(GATEWAY.address, PRICE)
            return pay(params, range(NUM_TICKETS))

        return encode_message(self.runner.run(make()))

    def accept(self, header: str) -> Receipt:
        return self.runner.run(self.payments.recipient.receive(parse_payment(header), "manifest"))

    def commit(self) -> None:
        # Another value each time: the same one again would not be written at all.
        self.num_commits += 1
        value = self.num_commits
        self.runner.run(self.payments.store.write(lambda c: set_fact(c, "bench", value)))


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        payments = runner.run(stack.enter_async_context(PaymentBench(tmp_path).running()))
        yield Till(runner, payments)
        runner.run(stack.aclose())


@pytest.mark.benchmark(group="acknowledge 100 tickets durably")
def bench_accept(benchmark: BenchmarkFixture, till: Till) -> None:
    for _ in range(3):
        till.accept(till.header())
    receipt = benchmark.pedantic(
        till.accept, setup=lambda: ((till.header(),), {}), rounds=NUM_ROUNDS
    )
    assert receipt.num_credited == NUM_TICKETS


@pytest.mark.benchmark(group="acknowledge 100 tickets durably")
def bench_commit_of_one_row(benchmark: BenchmarkFixture, till: Till) -> None:
    benchmark.pedantic(till.commit, rounds=NUM_ROUNDS)
    assert till.num_commits >= 1
