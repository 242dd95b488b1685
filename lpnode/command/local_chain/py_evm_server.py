"""A node on py-evm with anvil's command line, as far as ``evm_process`` uses it."""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web

from lpnode.command.local_chain.evm_process import EvmAccount
from lpnode.command.local_chain.py_evm_chain import PyEvmChain
from lpnode.command.local_chain.py_evm_methods import Methods
from lpnode.command.local_chain.py_evm_pool import RequestRefused
from lpnode.protocol.ethereum import Account
from lpnode.protocol.keccak import keccak256

_BALANCE_WEI = 10_000 * 10**18
_NUM_ACCOUNTS = 10
_INVALID_REQUEST = -32600


def _accounts() -> list[EvmAccount]:
    """Known to everybody, so good for a chain on loopback alone."""
    keys = [keccak256(b"lpnode local chain %d" % number) for number in range(_NUM_ACCOUNTS)]
    return [EvmAccount(Account(key).address, key) for key in keys]


def _answer(methods: Methods, body: Any) -> dict[str, Any]:
    answer = {"jsonrpc": "2.0", "id": body.get("id") if isinstance(body, dict) else None}
    try:
        if not isinstance(body, dict) or not isinstance(body.get("params", []), list):
            raise RequestRefused("not a JSON-RPC request", _INVALID_REQUEST)
        result = methods.answer(str(body.get("method")), body.get("params", []))
    except RequestRefused as refused:
        error: dict[str, Any] = {"code": refused.code, "message": str(refused)}
        if refused.data is not None:
            error["data"] = refused.data
        return answer | {"error": error}
    return answer | {"result": result}


async def _serve(methods: Methods, host: str, port: int) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        try:
            body = await request.json()
        except ValueError:
            body = None
        # Nothing else runs on this loop, and one request after the other is what a chain is.
        return web.json_response(_answer(methods, body))

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        print(f"Listening on {host}:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Serves until it is killed; prints where it listens, and writes its accounts before."""
    parser = argparse.ArgumentParser(prog="py_evm_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8545)
    parser.add_argument("--chain-id", type=int, default=31337)
    parser.add_argument("--number", type=int, default=0, help="of the first block")
    parser.add_argument("--config-out", type=Path, help="a file for the accounts and their keys")
    arguments = parser.parse_args()
    accounts = _accounts()
    if arguments.config_out is not None:
        written = {
            "available_accounts": ["0x" + account.address.hex() for account in accounts],
            "private_keys": ["0x" + account.private_key.hex() for account in accounts],
        }
        arguments.config_out.write_text(json.dumps(written))
    balances = {bytes(account.address): _BALANCE_WEI for account in accounts}
    chain = PyEvmChain(arguments.chain_id, arguments.number, balances)
    keys = {bytes(account.address): account.private_key for account in accounts}
    asyncio.run(_serve(Methods(chain, keys), arguments.host, arguments.port))


if __name__ == "__main__":
    main()
