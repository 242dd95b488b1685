"""Checks of what a paid node would find on its chain: endpoint, contracts, account."""

import asyncio
from collections.abc import Callable, Sequence

from lpnode.command.verdict import Verdict
from lpnode.command.wallet import read_status
from lpnode.config import NodeConfig
from lpnode.errors import LpnodeError

_ANSWER_S = 30.0


def _chain(config: NodeConfig) -> Verdict:
    chain = config.chain
    if chain is None:
        return Verdict.ok("chain", "off-chain: nothing is paid")
    try:
        status = asyncio.run(asyncio.wait_for(read_status(config, chain), _ANSWER_S))
    except LpnodeError as error:
        return Verdict.missing("chain", str(error), "check -ethUrl and -ethController")
    except TimeoutError:
        return Verdict.missing(
            "chain", f"no answer within {_ANSWER_S:g} s", "check the endpoints of -ethUrl"
        )
    found = f"chain {status.chain_id}, account {status.account}"
    advice = status.advice()
    return Verdict.note("chain", found, "; ".join(advice)) if advice else Verdict.ok("chain", found)


CHAIN_CHECKS: Sequence[Callable[[NodeConfig], Verdict]] = (_chain,)
