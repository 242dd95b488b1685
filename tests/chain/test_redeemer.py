"""Won tickets become fees of the recipient, or the contract's reason for declining is known."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from chain.won_tickets import FACE_VALUE, RECIPIENT_RAND, Redemptions, redemptions
from evm import ETHER, Evm

from lpnode.chain.ticket_broker import (
    TICKET_REDEEMED,
    RedeemableTicket,
    batch_redeem_calldata,
)
from lpnode.errors import CallReverted, ChainError, TransactionReverted
from lpnode.payment.ticket import SignedTicket, draw
from lpnode.protocol.ethereum import ZERO_ADDRESS, is_signed_by

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
async def table(evm: Evm) -> AsyncIterator[Redemptions]:
    async with redemptions(evm) as made:
        yield made


def as_redeemable(ticket: SignedTicket) -> RedeemableTicket:
    params = ticket.ticket.params
    return RedeemableTicket(
        recipient=params.recipient,
        sender=ticket.ticket.sender,
        face_value_wei=params.face_value_wei,
        win_prob=params.win_prob,
        sender_nonce=ticket.ticket.nonce,
        recipient_rand_hash=params.recipient_rand_hash,
        aux_data=params.aux_data,
        signature=ticket.signature,
        recipient_rand=int.from_bytes(ticket.recipient_rand),
    )


async def test_a_ticket_is_paid_from_the_deposit(table: Redemptions) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    ticket = table.ticket()
    assert not await table.redeemer.is_used(ticket.ticket.hash)
    redeeming = await table.redeemer.redeem(ticket)
    assert await table.paid(redeeming) == FACE_VALUE
    assert await table.redeemer.is_used(ticket.ticket.hash)
    assert table.evm.pending_fees(table.recipient) == FACE_VALUE
    funds = await table.broker.sender_funds(table.gateway.address, table.recipient)
    assert funds.deposit_wei == ETHER - FACE_VALUE


async def test_the_node_and_the_contract_agree_on_the_hash(table: Redemptions) -> None:
    ticket = table.ticket(nonce=2**32 - 1)
    calldata = as_redeemable(ticket).hash_calldata()
    assert await table.eth.call(table.evm.ticket_broker, calldata) == ticket.ticket.hash


async def test_what_the_deposit_lacks_comes_from_our_share_of_the_reserve(
    table: Redemptions,
) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=FACE_VALUE // 4, reserve_wei=ETHER)
    assert await table.redeemer.claimable_reserve_wei(table.gateway.address) == ETHER // 2
    redeeming = await table.redeemer.redeem(table.ticket())
    assert await table.paid(redeeming) == FACE_VALUE
    claimed = FACE_VALUE - FACE_VALUE // 4
    left = await table.redeemer.claimable_reserve_wei(table.gateway.address)
    assert left == ETHER // 2 - claimed
    funds = await table.broker.sender_funds(table.gateway.address, table.recipient)
    assert (funds.deposit_wei, funds.claimed_by_us_wei) == (0, claimed)
    assert funds.reserve_wei + funds.reserve_claimed_wei == ETHER


async def test_a_payout_may_be_short_or_nothing_and_is_known_to_the_wei(
    table: Redemptions,
) -> None:
    table.evm.fund(table.gateway.address, reserve_wei=FACE_VALUE)
    first = await table.redeemer.redeem(table.ticket(nonce=1))
    assert await table.paid(first) == FACE_VALUE // 2
    second = await table.redeemer.redeem(table.ticket(nonce=2))
    assert await table.paid(second) == 0
    assert await table.redeemer.is_used(table.ticket(nonce=2).ticket.hash)
    assert table.evm.pending_fees(table.recipient) == FACE_VALUE // 2


async def test_the_fees_can_be_withdrawn(table: Redemptions) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    await table.paid(await table.redeemer.redeem(table.ticket()))
    somewhere = table.evm.accounts[5].address
    before = table.evm.balance(somewhere)
    signature = "withdrawFees(address,uint256)"
    table.evm.send(table.recipient, table.evm.bonding_manager, signature, somewhere, FACE_VALUE)
    assert table.evm.balance(somewhere) == before + FACE_VALUE


async def test_a_redemption_under_way_is_not_sent_again(table: Redemptions) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    with table.evm.held_back():
        first = await table.redeemer.redeem(table.ticket())
        again = await table.redeemer.redeem(table.ticket())
        other = await table.redeemer.redeem(table.ticket(nonce=2))
        assert again.tx_hash == first.tx_hash
        assert other.tx_hash != first.tx_hash
        assert table.redeemer.is_under_way(first.tx_hash)
        table.open()
        await table.transactions.resume()
        resumed = await table.redeemer.redeem(table.ticket())
        assert resumed.tx_hash == first.tx_hash
        table.evm.mine()
    assert await table.paid(resumed) == FACE_VALUE
    assert not table.redeemer.is_under_way(first.tx_hash)
    assert table.evm.pending_fees(table.recipient) == 2 * FACE_VALUE


async def test_of_two_transactions_for_one_ticket_the_second_fails(table: Redemptions) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    first = await table.redeemer.redeem(table.ticket())
    assert await table.paid(first) == FACE_VALUE
    with pytest.raises(CallReverted) as declined:
        await table.redeemer.redeem(table.ticket())
    assert declined.value.reason == "ticket is used"
    assert table.evm.pending_fees(table.recipient) == FACE_VALUE


async def test_a_redemption_that_fails_on_the_chain_leaves_the_ticket_unused(
    table: Redemptions,
) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    with table.evm.held_back():
        redeeming = await table.redeemer.redeem(table.ticket())
        # By the time it is mined the round is over.
        table.evm.rpc("anvil_dropAllTransactions")
        table.evm.mine(100)
        await table.eth.send(table.transactions.under_way[0].attempts[0].signed.raw)
        table.evm.mine()
    with pytest.raises(TransactionReverted):
        await table.paid(redeeming)
    assert not await table.redeemer.is_used(table.ticket().ticket.hash)
    table.evm.initialize_round()
    again = await table.redeemer.redeem(table.ticket())
    assert await table.paid(again) == FACE_VALUE


async def test_a_redemption_that_was_reorganised_away_can_be_made_again(own_evm: Evm) -> None:
    async with redemptions(own_evm) as table:
        own_evm.fund(table.gateway.address, deposit_wei=ETHER)
        own_evm.mine(3)
        first = await table.redeemer.redeem(table.ticket())
        assert await table.paid(first) == FACE_VALUE
        own_evm.rpc("anvil_reorg", 1, [])
        assert not await table.redeemer.is_used(table.ticket().ticket.hash)
        assert own_evm.pending_fees(table.recipient) == 0
        again = await table.redeemer.redeem(table.ticket())
        assert await table.paid(again) == FACE_VALUE
        assert own_evm.pending_fees(table.recipient) == FACE_VALUE


def high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])


def unlocked(table: Redemptions) -> SignedTicket:
    table.evm.send(table.gateway.address, table.evm.ticket_broker, "unlock()")
    table.evm.next_round()
    table.round = table.evm.next_round()
    return table.ticket()


def expired(table: Redemptions) -> SignedTicket:
    ticket = table.ticket()
    table.evm.next_round()
    table.evm.next_round()
    return ticket


def paused(table: Redemptions) -> SignedTicket:
    table.evm.send(table.evm.owner.address, table.evm.controller, "pause()")
    return table.ticket()


def uninitialized(table: Redemptions) -> SignedTicket:
    table.evm.mine(100)
    return table.ticket()


def signed_as(change: Callable[[bytes], bytes], table: Redemptions) -> SignedTicket:
    return table.ticket(signature=change(table.ticket().signature))


DECLINED: dict[str, Callable[[Redemptions], SignedTicket]] = {
    "system is paused": paused,
    "current round is not initialized": uninitialized,
    "ticket sender is null address": lambda table: table.ticket(sender=ZERO_ADDRESS),
    "invalid length for ticket auxData: must be 64 bytes": lambda table: table.ticket(
        creation_round=0, creation_round_block_hash=bytes(32)
    ),
    "ticket creationRound does not have a block hash": lambda table: table.ticket(creation_round=5),
    "ticket creationRoundBlockHash invalid for creationRound": lambda table: table.ticket(
        creation_round_block_hash=b"\x01" * 32
    ),
    "ticket is expired": expired,
    "recipientRand does not match recipientRandHash": lambda table: table.ticket(
        recipient_rand=b"\x01" * 32
    ),
    "INVALID_SIGNATURE_LENGTH": partial(signed_as, lambda signature: signature[:64]),
    "ECDSA: invalid signature 's' value": partial(signed_as, high_s),
    "ECDSA: invalid signature 'v' value": partial(
        signed_as, lambda signature: signature[:64] + bytes([signature[64] - 27])
    ),
    "invalid signature over ticket hash": partial(
        signed_as, lambda signature: signature[:64] + bytes([55 - signature[64]])
    ),
    "ticket did not win": lambda table: table.ticket(win_prob=0),
    "sender is unlocked": unlocked,
}


@pytest.mark.parametrize("reason", DECLINED)
async def test_the_contract_declines_before_anything_is_sent(
    table: Redemptions, reason: str
) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    ticket = DECLINED[reason](table)
    with pytest.raises(CallReverted) as declined:
        await table.redeemer.redeem(ticket)
    assert declined.value.reason == reason
    assert table.transactions.under_way == ()
    assert table.store.rows == []


async def test_a_sender_without_any_funds_is_declined(table: Redemptions) -> None:
    with pytest.raises(CallReverted) as declined:
        await table.redeemer.redeem(table.ticket())
    assert declined.value.reason == "sender deposit and reserve are zero"


async def test_a_recipient_that_is_no_orchestrator_cannot_be_paid(table: Redemptions) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    stranger = table.evm.accounts[6].address
    table.open(recipient=stranger)
    with pytest.raises(CallReverted) as declined:
        await table.redeemer.redeem(table.ticket(recipient=stranger))
    assert declined.value.reason == "transcoder must be registered"


async def test_a_ticket_for_another_recipient_is_not_redeemed(table: Redemptions) -> None:
    with pytest.raises(ChainError, match="the ticket pays 0x"):
        await table.redeemer.redeem(table.ticket(recipient=table.evm.accounts[6].address))


async def test_the_draw_decides_alike_here_and_on_the_chain(table: Redemptions) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    for nonce in range(8):
        # Signed over the probability, so the draw is only known afterwards.
        ticket = table.ticket(nonce=nonce, win_prob=2**255)
        drawn = draw(ticket.signature, RECIPIENT_RAND)
        calldata = as_redeemable(ticket).redeem_calldata()
        if drawn < 2**255:
            await table.eth.call(table.evm.ticket_broker, calldata)
        else:
            with pytest.raises(CallReverted, match="ticket did not win"):
                await table.eth.call(table.evm.ticket_broker, calldata)


async def test_the_chain_and_the_node_accept_the_same_signatures(table: Redemptions) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    good = table.ticket().signature
    r, s, v = good[:32], good[32:64], good[64]
    half = (ORDER // 2).to_bytes(32)
    forms = [good, high_s(good), good[:64], good + b"\0", b""]
    forms += [r + s + bytes([other]) for other in (0, 1, 26, 27, 28, 29, 255)]
    for number in (0, 1, ORDER - 1, ORDER, 2**256 - 1):
        forms += [number.to_bytes(32) + s + bytes([v]), r + number.to_bytes(32) + bytes([v])]
    forms += [r + half + bytes([v]), r + (ORDER // 2 + 1).to_bytes(32) + bytes([v])]
    for form in forms:
        ticket = table.ticket(signature=form)
        here = is_signed_by(ticket.ticket.sender, ticket.ticket.digest, form)
        try:
            calldata = as_redeemable(ticket).redeem_calldata()
            await table.eth.call(table.evm.ticket_broker, calldata)
            there = True
        except CallReverted:
            there = False
        assert here == there == (form == good), form.hex()


async def test_one_bad_ticket_does_not_spoil_a_batch(table: Redemptions) -> None:
    table.evm.fund(table.gateway.address, deposit_wei=ETHER)
    tickets = [table.ticket(nonce=1), table.ticket(nonce=2, win_prob=0), table.ticket(nonce=3)]
    calldata = batch_redeem_calldata([as_redeemable(ticket) for ticket in tickets])
    submission = await table.transactions.submit(table.evm.ticket_broker, calldata, gas=3 * 400_000)
    while table.transactions.under_way:
        await table.transactions.poll()
    receipt = await submission.receipt()
    redeemed = [log for log in receipt.logs if log.topics[0] == TICKET_REDEEMED.topic]
    assert [TICKET_REDEEMED.decode(log)["senderNonce"] for log in redeemed] == [1, 3]
    assert table.evm.pending_fees(table.recipient) == 2 * FACE_VALUE
