"""A signer elsewhere, so that the key need not lie on the machine with the GPU.

It speaks JSON-RPC with ``eth_signTransaction`` and ``eth_sign``, as Web3Signer and Ethereum nodes
with an unlocked account do. Whatever it returns is checked before it is used.
"""

from typing import Any

from lpnode.chain.hex_values import data, to_data
from lpnode.chain.rpc import JsonRpc
from lpnode.chain.signer import SignedTransaction, Transaction
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import (
    SIGNATURE_BYTES,
    Address,
    Signature,
    checksum_text,
    is_message_signed_by,
)
from lpnode.protocol.keccak import keccak256


class RemoteSigner:
    """Asks another process to sign for ``address``."""

    __slots__ = ("_address", "_rpc")

    def __init__(self, rpc: JsonRpc, address: Address) -> None:
        """``rpc``: to the signer; made with ``is_chain_checked=False`` if it serves no chain."""
        self._rpc = rpc
        self._address = address

    @property
    def address(self) -> Address:
        """The account."""
        return self._address

    async def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        """Raises: ChainError: no answer, or another transaction or account than was asked for."""
        request = transaction.hex_fields() | {"from": to_data(self._address)}
        answer = await self._rpc.request("eth_signTransaction", request)
        # Some signers answer with the transaction beside its bytes.
        raw = data(answer.get("raw") if isinstance(answer, dict) else answer, "signed bytes")
        _check(raw, transaction, self._address)
        return SignedTransaction(raw, keccak256(raw))

    async def sign_message(self, message: bytes) -> Signature:
        """Raises: ChainError: no answer, or a signature of another account or form."""
        answer = await self._rpc.request(
            "eth_sign", to_data(self._address), to_data(keccak256(message))
        )
        signature = data(answer, "a signature", SIGNATURE_BYTES)
        if signature[64] < 2:
            signature = signature[:64] + bytes([signature[64] + 27])
        if not is_message_signed_by(self._address, message, signature):
            raise ChainError(
                f"the remote signer's signature is not of {checksum_text(self._address)}"
            )
        return Signature(signature)


def _check(raw: bytes, wanted: Transaction, address: Address) -> None:
    try:
        signer, fields = _read(raw)
    except (ValueError, TypeError, KeyError, IndexError) as exc:
        raise ChainError(f"the remote signer returned no signed transaction: {exc}") from exc
    if signer != address:
        raise ChainError(
            f"the remote signer signed for {checksum_text(signer)}, not {checksum_text(address)}"
        )
    for name, value in wanted.fields().items():
        if fields.get(name) != value:
            raise ChainError(
                f"the remote signer changed {name} of the transaction: "
                f"asked for {value!r:.100}, got {fields.get(name)!r:.100}"
            )


def _read(raw: bytes) -> tuple[Address, dict[str, Any]]:
    import rlp
    from hexbytes import HexBytes
    from rlp.exceptions import RLPException

    from lpnode.chain.eth_account import Account, TypedTransaction

    try:
        signer = Address(bytes.fromhex(Account.recover_transaction(raw)[2:]))
        if raw[0] < 0x7F:  # a typed transaction; a legacy one is a list
            return signer, dict(TypedTransaction.from_bytes(HexBytes(raw)).as_dict())
        items = rlp.decode(raw)
    except RLPException as exc:
        raise ValueError(str(exc)) from exc
    nonce, price, gas, to, value, calldata, v = items[:7]
    return signer, {
        "chainId": (int.from_bytes(v, "big") - 35) // 2,
        "nonce": int.from_bytes(nonce, "big"),
        "gasPrice": int.from_bytes(price, "big"),
        "gas": int.from_bytes(gas, "big"),
        "to": to,
        "value": int.from_bytes(value, "big"),
        "data": calldata,
    }
