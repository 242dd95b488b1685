"""Parameters for senders, and what is known of their funds. Source: payments.md 1.8 and 3."""

import asyncio
from fractions import Fraction

import pytest
from paying_gateway import (
    ETH,
    GATEWAY,
    PRICE,
    ChainInMemory,
    Funds,
    PaymentBench,
    pay,
)
from payment.receiving import KEY, MANIFEST, OFTEN_WON, params_for, refused

from lpnode.errors import ChainError, Refused
from lpnode.payment.params import InsufficientReserve
from lpnode.payment.senders import Senders, SendersConfig
from lpnode.protocol.ethereum import Address


async def test_parameters_for_a_price_of_zero_cost_no_look_at_the_sender(
    bench: PaymentBench,
) -> None:
    """C6."""
    bench.chain.is_reachable = False
    async with bench.running() as payments:
        params = await params_for(payments, Fraction(0))
    assert (params.face_value_wei, params.win_prob) == (0, 0)
    assert (params.creation_round, params.creation_round_block_hash) == (3500, b"\x35" * 32)
    assert params.expiration_block == 140
    assert params.seed


async def test_a_sender_without_reserve_gets_no_parameters(bench: PaymentBench) -> None:
    bench.chain.funds[GATEWAY.address] = Funds(deposit_wei=ETH, reserve_wei=0)
    async with bench.running() as payments:
        with pytest.raises(InsufficientReserve, match="insufficient sender reserve"):
            await params_for(payments)
        assert (await params_for(payments, Fraction(0))).face_value_wei == 0


async def test_wins_count_against_the_senders_funds_until_redeemed(bench: PaymentBench) -> None:
    """A sender cannot win more than it can pay within one lifetime of parameters."""
    bench.pricing = OFTEN_WON
    bench.chain.pool_size = 1
    bench.chain.funds[GATEWAY.address] = Funds(deposit_wei=0, reserve_wei=3 * 12 * 10**14)
    async with bench.running() as payments:
        params = await params_for(payments)
        receive = payments.recipient.receive
        nonce = 0
        while payments.winners.pending_wei(GATEWAY.address) < 3 * params.face_value_wei:
            nonce += 1
            await receive(pay(params, [nonce]), MANIFEST)
        credit = payments.balances.get(KEY)
        text = await refused(receive(pay(params, [nonce + 1]), MANIFEST))
        assert text == "insufficient sender reserve"
        assert payments.balances.get(KEY) == credit
        with pytest.raises(InsufficientReserve):
            await params_for(payments)


async def test_a_round_without_hash_is_not_quoted(bench: PaymentBench) -> None:
    """D9."""
    bench.chain.round_hashes[3500] = bytes(32)
    async with bench.running() as payments:
        params = await params_for(payments)
        assert (params.creation_round, params.creation_round_block_hash) == (3499, b"\x34" * 32)
        bench.chain.round_hashes[3499] = bytes(32)
        with pytest.raises(Refused, match="no block hash"):
            await params_for(payments)
        assert (await params_for(payments, Fraction(0))).face_value_wei == 0


async def test_the_round_before_stands_in_only_while_its_tickets_can_still_be_redeemed(
    bench: PaymentBench,
) -> None:
    """D9: they cannot any more when the present round is over; payments.md section 4.3."""
    bench.chain.round_hashes[3500] = bytes(32)
    async with bench.running() as payments:
        bench.chain.num_round_blocks_left = 81
        assert (await params_for(payments)).creation_round == 3499
        bench.chain.num_round_blocks_left = 80
        with pytest.raises(Refused, match="no block hash"):
            await params_for(payments)
        assert (await params_for(payments, Fraction(0))).creation_round == 3499
        # The next round has come, and nobody has begun it.
        bench.chain.num_round_blocks_left, bench.chain.is_round_initialized = 5000, False
        with pytest.raises(Refused, match="no block hash"):
            await params_for(payments)


async def test_parameters_are_good_for_forty_blocks_and_differ_each_time(
    bench: PaymentBench,
) -> None:
    """R17."""
    async with bench.running() as payments:
        first, second = [await params_for(payments) for _ in range(2)]
    assert first.expiration_block == second.expiration_block == 140
    assert first.recipient_rand_hash != second.recipient_rand_hash


async def test_senders_are_read_once_while_nothing_happens_to_them(bench: PaymentBench) -> None:
    async with bench.running() as payments:
        await asyncio.gather(*(params_for(payments) for _ in range(20)))
        assert bench.chain.num_reads == 1
        payments.senders.doubt(GATEWAY.address)
        await asyncio.gather(*(params_for(payments) for _ in range(20)))
        assert bench.chain.num_reads == 2


async def test_an_outage_of_the_chain_does_not_turn_known_senders_away(
    bench: PaymentBench,
) -> None:
    async with bench.running() as payments:
        await params_for(payments)
        bench.chain.is_reachable = False
        payments.senders.doubt_all()
        params = await params_for(payments)
        assert (await payments.recipient.receive(pay(params, [1]), MANIFEST)).num_credited == 1
        bench.now_ns += 900 * 10**9
        with pytest.raises(ChainError):
            await params_for(payments)
        num_reads = bench.chain.num_reads
        with pytest.raises(ChainError):
            await params_for(payments)
        assert bench.chain.num_reads == num_reads


async def test_strangers_cannot_make_the_node_flood_the_chain(bench: PaymentBench) -> None:
    """payments.md section 9.6."""
    at_once = most = 0
    read = bench.chain.sender_funds

    async def counted(sender: Address) -> Funds:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return await read(sender)

    bench.chain.sender_funds = counted  # type: ignore[method-assign]
    async with bench.running() as payments:
        await asyncio.gather(
            *(
                payments.recipient.ticket_params(Address(bytes([n]) * 20), PRICE)
                for n in range(1, 100)
            )
        )
    assert most == payments.config.senders.max_reads
    assert bench.chain.num_reads == 99


async def test_payments_do_not_wait_for_what_strangers_make_the_node_read(
    bench: PaymentBench,
) -> None:
    """Anybody can make up addresses; a sender that has funds is read beside them."""
    is_reading, may_answer = asyncio.Event(), asyncio.Event()
    read = bench.chain.sender_funds

    async def slow_for_strangers(sender: Address) -> Funds:
        if sender != GATEWAY.address:
            is_reading.set()
            await may_answer.wait()
            return Funds(deposit_wei=0, reserve_wei=0)
        return await read(sender)

    bench.chain.sender_funds = slow_for_strangers  # type: ignore[method-assign]
    async with bench.running() as payments:
        params = await params_for(payments)
        strangers = [
            asyncio.create_task(payments.recipient.ticket_params(Address(n.to_bytes(20)), PRICE))
            for n in range(1, 200)
        ]
        await is_reading.wait()
        payments.senders.doubt_all()
        async with asyncio.timeout(20):
            receipt = await payments.recipient.receive(pay(params, [1]), MANIFEST)
        assert receipt.num_credited == 1
        assert not any(stranger.done() for stranger in strangers)
        may_answer.set()
        outcomes = await asyncio.gather(*strangers, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {InsufficientReserve}


async def test_strangers_take_no_more_memory_than_there_is_for_them() -> None:
    chain = ChainInMemory()
    senders = Senders(SendersConfig(max_senders=10), chain, now_s=lambda: 0.0)
    await senders.funds(GATEWAY.address)
    for n in range(1, 100):
        await senders.funds(Address(n.to_bytes(20)))
        await senders.funds(GATEWAY.address)
        assert len(senders) <= 10
    assert chain.num_reads == 100
