"""The chain that a demo is paid on: there is one, it is ready, and it is gone afterwards."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from evm import ETHER, evm_of_this_run, skipped_without_evm

from lpnode.chain.bonding import BondingManager
from lpnode.chain.eth import Eth
from lpnode.chain.keystore import KeystoreConfig, open_keystore
from lpnode.chain.rpc import JsonRpc, RpcConfig
from lpnode.chain.ticket_broker import REDEEM
from lpnode.command.demo_payment import DemoPayment
from lpnode.command.local_chain.evm_process import (
    EvmKind,
    EvmProgram,
    anvil_in,
    find_evm,
    running,
)
from lpnode.command.local_chain.paid_chain import PaidChain, running_paid_chain
from lpnode.errors import NoEvm, PeerGone
from lpnode.payment.ticket import MAX_WIN_PROB, TicketParams, recipient_rand_hash

FACE_VALUE = ETHER // 10
RECIPIENT_RAND = b"\x5a" * 32
WAITING = """
import sys, time
from pathlib import Path
from lpnode.command.local_chain.paid_chain import running_paid_chain
with running_paid_chain(Path(sys.argv[1])) as paid:
    print(paid.url, flush=True)
    time.sleep(100)
"""


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaidChain]:
    folder = tmp_path_factory.mktemp("keys")
    with skipped_without_evm():
        program = evm_of_this_run()
    with running_paid_chain(folder, reserve_wei=2 * ETHER, program=program) as running_one:
        yield running_one


async def test_the_orchestrator_is_active_and_the_gateway_has_funds(paid: PaidChain) -> None:
    async with JsonRpc(RpcConfig(urls=(paid.url,), chain_id=paid.chain_id)) as rpc:
        bonding = BondingManager(Eth(rpc), paid.chain.bonding_manager)
        assert await bonding.is_active(paid.orchestrator.address)
    assert await paid.funds() == (ETHER, 2 * ETHER)


def test_the_key_files_open_with_their_passwords(
    paid: PaidChain, caplog: pytest.LogCaptureFixture
) -> None:
    for key in (paid.orchestrator, paid.gateway):
        config = KeystoreConfig(path=key.path, password=str(key.password_path))
        assert open_keystore(config).address == key.address
    assert "can be read by others" not in caplog.text


def test_blocks_and_rounds_pass_on_demand(paid: PaidChain) -> None:
    with paid.chain.undone():
        before = paid.chain.block_number
        paid.mine(3)
        assert paid.chain.block_number == before + 3
        number = paid.chain.last_initialized_round
        assert paid.next_round() == number + 1


async def test_what_the_contract_pays_is_read_from_its_events(paid: PaidChain) -> None:
    chain = paid.chain
    with chain.undone():
        assert await paid.payouts() == ()
        round_number = chain.last_initialized_round
        params = TicketParams(
            recipient=paid.orchestrator.address,
            face_value_wei=FACE_VALUE,
            win_prob=MAX_WIN_PROB,
            recipient_rand_hash=recipient_rand_hash(RECIPIENT_RAND),
            seed=0,
            expiration_block=0,
            creation_round=round_number,
            creation_round_block_hash=chain.call(
                chain.rounds_manager, "blockHashForRound(uint256)", round_number
            ),
        )
        signer = open_keystore(
            KeystoreConfig(path=paid.gateway.path, password=str(paid.gateway.password_path))
        )
        signature = await signer.sign_message(params.preimage(signer.address, 1))
        ticket = (
            params.recipient,
            signer.address,
            FACE_VALUE,
            MAX_WIN_PROB,
            1,
            params.recipient_rand_hash,
            params.aux_data,
        )
        receipt = chain.send(
            paid.orchestrator.address,
            chain.ticket_broker,
            REDEEM.signature,
            ticket,
            signature,
            int.from_bytes(RECIPIENT_RAND, "big"),
        )
        (payout,) = await paid.payouts()
        assert (payout.sender, payout.recipient) == (signer.address, params.recipient)
        assert payout.amount_wei == paid.earned_wei() == FACE_VALUE
        assert payout.block_number == chain.block_number
        assert payout.transaction_hash.hex() == receipt["transactionHash"][2:]
        assert await paid.funds() == (ETHER - FACE_VALUE, 2 * ETHER)


async def test_a_demo_whose_node_is_gone_says_so(paid: PaidChain) -> None:
    with pytest.raises(PeerGone, match="does not tell what won"):
        await DemoPayment(paid, ETHER).settle("http://127.0.0.1:1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_the_node_ends_with_the_process_that_wanted_it(
    tmp_path: Path, paid: PaidChain, number: signal.Signals
) -> None:
    if number == signal.SIGKILL and shutil.which("setpriv") is None:
        pytest.skip("without setpriv nothing ends the node of a process that was killed")
    with subprocess.Popen(
        [sys.executable, "-P", "-c", WAITING, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = urlsplit(process.stdout.readline().strip())
        where = (str(url.hostname), int(url.port or 0))
        assert is_listening(where)
        process.send_signal(number)
        process.wait(timeout=30)
    deadline = time.monotonic() + 30
    while is_listening(where):
        assert time.monotonic() < deadline, "the node goes on"
        time.sleep(0.01)


def is_listening(where: tuple[str, int]) -> bool:
    try:
        socket.create_connection(where).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing but Python."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("LPNODE_EVM_TOOLS", raising=False)
    return tmp_path


def program_at(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    return path


def test_anvil_is_found_on_the_path(bare: Path) -> None:
    path = program_at(bare / "bin" / "anvil")
    assert find_evm() == EvmProgram(EvmKind.ANVIL, (str(path), "--order", "fifo"))


def test_anvil_is_found_among_npms_modules(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bare / "tools"
    monkeypatch.setenv("LPNODE_EVM_TOOLS", str(folder))
    path = program_at(anvil_in(folder / "node_modules"))
    assert find_evm().command[0] == str(path)


def test_without_anvil_it_is_py_evm(bare: Path) -> None:
    with skipped_without_evm():
        assert find_evm().kind is EvmKind.PY_EVM


def test_a_node_that_does_not_start_is_an_error_with_its_last_words() -> None:
    program = EvmProgram(EvmKind.ANVIL, ("sh", "-c", "echo no room for blocks; exit 3"))
    with pytest.raises(NoEvm, match="ended with 3:\nno room for blocks"), running(program):
        pass
