"""Without anvil the same tests run on py-evm. Some of them always do, so that it keeps working."""

import pytest
from chain.test_contracts import test_a_test_finds_nothing_of_the_one_before
from chain.test_events import chain, test_logs_of_orphaned_blocks_are_taken_back_newest_first
from chain.test_redeemer import (
    table,
    test_a_ticket_is_paid_from_the_deposit,
    test_of_two_transactions_for_one_ticket_the_second_fails,
    test_one_bad_ticket_does_not_spoil_a_batch,
    test_the_contract_declines_before_anything_is_sent,
    test_the_node_and_the_contract_agree_on_the_hash,
    test_what_the_deposit_lacks_comes_from_our_share_of_the_reserve,
)
from chain.test_state import test_the_current_round_moves_on_before_it_is_initialised, watched
from chain.test_transactions import (
    account,
    endpoint,
    test_a_late_transaction_is_replaced_by_one_that_pays_more,
    test_a_nonce_used_by_a_stranger_is_a_lost_transaction,
    test_a_transaction_that_fails_on_the_chain_says_so,
    test_an_account_without_money_sends_nothing,
    test_transactions_sent_at_once_never_share_a_nonce,
)
from evm import Evm

__all__ = [
    "account",
    "chain",
    "endpoint",
    "table",
    "test_a_late_transaction_is_replaced_by_one_that_pays_more",
    "test_a_nonce_used_by_a_stranger_is_a_lost_transaction",
    "test_a_test_finds_nothing_of_the_one_before",
    "test_a_ticket_is_paid_from_the_deposit",
    "test_a_transaction_that_fails_on_the_chain_says_so",
    "test_an_account_without_money_sends_nothing",
    "test_logs_of_orphaned_blocks_are_taken_back_newest_first",
    "test_of_two_transactions_for_one_ticket_the_second_fails",
    "test_one_bad_ticket_does_not_spoil_a_batch",
    "test_the_contract_declines_before_anything_is_sent",
    "test_the_current_round_moves_on_before_it_is_initialised",
    "test_the_node_and_the_contract_agree_on_the_hash",
    "test_transactions_sent_at_once_never_share_a_nonce",
    "test_what_the_deposit_lacks_comes_from_our_share_of_the_reserve",
    "watched",
]


@pytest.fixture
def evm(py_evm_chain: Evm) -> Evm:
    """In the place of this run's chain."""
    return py_evm_chain


@pytest.fixture
def own_evm(py_evm_chain: Evm) -> Evm:
    """Its snapshots undo reorganisations too."""
    return py_evm_chain


def test_the_chain_is_py_evm(evm: Evm) -> None:
    assert evm.kind == "py-evm"
    assert evm.rpc("web3_clientVersion") == "py-evm"
