"""The contracts that stand for the deployed ones have their ABI."""

import json
from typing import Any

import pytest
from compile_contracts import SHIPPED, compiled_text, origin
from evm import ETHER, FIRST_ROUND, Evm
from evm_tools import NoEvmTools, compiled_contracts
from payment_vectors import VECTORS

from lpnode.command.local_chain.chain import NAMES
from lpnode.errors import CallReverted
from lpnode.protocol.keccak import keccak256


def canonical(entry: dict[str, Any]) -> str:
    def kind(item: dict[str, Any]) -> str:
        if not item["type"].startswith("tuple"):
            return str(item["type"])
        inner = ",".join(map(kind, item["components"]))
        return f"({inner}){item['type'].removeprefix('tuple')}"

    return f"{entry['name']}({','.join(map(kind, entry['inputs']))})"


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, Any]]:
    try:
        return compiled_contracts()
    except NoEvmTools as exc:
        pytest.skip(f"nothing compiles Solidity here: {exc}")


def test_the_shipped_contracts_are_those_of_the_sources() -> None:
    shipped = json.loads(SHIPPED.read_text())
    assert shipped.items() >= origin().items(), "run: python tests/compile_contracts.py"


def test_the_shipped_contracts_are_what_the_compiler_makes(
    compiled: dict[str, dict[str, Any]],
) -> None:
    assert SHIPPED.read_text() == compiled_text(), "run: python tests/compile_contracts.py"


def test_every_event_and_view_the_node_uses_is_in_the_test_contracts(
    compiled: dict[str, dict[str, Any]],
) -> None:
    for name in NAMES:
        mine = {canonical(entry) for entry in compiled[name]["abi"] if "name" in entry}
        known = {
            item["signature"]
            for kind in ("functions", "events")
            for item in VECTORS["abi"][kind].get(name, ())
        }
        if name == "TicketBroker":
            assert known <= mine
        shared = {signature.split("(")[0] for signature in mine & known}
        same_name = {signature for signature in known if signature.split("(")[0] in shared}
        assert same_name <= mine
        assert shared, name


def test_the_chain_starts_in_an_initialised_round_with_everything_found(evm: Evm) -> None:
    assert evm.last_initialized_round == FIRST_ROUND
    for name, address in evm.contracts.items():
        found = evm.call(evm.controller, "getContract(bytes32)", keccak256(name.encode()))
        assert found[-20:] == address


def test_a_test_finds_nothing_of_the_one_before(evm: Evm) -> None:
    sender = evm.accounts[0].address
    with evm.undone():
        evm.fund(sender, deposit_wei=ETHER, reserve_wei=2 * ETHER)
        assert evm.call_uint(evm.ticket_broker, "isUnlockInProgress(address)", sender) == 0
        evm.send(sender, evm.ticket_broker, "unlock()")
        evm.next_round()
        assert evm.last_initialized_round == FIRST_ROUND + 1
    assert evm.last_initialized_round == FIRST_ROUND
    with pytest.raises(CallReverted, match="sender deposit and reserve are zero"):
        evm.send(sender, evm.ticket_broker, "unlock()")


def test_the_broker_hashes_a_ticket_as_the_deployed_one_does(evm: Evm) -> None:

    vector = next(item for item in VECTORS["abi"]["calldata"] if item["name"] == "getTicketHash")
    answer = evm.rpc(
        "eth_call", {"to": "0x" + evm.ticket_broker.hex(), "data": vector["calldata"]}, "latest"
    )
    assert answer == vector["expected_return"]
