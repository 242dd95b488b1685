"""Has won tickets tried again: by the node that runs, or in its store when none does."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from lpnode.command.amounts import hash_text
from lpnode.command.node_place import NodePlace
from lpnode.config import Address
from lpnode.errors import NotRetried, PeerGone, StoreInUse
from lpnode.payment.store import PaymentStore
from lpnode.payment.ticket import TicketHash
from lpnode.payment.winning import reopen_winners

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """``by_node``: a running node tries the tickets now; otherwise the next one will.

    ``tickets``: hash, state and reason of each, as the store has them now.
    """

    by_node: bool
    tickets: Sequence[tuple[str, str, str]]


async def retry_tickets(place: NodePlace, ticket_hash: TicketHash | None) -> Retried:
    """``ticket_hash``: None stands for every ticket that is not paid.

    Whoever has the store's lock does it, so that the change is never made behind a node's back.
    Raises: NotRetried: there is no such ticket, or it is paid. PeerGone: a node has the store and
    does not answer at its operator port. ConfigError, StorageFailed.
    """
    try:
        store = PaymentStore(place.store)
    except StoreInUse:
        return Retried(by_node=True, tickets=await _ask_node(place.operator, ticket_hash))
    store.start()
    try:
        changes = await store.write(
            lambda connection: reopen_winners(connection, ticket_hash, time.time())
        )
    finally:
        await store.close()
    tickets = [(hash_text(now.hash), now.state.value, now.reason) for _, now in changes]
    return Retried(by_node=False, tickets=tickets)


async def _ask_node(
    operator: Address, ticket_hash: TicketHash | None
) -> Sequence[tuple[str, str, str]]:
    # An operator port on all interfaces is on loopback too.
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(operator.host, operator.host)
    address = Address(host=host, port=operator.port)
    form = {"hash": "all" if ticket_hash is None else hash_text(ticket_hash)}
    try:
        async with (
            asyncio.timeout(_TIMEOUT_S),
            aiohttp.ClientSession() as http,
            http.post(f"http://{address}/tickets/retry", data=form) as response,
        ):
            text = await response.text()
            if response.status != 200:
                raise NotRetried(f"the node at {address} answers: {text.strip()}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise PeerGone(
            f"a node has the payment store, but does not answer at {address}: "
            f"{str(error) or f'nothing within {_TIMEOUT_S:g} s'}; give -cliAddr as the node has it"
        ) from error
    try:
        document: dict[str, Any] = json.loads(text)
        return [(each["hash"], each["state"], each["reason"]) for each in document["tickets"]]
    except (ValueError, KeyError, TypeError) as error:
        raise PeerGone(f"what answers at {address} is not a node of this release") from error
