"""A gateway that pays, and a chain on which it has funds: real tickets, no network."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from lpnode.errors import ChainError
from lpnode.gateway.ticket_sender import signed_payment
from lpnode.payment.params import PricingConfig
from lpnode.payment.payments import Payments, PaymentsConfig
from lpnode.payment.recipient import RecipientConfig
from lpnode.payment.ticket import TicketParams
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Account, Address

GATEWAY = Account(bytes(31) + b"\x07")
OTHER_GATEWAY = Account(bytes(31) + b"\x09")
RECIPIENT = Address(b"\x70" * 20)
PRICE = Fraction(1200)
ETH = 10**18


@dataclass(frozen=True)
class Funds:
    """What one sender has."""

    deposit_wei: int = ETH
    withdraw_round: int = 0
    reserve_wei: int = ETH
    reserve_claimed_wei: int = 0
    claimed_by_us_wei: int = 0


@dataclass
class ChainInMemory:
    """Satisfies ``ChainView`` and ``SenderReader``."""

    last_l1_block: int = 100
    last_initialized_round: int = 3500
    is_round_initialized: bool = True
    num_round_blocks_left: int = 5000
    gas_price_wei: int = 10_000_000
    pool_size: int = 10
    is_recipient_active: bool = True
    round_hashes: dict[int, bytes] = field(
        default_factory=lambda: {3499: b"\x34" * 32, 3500: b"\x35" * 32}
    )
    funds: dict[Address, Funds] = field(default_factory=dict)
    num_reads: int = 0
    is_reachable: bool = True

    def round_block_hash(self, number: int) -> bytes:
        return self.round_hashes.get(number, bytes(32))

    async def sender_funds(self, sender: Address) -> Funds:
        self.num_reads += 1
        if not self.is_reachable:
            raise ChainError("no endpoint answers")
        return self.funds.get(sender, Funds())


def minbe(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def pay(
    params: TicketParams,
    nonces: Iterable[int],
    price: Fraction = PRICE,
    account: Account = GATEWAY,
) -> pb.Payment:
    """A payment of one ticket for each nonce, signed by ``account``."""
    price_info = pb.PriceInfo(pricePerUnit=price.numerator, pixelsPerUnit=price.denominator)
    return signed_payment(params, price_info, account, nonces)


def changed(payment: pb.Payment, **fields: Any) -> pb.Payment:
    """A copy with other fields in its params (by name) or in the payment itself."""
    copy = pb.Payment()
    copy.CopyFrom(payment)
    for name, value in fields.items():
        target: Any = (
            copy.ticket_params if name in pb.TicketParams.DESCRIPTOR.fields_by_name else copy
        )
        setattr(target, name, value)
    return copy


@dataclass
class PaymentBench:
    """Payments over a store in ``folder``; ``running`` can be entered again, as after a restart."""

    folder: Path
    chain: ChainInMemory = field(default_factory=ChainInMemory)
    pricing: PricingConfig = field(default_factory=PricingConfig)
    now_s: float = 1_800_000_000.0
    now_ns: int = 1

    @property
    def path(self) -> Path:
        return self.folder / "payments.db"

    @asynccontextmanager
    async def running(self, now_ns: Callable[[], int] | None = None) -> AsyncIterator[Payments]:
        payments = Payments(
            PaymentsConfig(
                path=self.path,
                chain_id=42161,
                recipient=RecipientConfig(recipient=RECIPIENT, pricing=self.pricing),
            ),
            chain=self.chain,
            reader=self.chain,
            now_s=lambda: self.now_s,
            now_ns=now_ns or (lambda: self.now_ns),
        )
        async with payments.opened():
            yield payments


def with_nonces(payment: pb.Payment, picked: Sequence[pb.TicketSenderParams]) -> pb.Payment:
    """The same payment with other tickets."""
    copy = pb.Payment()
    copy.CopyFrom(payment)
    del copy.ticket_sender_params[:]
    copy.ticket_sender_params.extend(picked)
    return copy
