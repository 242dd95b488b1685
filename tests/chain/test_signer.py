"""Transactions and messages signed here or elsewhere are what was asked for."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from chain.endpoint import Endpoint
from evm import CHAIN_ID, ETHER, Evm

from lpnode.chain.eth import Eth
from lpnode.chain.remote_signer import RemoteSigner
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.signer import LocalSigner, Signer, Transaction
from lpnode.errors import ChainError
from lpnode.protocol.ethereum import is_message_signed_by

GWEI = 10**9


def payment(evm: Evm, *, tip_wei: int | None = GWEI, nonce: int = 0) -> Transaction:
    return Transaction(
        chain_id=CHAIN_ID,
        nonce=nonce,
        to=evm.accounts[2].address,
        value_wei=ETHER,
        calldata=b"",
        gas=30_000,
        fee_cap_wei=10 * GWEI,
        tip_wei=tip_wei,
    )


@pytest.fixture
async def endpoint(evm: Evm) -> AsyncIterator[Endpoint]:
    async with Endpoint(evm.url).serve() as served:
        yield served


@pytest.fixture
async def remote(evm: Evm, endpoint: Endpoint) -> AsyncIterator[RemoteSigner]:
    config = RpcConfig(urls=(endpoint.url,), is_chain_checked=False)
    async with JsonRpc(config) as rpc:
        yield RemoteSigner(rpc, evm.accounts[1].address)


@pytest.fixture(params=["local", "remote"])
def signer(request: pytest.FixtureRequest, evm: Evm, remote: RemoteSigner) -> Signer:
    return remote if request.param == "remote" else LocalSigner(evm.accounts[1].private_key)


@pytest.mark.parametrize("tip_wei", [GWEI, None], ids=["dynamic", "legacy"])
async def test_the_chain_takes_a_signed_transaction(
    evm: Evm, eth: Eth, signer: Signer, tip_wei: int | None
) -> None:
    before = evm.balance(evm.accounts[2].address)
    nonce = await eth.transaction_count(signer.address)
    signed = await signer.sign_transaction(payment(evm, tip_wei=tip_wei, nonce=nonce))
    await eth.send(signed.raw)
    assert evm.receipt("0x" + signed.hash.hex())["status"] == "0x1"
    assert evm.balance(evm.accounts[2].address) == before + ETHER


async def test_a_message_is_signed_in_the_form_gateways_check(signer: Signer) -> None:
    signature = await signer.sign_message(b"0xabc")
    assert is_message_signed_by(signer.address, b"0xabc", signature)


async def test_both_signers_sign_alike(evm: Evm, remote: RemoteSigner) -> None:
    local = LocalSigner(evm.accounts[1].private_key)
    for tip_wei in (GWEI, None):
        transaction = payment(evm, tip_wei=tip_wei)
        assert await local.sign_transaction(transaction) == await remote.sign_transaction(
            transaction
        )
    assert await local.sign_message(b"x") == await remote.sign_message(b"x")


@pytest.mark.parametrize("tip_wei", [GWEI, None], ids=["dynamic", "legacy"])
async def test_a_remote_signer_cannot_change_a_transaction(
    evm: Evm, endpoint: Endpoint, remote: RemoteSigner, tip_wei: int | None
) -> None:
    mallory = LocalSigner(evm.accounts[1].private_key)
    other = Transaction(
        chain_id=CHAIN_ID,
        nonce=0,
        to=evm.accounts[3].address,
        value_wei=ETHER,
        calldata=b"",
        gas=30_000,
        fee_cap_wei=10 * GWEI,
        tip_wei=tip_wei,
    )
    raw = (await mallory.sign_transaction(other)).raw
    endpoint.edit = lambda method, result: "0x" + raw.hex()
    with pytest.raises(ChainError, match="changed to of the transaction"):
        await remote.sign_transaction(payment(evm, tip_wei=tip_wei))


async def test_a_remote_signer_cannot_sign_for_another_account(
    evm: Evm, endpoint: Endpoint, remote: RemoteSigner
) -> None:
    stranger = LocalSigner(evm.accounts[4].private_key)
    raw = (await stranger.sign_transaction(payment(evm))).raw
    signature = await stranger.sign_message(b"x")
    answers: dict[str, bytes] = {"eth_signTransaction": raw, "eth_sign": signature}
    endpoint.edit = lambda method, result: "0x" + answers[method].hex()
    with pytest.raises(ChainError, match="signed for 0x"):
        await remote.sign_transaction(payment(evm))
    with pytest.raises(ChainError, match="signature is not of 0x"):
        await remote.sign_message(b"x")


@pytest.mark.parametrize(
    "answer", ["0x", "0x02c0", "0x02", "zz", 5, None, {"raw": "0xc0"}], ids=str
)
async def test_nonsense_from_a_remote_signer_is_an_error(
    evm: Evm, endpoint: Endpoint, remote: RemoteSigner, answer: Any
) -> None:
    endpoint.edit = lambda method, result: answer
    with pytest.raises(ChainError):
        await remote.sign_transaction(payment(evm))
    with pytest.raises(ChainError):
        await remote.sign_message(b"x")
