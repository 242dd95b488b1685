"""Transactions and who signs them: a key in this process, or a signer elsewhere."""

from dataclasses import dataclass
from typing import Any, Protocol

from lpnode.chain.hex_values import to_data, to_quantity
from lpnode.protocol.ethereum import Account, Address, Signature
from lpnode.protocol.keccak import keccak256

_DYNAMIC_FEE_TYPE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What is signed. Fees in wei for a unit of gas."""

    chain_id: int
    nonce: int
    to: Address
    value_wei: int
    calldata: bytes
    gas: int
    fee_cap_wei: int
    """The gas price itself in a legacy transaction."""
    tip_wei: int | None
    """None makes a legacy transaction, for chains without a base fee."""

    def fields(self) -> dict[str, Any]:
        """The transaction under the names of JSON-RPC; numbers and bytes as such."""
        fields: dict[str, Any] = {
            "chainId": self.chain_id,
            "nonce": self.nonce,
            "to": bytes(self.to),
            "value": self.value_wei,
            "data": self.calldata,
            "gas": self.gas,
        }
        if self.tip_wei is None:
            return fields | {"gasPrice": self.fee_cap_wei}
        return fields | {
            "type": _DYNAMIC_FEE_TYPE,
            "maxFeePerGas": self.fee_cap_wei,
            "maxPriorityFeePerGas": self.tip_wei,
        }

    def hex_fields(self) -> dict[str, str]:
        """The same as JSON-RPC writes it."""
        return {
            name: to_data(value) if isinstance(value, bytes) else to_quantity(value)
            for name, value in self.fields().items()
        }


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """Ready to be sent. ``hash``: 32 bytes, the transaction's name on the chain."""

    raw: bytes
    hash: bytes


class Signer(Protocol):
    """Signs for one account."""

    @property
    def address(self) -> Address:
        """The account."""

    async def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        """Raises: ChainError: the signer cannot be reached, or refuses."""

    async def sign_message(self, message: bytes) -> Signature:
        """Signs the Keccak hash of ``message`` as a personal message.

        Raises: ChainError: the signer cannot be reached, or refuses.
        """


class LocalSigner:
    """Signs with a key held in this process."""

    __slots__ = ("_account", "_key")

    def __init__(self, private_key: bytes) -> None:
        """``private_key``: 32 bytes. Raises: ConfigError: it is no key of the curve."""
        self._account = Account(private_key)
        self._key = private_key

    @property
    def address(self) -> Address:
        """The account."""
        return self._account.address

    @property
    def account(self) -> Account:
        """The key itself, for who signs many messages at once."""
        return self._account

    async def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        """Signs in about a millisecond."""
        # Half a second to import, needed by nodes that redeem with their own key alone.
        from lpnode.chain.eth_account import Account as TransactionSigner

        signed = TransactionSigner.sign_transaction(transaction.fields(), self._key)
        raw = bytes(signed.raw_transaction)
        return SignedTransaction(raw, keccak256(raw))

    async def sign_message(self, message: bytes) -> Signature:
        """Signs the Keccak hash of ``message`` as a personal message."""
        return self._account.sign(message)
