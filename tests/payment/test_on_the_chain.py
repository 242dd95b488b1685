"""Won tickets on a real EVM: what the contract pays is what the ledger says, to the wei."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from evm import CHAIN_ID, ETHER, Evm, EvmAccount
from paying_gateway import PRICE, pay

from lpnode.chain.controller import resolve
from lpnode.chain.eth import Eth
from lpnode.chain.events import Changes
from lpnode.chain.gas_price import GasPrice, GasPriceConfig
from lpnode.chain.redeemer import Redeemer
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.signer import LocalSigner
from lpnode.chain.state import ChainState, ChainStateConfig, changed_senders
from lpnode.chain.transactions import Transactions, TransactionsConfig
from lpnode.errors import TicketRejected
from lpnode.payment.attempts import Attempts
from lpnode.payment.balance import BalanceKey
from lpnode.payment.params import InsufficientReserve, PricingConfig
from lpnode.payment.payments import Payments, PaymentsConfig
from lpnode.payment.recipient import RecipientConfig
from lpnode.payment.redeem import Redemption, RedemptionConfig
from lpnode.payment.winning import Winner
from lpnode.protocol.ethereum import Account

MANIFEST = "8badf00d"
OFTEN_WON = PricingConfig(ev_wei=ETHER // 20, redeem_gas=1_000_000)
"""Face value about 0.1 ether at the test chain's gas price: about half of the tickets win."""


@dataclass
class OnChain:
    """A node's payments against the test chain, with what a test does to both."""

    evm: Evm
    state: ChainState
    payments: Payments
    transactions: Transactions
    redeemer: Redeemer
    redemption: Redemption
    gateway: EvmAccount
    recipient: EvmAccount

    async def win(self, num_tickets: int) -> list[Winner]:
        """Has the gateway pay until it has lost as many tickets; returns them."""
        params = await self.payments.recipient.ticket_params(self.gateway.address, PRICE)
        account = Account(self.gateway.private_key)
        nonce = 0
        while len(self.payments.winners) < num_tickets:
            nonce += 1
            payment = pay(params, [nonce], account=account)
            # A winner is kept even if the sender has no funds for another one.
            with suppress(TicketRejected):
                await self.payments.recipient.receive(payment, MANIFEST)
        return self.payments.winners.open()

    async def expire(self) -> None:
        """Lets the parameters of before run out."""
        self.evm.mine(40)
        await self.state.poll()

    async def redeem(self) -> None:
        """Looks at every winner once, and waits for the transactions."""
        watching = asyncio.create_task(self.transactions.run())
        try:
            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                self.redemption.begin_due(tasks)
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def rows(self) -> list[tuple[bytes, str, int]]:
        """Hash, state and payout of every winner on disk."""
        rows = await self.payments.store.write(
            lambda c: c.execute("SELECT ticket_hash, state, payout FROM winners").fetchall()
        )
        return [(row[0], row[1], int.from_bytes(row[2] or b"")) for row in rows]


def hear(payments: Payments, changes: Changes) -> None:
    """What the chain tells of senders puts what is known of them in doubt."""
    senders = changed_senders(changes)
    if senders is None:
        payments.senders.doubt_all()
    else:
        for sender in senders:
            payments.senders.doubt(sender)


@asynccontextmanager
async def on_chain(evm: Evm, folder: Path) -> AsyncIterator[OnChain]:
    gateway, recipient = evm.accounts[0], evm.accounts[1]
    async with JsonRpc(RpcConfig(urls=(evm.url,), chain_id=CHAIN_ID)) as rpc:
        eth = Eth(rpc)
        gas_price = GasPrice(eth, GasPriceConfig())
        state = ChainState(
            eth,
            await resolve(eth, evm.controller),
            recipient.address,
            gas_price,
            ChainStateConfig(),
        )
        await state.start()
        payments = Payments(
            PaymentsConfig(
                path=folder / "payments.db",
                chain_id=CHAIN_ID,
                recipient=RecipientConfig(recipient=recipient.address, pricing=OFTEN_WON),
            ),
            chain=state,
            reader=state,
        )
        state.subscribe(lambda changes: hear(payments, changes))
        async with payments.opened():
            transactions = Transactions(
                eth,
                LocalSigner(recipient.private_key),
                gas_price,
                Attempts(payments.store),
                TransactionsConfig(poll_s=0.02),
                chain_id=CHAIN_ID,
            )
            await transactions.resume()
            redeemer = Redeemer(state.broker, transactions, recipient.address)
            redemption = payments.redemption(
                RedemptionConfig(
                    redeem_gas=OFTEN_WON.redeem_gas, last_blocks=10, retry_s=0.01, settle_s=0.1
                ),
                chain=state,
                redeemer=redeemer,
            )
            yield OnChain(
                evm, state, payments, transactions, redeemer, redemption, gateway, recipient
            )


def prepare(evm: Evm, *, deposit_wei: int = 10 * ETHER, reserve_wei: int = 10 * ETHER) -> None:
    """An orchestrator in the pool, a gateway with funds."""
    evm.activate(evm.accounts[1].address)
    evm.fund(evm.accounts[0].address, deposit_wei=deposit_wei, reserve_wei=reserve_wei)
    evm.next_round()


async def test_the_contract_pays_what_the_ledger_says(evm: Evm, tmp_path: Path) -> None:
    prepare(evm)
    async with on_chain(evm, tmp_path) as node:
        winners = await node.win(3)
        await node.redeem()
        assert {state for _, state, _ in await node.rows()} == {"stored"}
        assert evm.pending_fees(node.recipient.address) == 0
        await node.expire()
        await node.redeem()
        rows = await node.rows()
        assert {state for _, state, _ in rows} == {"confirmed"}
        face_value = winners[0].face_value_wei
        assert {payout for _, _, payout in rows} == {face_value}
        assert evm.pending_fees(node.recipient.address) == 3 * face_value
        funds = await node.state.sender_funds(node.gateway.address)
        await node.state.poll()
        funds = await node.state.sender_funds(node.gateway.address)
        assert funds.deposit_wei == 10 * ETHER - 3 * face_value
        credit = node.payments.balances.get(BalanceKey(node.gateway.address, MANIFEST))
        paid = await node.payments.store.write(
            lambda c: [Fraction(row[0]) for row in c.execute("SELECT credit FROM payments")]
        )
        assert credit == sum(paid)


async def test_winners_and_transactions_survive_a_restart(evm: Evm, tmp_path: Path) -> None:
    """D4, and a transaction that was sent before the process ended is not sent again."""
    prepare(evm)
    async with on_chain(evm, tmp_path) as node:
        (winner,) = await node.win(1)
        await node.expire()
        with evm.held_back():
            redeeming = asyncio.create_task(node.redemption.run())
            async with asyncio.timeout(10):
                while not node.transactions.under_way:  # noqa: ASYNC110 nobody announces it
                    await asyncio.sleep(0.01)
            redeeming.cancel()
            await asyncio.wait([redeeming])
    evm.mine()
    async with on_chain(evm, tmp_path) as node:
        await node.redeem()
        # What it paid is known, though nobody waited for it when it was mined.
        assert await node.rows() == [(winner.hash, "confirmed", winner.face_value_wei)]
        assert evm.pending_fees(node.recipient.address) == winner.face_value_wei


async def test_a_redemption_that_was_sent_and_not_noted_is_booked_after_a_restart(
    evm: Evm, tmp_path: Path
) -> None:
    """As when the process is killed between the two."""
    prepare(evm)
    async with on_chain(evm, tmp_path) as node:
        (winner,) = await node.win(1)
        await node.expire()
        with evm.held_back():
            await node.redeemer.redeem(winner.signed)
    evm.mine()
    async with on_chain(evm, tmp_path) as node:
        assert [winner.tx_hash for winner in node.payments.winners.open()] == [None]
        # The chain has settled it before anybody looks at the ticket.
        await node.transactions.poll()
        assert not node.transactions.under_way
        await node.redeem()
        assert await node.rows() == [(winner.hash, "confirmed", winner.face_value_wei)]


async def test_a_payout_that_would_be_short_is_held_until_the_end(evm: Evm, tmp_path: Path) -> None:
    """D6: the gateway's deposit pays others before us; our share of its reserve is left."""
    prepare(evm, deposit_wei=0, reserve_wei=ETHER)
    async with on_chain(evm, tmp_path) as node:
        winners = await node.win(12)
        face_value = winners[0].face_value_wei
        assert 12 * face_value > ETHER
        await node.expire()
        expected = ETHER // face_value
        async with asyncio.timeout(30):
            while [state for _, state, _ in await node.rows()].count("confirmed") < expected:
                await node.state.poll()
                await node.redeem()
        await asyncio.sleep(0.2)
        await node.redeem()
        payouts = [payout for _, state, payout in await node.rows() if state == "confirmed"]
        assert payouts == [face_value] * expected
        assert evm.pending_fees(node.recipient.address) == expected * face_value


async def test_a_sender_that_unlocks_is_refused_from_the_block_that_tells(
    evm: Evm, tmp_path: Path
) -> None:
    """R11: heard of through the contract's event, not after a time."""
    prepare(evm)
    async with on_chain(evm, tmp_path) as node:
        params = await node.payments.recipient.ticket_params(node.gateway.address, PRICE)
        account = Account(node.gateway.private_key)
        await node.payments.recipient.receive(pay(params, [1], account=account), MANIFEST)
        evm.send(node.gateway.address, evm.ticket_broker, "unlock()")
        evm.next_round()
        await node.state.poll()
        with pytest.raises(TicketRejected, match="is set to unlock soon"):
            await node.payments.recipient.receive(pay(params, [2], account=account), MANIFEST)


async def test_a_sender_that_funds_its_reserve_is_quoted_from_that_block_on(
    evm: Evm, tmp_path: Path
) -> None:
    prepare(evm, deposit_wei=ETHER, reserve_wei=0)
    async with on_chain(evm, tmp_path) as node:
        with pytest.raises(InsufficientReserve):
            await node.payments.recipient.ticket_params(node.gateway.address, PRICE)
        evm.fund(node.gateway.address, reserve_wei=ETHER)
        await node.state.poll()
        assert (await node.payments.recipient.ticket_params(node.gateway.address, PRICE)).win_prob
