"""Tickets that win on the test chain, and a node's account that redeems them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chain.submissions import Submissions
from evm import CHAIN_ID, ETHER, Evm

from lpnode.chain.eth import Eth
from lpnode.chain.gas_price import GasPrice, GasPriceConfig
from lpnode.chain.redeemer import Redeemer, Redeeming
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.signer import LocalSigner
from lpnode.chain.ticket_broker import TicketBroker
from lpnode.chain.transactions import Transactions, TransactionsConfig
from lpnode.payment.ticket import (
    MAX_WIN_PROB,
    SignedTicket,
    Ticket,
    TicketParams,
    recipient_rand_hash,
)
from lpnode.protocol.ethereum import Account, Address, Signature

RECIPIENT_RAND = b"\x5a" * 32
FACE_VALUE = ETHER // 10


class Redemptions:
    """A gateway's account, an active recipient, and a third account that pays for gas."""

    def __init__(self, evm: Evm, eth: Eth) -> None:
        self.evm = evm
        self.eth = eth
        self.gateway = Account(evm.accounts[0].private_key)
        self.recipient = evm.accounts[1].address
        self.payer = evm.accounts[2]
        self.store = Submissions()
        self.broker = TicketBroker(eth, evm.ticket_broker)
        self.open()
        evm.activate(self.recipient)
        evm.activate(evm.accounts[3].address)
        self.round = evm.next_round()

    def open(self, recipient: Address | None = None) -> None:
        """As at the start of the process."""
        self.transactions = Transactions(
            self.eth,
            LocalSigner(self.payer.private_key),
            GasPrice(self.eth, GasPriceConfig()),
            self.store,
            TransactionsConfig(),
            chain_id=CHAIN_ID,
        )
        self.redeemer = Redeemer(self.broker, self.transactions, recipient or self.recipient)

    def round_hash(self, number: int) -> bytes:
        """The hash that the chain keeps for a round."""
        return self.evm.call(self.evm.rounds_manager, "blockHashForRound(uint256)", number)

    def ticket(
        self,
        *,
        nonce: int = 1,
        sender: Address | None = None,
        signature: bytes | None = None,
        recipient_rand: bytes = RECIPIENT_RAND,
        **terms: Any,
    ) -> SignedTicket:
        """One that wins, of the current round, with ``terms`` changed and then signed."""
        wanted = {
            "recipient": self.recipient,
            "face_value_wei": FACE_VALUE,
            "win_prob": MAX_WIN_PROB,
            "recipient_rand_hash": recipient_rand_hash(RECIPIENT_RAND),
            "seed": 0,
            "expiration_block": 0,
            "creation_round": self.round,
            "creation_round_block_hash": self.round_hash(self.round),
        }
        params = TicketParams(**(wanted | terms))
        own = Ticket(params, sender or self.gateway.address, nonce)
        signed = self.gateway.sign(params.preimage(own.sender, nonce))
        return SignedTicket(
            own, signed if signature is None else Signature(signature), recipient_rand
        )

    async def paid(self, redeeming: Redeeming) -> int:
        """Waits for the chain and returns the payout."""
        while self.transactions.under_way:
            await self.transactions.poll()
            await asyncio.sleep(0.005)
        return await redeeming.payout_wei()


@asynccontextmanager
async def redemptions(evm: Evm) -> AsyncIterator[Redemptions]:
    """Ready to redeem in a round in which the recipient is active."""
    async with JsonRpc(RpcConfig(urls=(evm.url,), chain_id=CHAIN_ID)) as rpc:
        yield Redemptions(evm, Eth(rpc))
