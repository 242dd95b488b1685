"""What a ticket is worth and how it is bound to us: face value, win probability, recipient rand.

Note [Recipient rand]
The node keeps no state for the parameters it hands out. The secret number behind their hash is a
MAC over everything that they say, so it is derived again from what a payment echoes; whatever was
changed on the way gives another number, and the hash does not match. The message has one fixed
width for each field, its own domain and our address: no byte can move from one field to another.
Values that do not fit their field are refused before. It reveals the draw of a ticket until the
ticket is redeemed, so it is a secret and reaches no log.

Source: payments.md sections 1.5 to 1.8 and 9.2; vectors recipient_rand.suggested_fixed_width.
"""

import hmac
from dataclasses import dataclass, field
from fractions import Fraction

from lpnode.errors import ConfigError, Refused
from lpnode.payment.ticket import MAX_WIN_PROB, WORD_BYTES, TicketParams, recipient_rand_hash
from lpnode.payment.work_units import LIVE_PREPAID_S, LIVE_UNITS_PER_S
from lpnode.protocol.ethereum import Address

PARAMS_LIFETIME_BLOCKS = 40
"""In L1 blocks, about eight minutes."""
KEY_BYTES = 32

_DOMAIN = b"lpnode/recipientRand/v1"
_MAX_UINT256 = MAX_WIN_PROB
_TX_COST_MULTIPLIER = 100
_EV_MULTIPLIER = 100
_AVERAGE_GAS_PRICE_WEI = 3_000_000_000
_LIVE_TICKETS = 4
_MAX_EV_WEI = 3_000_000_000_000
_MIN_ODDS = 10


class InsufficientReserve(Refused):
    """The sender's funds are too small for a ticket that is worth redeeming."""

    def __init__(self) -> None:
        super().__init__("insufficient sender reserve")


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingConfig:
    """How tickets are made for a sender. Amounts in wei.

    Attributes:
        ev_wei: what a ticket is worth on average (``-ticketEV``).
        redeem_gas: gas that redeeming one takes; 1,200,000 on Arbitrum, 350,000 on L1.
        max_face_value_wei: None when the sender's funds are the only limit (``-maxFaceValue``).
        is_ev_scaled: whether dear work gets tickets of a higher EV, so that a gateway prepays a
            live stream with a few. With one EV for all, a price of some 3000 wei a unit needs more
            tickets than a recipient rand allows, and no stream would ever start.
    """

    ev_wei: int = 8_000_000_000
    redeem_gas: int = 1_200_000
    max_face_value_wei: int | None = None
    is_ev_scaled: bool = False

    def __post_init__(self) -> None:
        if self.ev_wei <= 0:
            raise ConfigError(f"-ticketEV must be positive, got {self.ev_wei} wei")
        if self.redeem_gas <= 0:
            raise ConfigError(f"the gas of a redemption must be positive, got {self.redeem_gas}")
        if self.max_face_value_wei is not None and self.max_face_value_wei <= self.ev_wei:
            raise ConfigError(
                f"-maxFaceValue must be more than -ticketEV ({self.ev_wei} wei), got "
                f"{self.max_face_value_wei}: no gateway pays with tickets that always win"
            )

    def ev_for(self, price: Fraction, face_value_wei: int) -> int:
        """The EV of tickets for work at ``price`` wei per unit, in wei.

        Never so high that gateways refuse it, nor near the face value.
        Source: payments.md section 7.3.
        """
        if not self.is_ev_scaled:
            return self.ev_wei
        prepaid_wei = price * LIVE_UNITS_PER_S * LIVE_PREPAID_S
        ev_wei = min(int(prepaid_wei / _LIVE_TICKETS), _MAX_EV_WEI, face_value_wei // _MIN_ODDS)
        return max(self.ev_wei, ev_wei)


def face_value_wei(
    max_float_wei: int,
    gas_price_wei: int,
    *,
    ev_wei: int,
    redeem_gas: int,
    max_face_value_wei: int | None = None,
) -> int:
    """A hundred times the cost of redeeming, as far as the sender's funds reach.

    Raises: InsufficientReserve: it would be worth less than its EV or than redeeming it costs.
    """
    tx_cost_wei = redeem_gas * gas_price_wei
    value_wei = tx_cost_wei * _TX_COST_MULTIPLIER
    if value_wei < ev_wei:
        value_wei = ev_wei * _EV_MULTIPLIER
    value_wei = min(value_wei, max_float_wei)
    if max_face_value_wei is not None:
        value_wei = min(value_wei, max_face_value_wei)
    # Gas may be dear for a moment: what would pay at the average price is taken.
    is_worth_gas = value_wei >= min(tx_cost_wei, redeem_gas * _AVERAGE_GAS_PRICE_WEI)
    if value_wei < ev_wei or not is_worth_gas:
        raise InsufficientReserve
    return value_wei


def win_prob(face_value_wei: int, ev_wei: int) -> int:
    """The probability out of 2^256-1 with which a ticket is worth at least ``ev_wei``."""
    if face_value_wei == 0:
        return 0
    if face_value_wei == ev_wei:
        return MAX_WIN_PROB
    return ev_wei * -(-MAX_WIN_PROB // face_value_wei)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Everything that our parameters bind. Amounts in wei.

    ``price``: wei per unit, as it stands on the wire next to the parameters.
    Raises: ValueError: a value that no field of the message can hold.
    """

    recipient: Address
    sender: Address
    face_value_wei: int
    win_prob: int
    expiration_block: int
    price: Fraction
    creation_round: int
    creation_round_block_hash: bytes
    seed: int = field(repr=False)

    def __post_init__(self) -> None:
        for name in (
            "face_value_wei",
            "win_prob",
            "expiration_block",
            "creation_round",
            "seed",
        ):
            if not 0 <= getattr(self, name) <= _MAX_UINT256:
                raise ValueError(f"{name} is not a 256-bit number")
        if self.price < 0 or max(self.price.numerator, self.price.denominator) > _MAX_UINT256:
            raise ValueError("price is not a ratio of 256-bit numbers")
        if len(self.creation_round_block_hash) != WORD_BYTES:
            raise ValueError("creation_round_block_hash is not 32 bytes")

    def recipient_rand(self, key: bytes) -> bytes:
        """Returns the secret number of these terms, 32 bytes big-endian. ``key``: 32 bytes."""
        return hmac.digest(key, self._message(), "sha256")

    def params(self, recipient_rand: bytes) -> TicketParams:
        """Returns the parameters that hide ``recipient_rand``."""
        return TicketParams(
            recipient=self.recipient,
            face_value_wei=self.face_value_wei,
            win_prob=self.win_prob,
            recipient_rand_hash=recipient_rand_hash(recipient_rand),
            seed=self.seed,
            expiration_block=self.expiration_block,
            creation_round=self.creation_round,
            creation_round_block_hash=self.creation_round_block_hash,
        )

    def _message(self) -> bytes:
        return b"".join(
            (
                _DOMAIN,
                _uint256(self.seed),
                self.recipient,
                self.sender,
                _uint256(self.face_value_wei),
                _uint256(self.win_prob),
                _uint256(self.expiration_block),
                _uint256(self.price.numerator),
                _uint256(self.price.denominator),
                _uint256(self.creation_round),
                self.creation_round_block_hash,
            )
        )


def _uint256(number: int) -> bytes:
    return number.to_bytes(32, "big")
