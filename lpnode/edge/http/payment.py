"""``/payment``: a gateway pays for a stream that runs. Source: payments.md section 2.11."""

import logging

from lpnode.admission.admit import Admitter, Credentials
from lpnode.admission.quote import Quote, echoed
from lpnode.admission.till import Till
from lpnode.edge.exchange import Request, Response
from lpnode.edge.routes import ANY, Route
from lpnode.errors import LpnodeError
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.payment_header import PAYMENT_HEADER
from lpnode.protocol.segment_header import SEGMENT_HEADER

_log = logging.getLogger(__name__)


class PaymentEndpoint:
    """Credits payments, and answers with new ticket parameters.

    ``till`` takes them; None off-chain, where there are neither payments nor parameters.
    """

    def __init__(self, admitter: Admitter, quote: Quote, till: Till | None) -> None:
        self._admitter = admitter
        self._quote = quote
        self._till = till

    def routes(self) -> list[Route]:
        """The table's line for payments."""
        return [Route(path="/payment", methods=ANY, handler=self.take)]

    async def take(self, request: Request) -> Response:
        """Answers with a ``net.PaymentResult``; refusals are raised, in the reference's order."""
        credentials = self._admitter.check(
            request.headers.get(PAYMENT_HEADER), request.headers.get(SEGMENT_HEADER)
        )
        if self._till is None:
            result = self._free_terms(credentials)
        else:
            await self._till.credit(credentials)
            # Whatever happens from here on, the payment is taken and must be acknowledged.
            result = await _new_terms(self._till, credentials)
        return Response(
            200, [("Content-Type", "application/octet-stream")], result.SerializeToString()
        )

    def _free_terms(self, credentials: Credentials) -> pb.PaymentResult:
        segment = credentials.segment
        info = self._quote.compose(
            is_full=not segment.HasField("capabilities"),
            token=echoed(segment.auth_token),
        )
        return pb.PaymentResult(info=pb.OrchestratorInfo.FromString(info))


async def _new_terms(till: Till, credentials: Credentials) -> pb.PaymentResult:
    """Empty when there are none to be had: a gateway then goes on with those it has."""
    segment = credentials.segment
    try:
        info = await till.quote.info(
            credentials.admission.sender,
            segment.capabilities if segment.HasField("capabilities") else None,
            token=segment.auth_token,
        )
    except LpnodeError as error:
        _log.warning("a payment is answered without new ticket parameters: %s", error)
        return pb.PaymentResult()
    return pb.PaymentResult(info=pb.OrchestratorInfo.FromString(info))
