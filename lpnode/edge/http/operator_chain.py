"""The operator's port about the chain: the account, the contracts, the round, what gas may cost.

Source: discovery.md section 7.3, the paths marked as on-chain only.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from lpnode.edge.exchange import Handler, Request, Response, text_response

# Managing stake is not this node's: the orchestrator's own wallet does that.
_ELSEWHERE = (
    "/orchestratorInfo",
    "/tokenBalance",
    "/registeredOrchestrators",
    "/delegatorInfo",
    "/protocolParameters",
    "/setOrchestratorConfig",
    "/activateOrchestrator",
    "/setMaxFaceValue",
    "/setMaxGasPrice",
    "/setMinGasPrice",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFacts:
    """What is known of the chain. ``balance_wei`` asks it and may raise ``ChainError``.

    Addresses are checksummed texts. Gas prices are in wei; ``max_gas_price_wei`` is None without
    a limit.
    """

    chain_id: int
    account: str
    contracts: Mapping[str, str]
    balance_wei: Callable[[], Awaitable[int]]
    current_round: Callable[[], int]
    is_round_initialized: Callable[[], bool]
    max_gas_price_wei: int | None
    min_gas_price_wei: int


def chain_handlers(facts: Callable[[], ChainFacts | None]) -> dict[str, Handler]:
    """Every path by its name. ``facts`` returns None off-chain."""

    def answering(tell: Callable[[ChainFacts], str]) -> Handler:
        async def handle(_: Request) -> Response:
            known = facts()
            return _off_chain() if known is None else text_response(200, tell(known))

        return handle

    async def chain_id(_: Request) -> Response:
        known = facts()
        return text_response(200, str(known.chain_id if known else 0))

    async def balance(_: Request) -> Response:
        known = facts()
        if known is None:
            return _off_chain()
        return text_response(200, str(await known.balance_wei()))

    async def contracts(_: Request) -> Response:
        known = facts()
        if known is None:
            return _off_chain()
        body = json.dumps(dict(known.contracts)).encode()
        return Response(200, [("Content-Type", "application/json")], body)

    async def elsewhere(request: Request) -> Response:
        if facts() is None:
            return _off_chain()
        return text_response(501, f"{request.path} is not a call of this node\n")

    handlers: dict[str, Handler] = {
        "/EthChainID": chain_id,
        "/ethAddr": answering(lambda known: known.account),
        "/ethBalance": balance,
        "/contractAddresses": contracts,
        "/currentRound": answering(lambda known: str(known.current_round())),
        "/roundInitialized": answering(lambda known: str(known.is_round_initialized()).lower()),
        "/maxGasPrice": answering(lambda known: str(known.max_gas_price_wei or 0)),
        "/minGasPrice": answering(lambda known: str(known.min_gas_price_wei)),
    }
    return handlers | dict.fromkeys(_ELSEWHERE, elsewhere)


def _off_chain() -> Response:
    return text_response(500, "missing ETH client\n")
