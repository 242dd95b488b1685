"""Calldata, return data and logs as the deployed contracts have them (vectors ``abi``)."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payment_vectors import VECTORS, raw

from lpnode.chain import bonding, controller, price_feed, rounds, service_registry, ticket_broker
from lpnode.chain.abi import Event, Function
from lpnode.chain.eth import Log
from lpnode.chain.ticket_broker import RedeemableTicket
from lpnode.errors import ChainError, InvalidArgument
from lpnode.protocol.ethereum import Address

ABI = VECTORS["abi"]
MODULES = (bonding, controller, price_feed, rounds, service_registry, ticket_broker)
FUNCTIONS = {
    item.signature: item
    for module in MODULES
    for item in vars(module).values()
    if isinstance(item, Function)
}
EVENTS = {
    item.signature: item
    for module in MODULES
    for item in vars(module).values()
    if isinstance(item, Event)
}
CALLDATA = {item["name"]: item for item in ABI["calldata"]}


def redeemable(sender_nonce: int = 1, signature: str | None = None) -> RedeemableTicket:
    vector = CALLDATA["redeemWinningTicket"]
    ticket = vector["ticket"]
    return RedeemableTicket(
        recipient=Address(raw(ticket["recipient"])),
        sender=Address(raw(ticket["sender"])),
        face_value_wei=int(ticket["faceValue"]),
        win_prob=int(ticket["winProb"]),
        sender_nonce=sender_nonce,
        recipient_rand_hash=raw(ticket["recipientRandHash"]),
        aux_data=raw(ticket["auxData"]),
        signature=raw(signature or vector["sig"]),
        recipient_rand=int(vector["recipientRand"]),
    )


def test_every_function_has_the_deployed_selector() -> None:
    known = {
        item["signature"]: item["selector"] for items in ABI["functions"].values() for item in items
    }
    assert len(FUNCTIONS) > 25
    for signature, function in FUNCTIONS.items():
        assert "0x" + function.selector.hex() == known[signature], signature


def test_every_event_has_the_deployed_topic() -> None:
    known = {
        item["signature"]: item["topic0"] for items in ABI["events"].values() for item in items
    }
    assert len(EVENTS) >= 12
    for signature, event in EVENTS.items():
        assert "0x" + event.topic.hex() == known[signature], signature


@pytest.mark.parametrize("vector", ABI["contract_ids"], ids=lambda vector: vector["name"])
def test_contract_ids(vector: dict[str, Any]) -> None:
    assert "0x" + controller.contract_id(vector["name"]).hex() == vector["id"]


def test_default_addresses_are_the_known_deployments() -> None:
    known = VECTORS["contract_addresses"]
    arbitrum = known["arbitrum-one-mainnet"]
    assert controller.CONTROLLERS[42161] == raw(arbitrum["Controller"])
    assert controller.CONTROLLERS[1] == raw(known["mainnet (L1)"]["Controller"])
    registry = arbitrum["AIServiceRegistry (flag override)"]
    assert raw(registry) == controller.AI_SERVICE_REGISTRY
    assert raw(arbitrum["ETH/USD price feed (default flag)"]) == price_feed.DEFAULT_PRICE_FEED


def test_calldata_that_redeems_a_ticket() -> None:
    vector = CALLDATA["redeemWinningTicket"]
    assert "0x" + redeemable().redeem_calldata().hex() == vector["calldata"]
    assert "0x" + redeemable().hash_calldata().hex() == CALLDATA["getTicketHash"]["calldata"]


def test_calldata_that_redeems_several_tickets() -> None:
    wanted = CALLDATA["batchRedeemWinningTickets (2 tickets)"]["calldata"]
    word = 64
    second_signature = wanted[wanted.rindex(f"{65:0{word}x}") + word :][: 2 * 65]
    tickets = [redeemable(1), redeemable(2, second_signature)]
    assert "0x" + ticket_broker.batch_redeem_calldata(tickets).hex() == wanted


@pytest.mark.parametrize(
    ("name", "function", "arguments"),
    [
        ("getSenderInfo", ticket_broker.GET_SENDER_INFO, ["sender"]),
        ("claimedReserve", ticket_broker.CLAIMED_RESERVE, ["sender", "recipient"]),
    ],
)
def test_calldata_with_addresses(name: str, function: Function, arguments: list[str]) -> None:
    ticket = CALLDATA["redeemWinningTicket"]["ticket"]
    encoded = function.encode(*(raw(ticket[argument]) for argument in arguments))
    assert "0x" + encoded.hex() == CALLDATA[name]["calldata"]


def test_other_calldata() -> None:
    ticket_hash = raw(CALLDATA["redeemWinningTicket"]["ticket_hash"])
    made = {
        "usedTickets": ticket_broker.USED_TICKETS.encode(ticket_hash),
        "getContract(TicketBroker)": controller.GET_CONTRACT.encode(
            controller.contract_id("TicketBroker")
        ),
        "blockHashForRound(3500)": rounds.BLOCK_HASH_FOR_ROUND.encode(3500),
        "setServiceURI": service_registry.SET_SERVICE_URI.encode(CALLDATA["setServiceURI"]["uri"]),
    }
    for name, calldata in made.items():
        assert "0x" + calldata.hex() == CALLDATA[name]["calldata"], name


def test_a_senders_funds_are_four_words() -> None:
    vector = CALLDATA["getSenderInfo"]
    decoded = ticket_broker.GET_SENDER_INFO.decode(raw(vector["return_example"]))
    assert [str(value) for value in decoded] == list(vector["return_decoded"].values())


def as_log(vector: dict[str, Any]) -> Log:
    return Log(
        address=Address(bytes(20)),
        topics=tuple(map(raw, vector["topics"])),
        data=raw(vector["data"]),
        block_number=1,
        block_hash=bytes(32),
        transaction_hash=bytes(32),
        index=0,
    )


@pytest.mark.parametrize("vector", ABI["logs"], ids=lambda vector: vector["event"])
def test_logs_decode_as_given(vector: dict[str, Any]) -> None:
    event = next(event for event in EVENTS.values() if event.name == vector["event"])
    decoded = event.decode(as_log(vector))
    assert list(decoded) == list(vector["decoded"])
    shown = {
        name: "0x" + value.hex() if isinstance(value, bytes) else str(value)
        for name, value in decoded.items()
    }
    assert shown == vector["decoded"]


def test_a_log_of_another_event_is_an_error() -> None:
    log = as_log(ABI["logs"][0])
    with pytest.raises(ChainError, match="not a log of Unlock"):
        ticket_broker.UNLOCK.decode(log)


def test_a_value_too_large_for_its_type_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidArgument, match="blockHashForRound"):
        rounds.BLOCK_HASH_FOR_ROUND.encode(2**256)


def test_nothing_returned_means_no_contract() -> None:
    with pytest.raises(ChainError, match="no such contract"):
        ticket_broker.GET_SENDER_INFO.decode(b"")


@given(st.binary(max_size=600))
def test_bytes_of_any_kind_decode_or_are_an_error(returned: bytes) -> None:
    for function in (service_registry.GET_SERVICE_URI, bonding.GET_TRANSCODER, price_feed.DECIMALS):
        with contextlib.suppress(ChainError):
            function.decode(returned)
