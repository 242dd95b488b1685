"""Transactions of one account arrive once each, whatever happens on the way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from chain.endpoint import Endpoint
from chain.submissions import Submissions
from evm import BASE_FEE_WEI, CHAIN_ID, ETHER, Evm

from lpnode.chain.abi import Function
from lpnode.chain.eth import Eth, Receipt
from lpnode.chain.gas_price import Fees, GasPrice, GasPriceConfig
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.service_registry import SET_SERVICE_URI
from lpnode.chain.signer import LocalSigner
from lpnode.chain.submission import Submission
from lpnode.chain.transactions import Transactions, TransactionsConfig
from lpnode.errors import (
    CallReverted,
    ChainError,
    ConfigError,
    GasPriceTooHigh,
    TransactionLost,
    TransactionReverted,
    TransactionTimedOut,
)

ACTIVATE = Function("activate(address,uint256)")
GET_SERVICE_URI = Function("getServiceURI(address)", "string")
CONFIG = TransactionsConfig(timeout_s=300, max_replacements=1)


class Account:
    """The owner's account as the node uses it, and what a test turns about it."""

    def __init__(self, evm: Evm, eth: Eth) -> None:
        self.evm = evm
        self.eth = eth
        self.store = Submissions()
        self.now_s = 0.0
        self.gas = GasPriceConfig()

    def open(self, config: TransactionsConfig = CONFIG) -> Transactions:
        """As at the start of the process."""
        return Transactions(
            self.eth,
            LocalSigner(self.evm.owner.private_key),
            GasPrice(self.eth, self.gas),
            self.store,
            config,
            chain_id=CHAIN_ID,
            clock=lambda: self.now_s,
        )

    async def publish(self, transactions: Transactions, uri: str = "https://a:1") -> Submission:
        """Sends something harmless."""
        return await transactions.submit(self.evm.service_registry, SET_SERVICE_URI.encode(uri))

    async def mined(self, transactions: Transactions, submission: Submission) -> Receipt:
        """Polls until the chain, which answers before it has mined, has settled it."""
        while not submission.outcome.done():
            await transactions.poll()
            await asyncio.sleep(0.005)
        return await submission.receipt()

    def waiting(self) -> dict[int, Fees]:
        """By nonce, what the transactions in the chain's pool offer."""
        content = self.evm.rpc("txpool_content")["pending"]
        mine = next((txs for sender, txs in content.items() if self._is_mine(sender)), {})
        return {
            int(nonce): Fees(int(found["maxFeePerGas"], 16), int(found["maxPriorityFeePerGas"], 16))
            for nonce, found in mine.items()
        }

    def _is_mine(self, sender: str) -> bool:
        return bytes.fromhex(sender[2:]) == self.evm.owner.address


@pytest.fixture
async def endpoint(evm: Evm) -> AsyncIterator[Endpoint]:
    async with Endpoint(evm.url).serve() as served:
        yield served


@pytest.fixture
async def account(evm: Evm, endpoint: Endpoint) -> AsyncIterator[Account]:
    config = RpcConfig(urls=(endpoint.url,), first_rest_s=0.01, max_rest_s=0.02)
    async with JsonRpc(config) as rpc:
        yield Account(evm, Eth(rpc))


async def test_a_transaction_is_sent_mined_and_forgotten(account: Account) -> None:
    transactions = account.open()
    submission = await account.publish(transactions, "https://orch:8935")
    assert [row.hash for row in account.store.rows] == list(submission.hashes)
    receipt = await account.mined(transactions, submission)
    assert receipt.is_success
    assert receipt.transaction_hash == submission.hashes[0]
    assert receipt.gas_used > 21_000
    assert transactions.under_way == ()
    assert account.store.rows == []
    uri = account.evm.call(
        account.evm.service_registry, GET_SERVICE_URI.signature, account.evm.owner.address
    )
    assert GET_SERVICE_URI.decode(uri) == ("https://orch:8935",)


async def test_run_watches_until_it_is_cancelled(account: Account) -> None:
    transactions = account.open(replace(CONFIG, poll_s=0.01))
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(transactions.run())
        receipt = await (await account.publish(transactions)).receipt()
        watching.cancel()
    assert receipt.is_success


async def test_transactions_sent_at_once_never_share_a_nonce(account: Account) -> None:
    transactions = account.open()
    with account.evm.held_back():
        submissions = await asyncio.gather(
            *(account.publish(transactions, f"https://a:{port}") for port in range(1, 21))
        )
        nonces = [submission.nonce for submission in submissions]
        assert sorted(nonces) == list(range(min(nonces), min(nonces) + 20))
        assert sorted(account.waiting()) == sorted(nonces)
        account.evm.mine()
    for submission in submissions:
        assert (await account.mined(transactions, submission)).is_success


async def test_a_call_the_contract_would_decline_is_not_sent(account: Account) -> None:
    transactions = account.open()
    evm = account.evm
    with pytest.raises(CallReverted) as declined:
        await transactions.submit(evm.bonding_manager, ACTIVATE.encode(bytes(20), 0))
    assert declined.value.reason == "stake must be new and positive"
    assert transactions.under_way == ()
    assert account.store.rows == []


async def test_a_transaction_that_fails_on_the_chain_says_so(account: Account) -> None:
    transactions = account.open(replace(CONFIG, gas_limit=30_000))
    too_little_gas = await account.publish(transactions)
    with pytest.raises(TransactionReverted, match="transaction failed"):
        await account.mined(transactions, too_little_gas)
    assert account.store.rows == []


async def test_a_late_transaction_is_replaced_by_one_that_pays_more(account: Account) -> None:
    transactions = account.open()
    with account.evm.held_back():
        submission = await account.publish(transactions)
        offered = account.waiting()[submission.nonce]
        account.now_s = 299.0
        await transactions.poll()
        assert account.waiting() == {submission.nonce: offered}
        account.now_s = 300.0
        await transactions.poll()
        assert account.waiting() == {submission.nonce: offered.bumped(11)}
        assert len(account.store.rows) == 2
        account.evm.mine()
    assert (await account.mined(transactions, submission)).transaction_hash == submission.hashes[1]
    assert account.store.rows == []


async def test_the_original_may_be_mined_after_it_was_replaced(
    account: Account, endpoint: Endpoint
) -> None:
    transactions = account.open()
    with account.evm.held_back():
        submission = await account.publish(transactions)
        endpoint.only_method = "eth_sendRawTransaction"
        endpoint.fault = {"code": -32000, "message": "replacement transaction underpriced"}
        account.now_s = 300.0
        await transactions.poll()
        assert len(submission.hashes) == 2
        account.evm.mine()
    assert (await account.mined(transactions, submission)).transaction_hash == submission.hashes[0]


async def test_no_replacement_pays_more_than_the_operator_allows(account: Account) -> None:
    account.gas = GasPriceConfig(max_wei=3 * 10**9)
    transactions = account.open()
    with account.evm.held_back():
        submission = await account.publish(transactions)
        offered = account.waiting()
        transactions._gas_price = GasPrice(account.eth, GasPriceConfig(max_wei=1))
        account.now_s = 300.0
        await transactions.poll()
        assert account.waiting() == offered
        with pytest.raises(TransactionTimedOut):
            await submission.receipt()
        with pytest.raises(GasPriceTooHigh):
            await account.publish(transactions)


async def test_a_transaction_that_stays_late_times_out_but_is_not_lost(account: Account) -> None:
    transactions = account.open()
    with account.evm.held_back():
        submission = await account.publish(transactions)
        for account.now_s in (300.0, 600.0):
            await transactions.poll()
        with pytest.raises(TransactionTimedOut, match="not mined in 600 s"):
            await submission.receipt()
        assert [found.nonce for found in transactions.under_way] == [submission.nonce]
        later = await account.publish(transactions)
        assert later.nonce == submission.nonce + 1
        account.evm.mine()
    assert (await account.mined(transactions, later)).is_success
    assert transactions.under_way == ()
    assert account.store.rows == []


async def test_a_stuck_transaction_follows_the_market_only(
    account: Account, endpoint: Endpoint
) -> None:
    transactions = account.open()
    with account.evm.held_back():
        submission = await account.publish(transactions)
        for account.now_s in (300.0, 600.0, 900.0):
            await transactions.poll()
        assert len(submission.hashes) == 2
        endpoint.edit = lambda method, result: (
            result | {"baseFeePerGas": hex(50 * BASE_FEE_WEI)}
            if method == "eth_getBlockByNumber"
            else result
        )
        account.now_s = 1200.0
        await transactions.poll()
        assert account.waiting()[submission.nonce].fee_cap_wei > 100 * BASE_FEE_WEI
        account.evm.mine()
    while transactions.under_way:
        await transactions.poll()
        await asyncio.sleep(0.005)


async def test_trouble_with_one_transaction_does_not_hide_another(account: Account) -> None:
    transactions = account.open()
    with account.evm.held_back():
        first = await account.publish(transactions)
        second = await account.publish(transactions)
        account.store.is_failing = True
        account.now_s = 300.0
        await transactions.poll()
        assert [len(submission.hashes) for submission in (first, second)] == [1, 1]
        account.store.is_failing = False
        await transactions.poll()
        assert [len(submission.hashes) for submission in (first, second)] == [2, 2]
        account.evm.mine()
    for submission in (first, second):
        assert (await account.mined(transactions, submission)).is_success


async def test_what_was_under_way_goes_on_after_a_restart(account: Account) -> None:
    before = account.open()
    with account.evm.held_back():
        submission = await account.publish(before)
        account.now_s = 300.0
        await before.poll()
        account.evm.rpc("anvil_dropAllTransactions")
        after = account.open()
        (resumed,) = await after.resume()
        assert resumed.hashes == submission.hashes
        assert (await account.publish(after)).nonce == submission.nonce + 1
        await after.poll()
        assert sorted(account.waiting()) == [submission.nonce, submission.nonce + 1]
        account.evm.mine()
    assert (await account.mined(after, resumed)).is_success
    assert account.store.rows == []


async def test_a_restart_finds_what_was_mined_meanwhile(account: Account) -> None:
    await account.publish(account.open())
    after = account.open()
    (resumed,) = await after.resume()
    assert (await account.mined(after, resumed)).is_success


async def test_a_nonce_used_by_a_stranger_is_a_lost_transaction(account: Account) -> None:
    transactions = account.open()
    evm = account.evm
    with evm.held_back():
        submission = await account.publish(transactions)
        evm.rpc("anvil_dropAllTransactions")
    evm.send(evm.owner.address, evm.service_registry, "setServiceURI(string)", "https://b:2")
    for _ in range(4):
        await transactions.poll()
        assert not submission.outcome.done()
    await transactions.poll()
    with pytest.raises(TransactionLost, match=f"nonce {submission.nonce}"):
        await submission.receipt()
    assert (await account.publish(transactions)).nonce == submission.nonce + 1


async def test_an_endpoint_with_an_old_nonce_costs_another_try(
    account: Account, endpoint: Endpoint
) -> None:
    evm = account.evm
    evm.send(evm.owner.address, evm.service_registry, "setServiceURI(string)", "https://b:2")
    used = await account.eth.transaction_count(evm.owner.address)
    endpoint.edit = lambda method, result: (
        hex(used - 1) if method == "eth_getTransactionCount" else result
    )
    transactions = account.open()
    assert (await account.publish(transactions)).nonce == used
    assert [row.nonce for row in account.store.rows] == [used]


async def test_a_transaction_that_may_have_arrived_keeps_its_nonce(
    account: Account, endpoint: Endpoint
) -> None:
    transactions = account.open()
    endpoint.only_method, endpoint.fault = "eth_sendRawTransaction", "drop"
    with account.evm.held_back():
        submission = await account.publish(transactions)
        assert account.waiting() == {}
        endpoint.fault = None
        assert (await account.publish(transactions)).nonce == submission.nonce + 1
        account.now_s = 30.0
        await transactions.poll()
        assert sorted(account.waiting()) == [submission.nonce, submission.nonce + 1]
        account.evm.mine()
    assert (await account.mined(transactions, submission)).is_success


@pytest.mark.parametrize("is_mined_at_once", [False, True])
async def test_a_transaction_whose_answer_was_lost_is_not_sent_under_another_nonce(
    account: Account, endpoint: Endpoint, is_mined_at_once: bool
) -> None:
    transactions = account.open()
    before = await account.eth.transaction_count(account.evm.owner.address)
    endpoint.lose_next = "eth_sendRawTransaction"
    if is_mined_at_once:
        submission = await account.publish(transactions)
    else:
        with account.evm.held_back():
            submission = await account.publish(transactions)
            account.evm.mine()
    assert (await account.mined(transactions, submission)).is_success
    assert submission.nonce == before
    assert await account.eth.transaction_count(account.evm.owner.address, "pending") == before + 1


async def test_an_account_without_money_sends_nothing(account: Account) -> None:
    account.evm.rpc("anvil_setBalance", "0x" + account.evm.owner.address.hex(), "0x1")
    transactions = account.open()
    with pytest.raises(ChainError, match=r"(?i)insufficient|funds"):
        await transactions.submit(account.evm.accounts[1].address, b"", ETHER)
    assert transactions.under_way == ()
    assert account.store.rows == []


def test_a_bump_that_nodes_would_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="10 % more"):
        TransactionsConfig(bump_percent=9)
