"""A gateway pays with real tickets and the winners reach the recipient's fees, to the wei."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from chain.won_tickets import redemptions
from evm import CHAIN_ID, ETHER, Evm
from paying_gateway import PRICE, pay

from lpnode.chain.controller import resolve
from lpnode.chain.gas_price import GasPrice, GasPriceConfig
from lpnode.chain.state import ChainState, ChainStateConfig
from lpnode.payment.params import PricingConfig
from lpnode.payment.payments import Payments, PaymentsConfig
from lpnode.payment.recipient import RecipientConfig
from lpnode.payment.redeem import RedemptionConfig
from lpnode.payment.winner_state import WinnerState

LIFETIME_BLOCKS = 40
FINAL_AFTER_BLOCKS = 200


async def test_what_a_gateway_paid_is_redeemed_and_final(evm: Evm, tmp_path: Path) -> None:
    async with redemptions(evm) as table:
        evm.fund(table.gateway.address, deposit_wei=ETHER, reserve_wei=ETHER)
        state = ChainState(
            table.eth,
            await resolve(table.eth, evm.controller),
            table.recipient,
            GasPrice(table.eth, GasPriceConfig()),
            ChainStateConfig(),
        )
        await state.start()
        pricing = PricingConfig(ev_wei=10**15, max_face_value_wei=4 * 10**15)
        payments = Payments(
            PaymentsConfig(
                path=tmp_path / "payments.db",
                chain_id=CHAIN_ID,
                recipient=RecipientConfig(recipient=table.recipient, pricing=pricing),
            ),
            chain=state,
            reader=state,
        )
        redemption = payments.redemption(
            RedemptionConfig(poll_s=0.01, retry_s=0.05, final_s=0.05, redeem_gas=400_000),
            chain=state,
            redeemer=table.redeemer,
        )
        async with payments.opened():
            params = await payments.recipient.ticket_params(table.gateway.address, PRICE)
            receipt = await payments.recipient.receive(
                pay(params, range(1, 31), account=table.gateway), "manifest"
            )
            assert receipt.num_credited == 30
            won = payments.winners.open()
            assert 0 < len(won) < 30
            evm.mine(LIFETIME_BLOCKS)
            async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
                running = [
                    tasks.create_task(redemption.run()),
                    tasks.create_task(_watch(table.transactions.poll)),
                    tasks.create_task(_watch(state.poll)),
                ]
                await _until(lambda: are_all(payments, WinnerState.CONFIRMED))
                payouts = [winner.payout_wei for winner in payments.winners.open()]
                assert payouts == [params.face_value_wei] * len(won)
                assert evm.pending_fees(table.recipient) == sum(map(int, payouts))
                evm.mine(FINAL_AFTER_BLOCKS)
                await _until(lambda: not payments.winners.open())
                for task in running:
                    task.cancel()
            # Funds are those of the block that was read last.
            await state.poll()
            funds = await state.sender_funds(table.gateway.address)
            assert funds.deposit_wei == ETHER - len(won) * params.face_value_wei


def are_all(payments: Payments, state: WinnerState) -> bool:
    return all(winner.state is state for winner in payments.winners.open())


async def _until(is_reached: Callable[[], bool]) -> None:
    while True:
        if is_reached():
            return
        await asyncio.sleep(0.01)


async def _watch(poll: Callable[[], Awaitable[None]]) -> None:
    while True:
        await poll()
        await asyncio.sleep(0.01)
