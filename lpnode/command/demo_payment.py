"""The paid part of ``lpnode demo``: a gateway pays with tickets, and the winners are redeemed.

Gas on the local chain costs some hundred times what it does on Arbitrum. So that tickets are worth
redeeming there, price, EV and face value are as much higher than an operator would have them, and
four of five tickets win.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from lpnode.command.amounts import eth_text
from lpnode.command.local_chain.paid_chain import PaidChain, running_paid_chain
from lpnode.errors import PeerGone
from lpnode.gateway.key_file import read_key_file
from lpnode.gateway.live_payment import LivePayer
from lpnode.gateway.sender_account import SenderAccount
from lpnode.gateway.spending_limits import SpendingLimits
from lpnode.payment.params import PARAMS_LIFETIME_BLOCKS
from lpnode.protocol.ethereum import checksum_text

_PRICE_WEI = 1_200_000
_EV_WEI = 4 * 10**14
_FACE_VALUE_WEI = 5 * 10**14
_REDEEM_GAS = 400_000
_SETTLE_S = 60.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What came of the tickets. Amounts in wei.

    ``paid_out_wei`` is what the chain's events say, ``lost_deposit_wei`` by how much the gateway's
    deposit shrank, ``earned_wei`` what the orchestrator can withdraw.
    """

    num_won: int
    booked_wei: int
    paid_out_wei: int
    lost_deposit_wei: int
    earned_wei: int

    @property
    def is_exact(self) -> bool:
        """Whether the node's books and the chain agree to the wei."""
        return self.booked_wei == self.paid_out_wei == self.lost_deposit_wei == self.earned_wei

    def __str__(self) -> str:
        return f"{self.num_won} tickets won and were redeemed for {eth_text(self.paid_out_wei)} ETH"


class DemoPayment:
    """A chain on loopback, and how the demo's node and gateway meet on it."""

    def __init__(self, chain: PaidChain, deposit_wei: int) -> None:
        self._chain = chain
        self._deposit_wei = deposit_wei

    @property
    def how(self) -> str:
        """For people: what it runs on."""
        return f"paid on a local chain ({self._chain.kind})"

    def node_words(self) -> tuple[str, ...]:
        """Settings of ``lpnode serve`` for a node that is paid there."""
        chain = self._chain
        return (
            *("-network", "local", "-ethUrl", chain.url),
            *("-ethController", checksum_text(chain.controller)),
            *("-ethKeystorePath", str(chain.orchestrator.path)),
            *("-ethPassword", str(chain.orchestrator.password_path)),
            *("-blockPollingInterval", "1", "-redeemGas", str(_REDEEM_GAS)),
            *("-pricePerUnit", str(_PRICE_WEI), "-autoAdjustPrice=false"),
            *("-ticketEV", str(_EV_WEI), "-maxFaceValue", str(_FACE_VALUE_WEI)),
        )

    @asynccontextmanager
    async def payer(self) -> AsyncIterator[LivePayer]:
        """The gateway's account, with limits that fit the local chain."""
        key = self._chain.gateway
        account = read_key_file(key.path, key.password_path)
        limits = SpendingLimits(
            max_ticket_ev_wei=_FACE_VALUE_WEI, max_total_ev_wei=self._deposit_wei
        )
        opened = SenderAccount.opened(self._chain.url, account.address, self._chain.controller)
        async with opened as sender:
            yield LivePayer(account, limits, chain=sender)

    async def settle(self, operator_uri: str) -> Settlement:
        """Lets the tickets' parameters expire, and waits until the node has redeemed what won.

        Raises: PeerGone: it has not within a minute, or does not answer.
        """
        await asyncio.to_thread(self._chain.mine, PARAMS_LIFETIME_BLOCKS)
        try:
            async with asyncio.timeout(_SETTLE_S), aiohttp.ClientSession() as http:
                payments = await _payments(http, operator_uri)
                while payments["pending_wei"] != "0":
                    await asyncio.sleep(_POLL_S)
                    payments = await _payments(http, operator_uri)
        except TimeoutError as error:
            raise PeerGone(
                f"the node has not redeemed what won within {_SETTLE_S:g} s; its log says why"
            ) from error
        except aiohttp.ClientError as error:
            raise PeerGone(f"the node does not tell what won: {error}") from error
        deposit_wei, _ = await self._chain.funds()
        return Settlement(
            num_won=payments["tickets_won"],
            booked_wei=int(payments["redeemed_wei"]),
            paid_out_wei=sum(payout.amount_wei for payout in await self._chain.payouts()),
            lost_deposit_wei=self._deposit_wei - deposit_wei,
            earned_wei=await asyncio.to_thread(self._chain.earned_wei),
        )


@contextmanager
def demo_payment(folder: Path) -> Iterator[DemoPayment]:
    """Starts the chain, which takes a few seconds, and ends it with the block.

    Raises: NoEvm: there is nothing to run one.
    """
    with running_paid_chain(folder) as chain:
        deposit_wei, _ = asyncio.run(chain.funds())
        yield DemoPayment(chain, deposit_wei)


async def _payments(http: aiohttp.ClientSession, operator_uri: str) -> dict[str, Any]:
    async with http.get(f"{operator_uri}/status") as response:
        fields: dict[str, Any] = (await response.json())["Payments"]
    return fields
