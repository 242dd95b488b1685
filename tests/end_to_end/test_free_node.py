"""A node off-chain: payments are empty, taken, and worth nothing. Source: payments.md section 6."""

from pathlib import Path

import httpx
import pytest
from end_to_end.whole_node import whole_node

from lpnode.gateway.credentials import credentials_header
from lpnode.gateway.discover import demand_for, discovery_request, get_orchestrator
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import LIVE_VIDEO_TO_VIDEO

DEMAND = demand_for(LIVE_VIDEO_TO_VIDEO, "noop")


@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
async def test_an_empty_payment_is_answered_and_the_token_is_still_checked(
    http2: bool, tmp_path: Path
) -> None:
    """O1."""
    async with whole_node(tmp_path) as node, httpx.AsyncClient(verify=False, http2=http2) as http:
        info = (await get_orchestrator(node.service_uri, discovery_request(DEMAND))).info
        assert not info.HasField("ticket_params")
        assert not info.HasField("price_info")
        url = f"{node.service_uri}/payment"
        segment = credentials_header("8badf00d", DEMAND, info.auth_token, None)
        for headers in (
            {"Livepeer-Segment": segment},
            {"Livepeer-Segment": segment, "Livepeer-Payment": ""},
        ):
            answer = await http.post(url, headers=headers)
            assert answer.status_code == 200
            result = pb.PaymentResult.FromString(answer.content).info
            assert result.auth_token == info.auth_token
            assert result.transcoder == node.service_uri
            assert not result.HasField("ticket_params")
            assert not result.HasField("price_info")
        token = pb.AuthToken.FromString(info.auth_token.SerializeToString())
        token.expiration += 1
        forged = credentials_header("8badf00d", DEMAND, token, None)
        for header, text in ((forged, "invalid auth token"), ("", "missing auth token")):
            answer = await http.post(url, headers={"Livepeer-Segment": header})
            assert (answer.status_code, answer.text) == (403, f"{text}\n")
