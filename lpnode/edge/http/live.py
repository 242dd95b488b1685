"""``POST /live-video-to-video``: a gateway starts a live session. Source: live.md section 2."""

import time

from lpnode.admission.admit import Admitter
from lpnode.admission.till import Till
from lpnode.edge.exchange import Request, Response, read_body, text_response
from lpnode.edge.routes import Route
from lpnode.errors import LpnodeError
from lpnode.payment.meter import Meter
from lpnode.protocol.live_job import JSON, LiveJob, encode_live_answer, parse_live_job
from lpnode.session.live_sessions import LIVE_PIPELINE, LiveSessions

MAX_BODY_BYTES = 10 << 20
"""Parameters may carry images and workflows."""
BODY_TIMEOUT_S = 5.0
"""A gateway gives the whole request up after as long. Source: live.md section 2.5."""


class LiveEndpoint:
    """Starts sessions for jobs that are admitted.

    ``channels_url`` is the advertised service URI with the trickle base path: where gateways find
    the channels of a session. ``till`` takes payments; None where work is free.
    """

    def __init__(
        self,
        sessions: LiveSessions,
        admitter: Admitter,
        *,
        channels_url: str,
        till: Till | None = None,
    ) -> None:
        self._sessions = sessions
        self._admitter = admitter
        self._channels_url = channels_url
        self._till = till

    def routes(self) -> list[Route]:
        """The table's lines for live video."""
        return [
            Route(
                path=f"/{LIVE_PIPELINE}",
                methods="POST",
                handler=self.start,
                max_body_bytes=MAX_BODY_BYTES,
            )
        ]

    async def start(self, request: Request) -> Response:
        """Answers with the session's channels; refusals are raised, in the order of section 2.2.

        A gateway that leaves in the middle cannot keep the slot; what it has paid stays credited.
        """
        if _media_type(request) != JSON:
            return text_response(415, f"Content-Type must be {JSON}\n")
        received_ms = round(time.time() * 1000)
        job = parse_live_job(
            await read_body(request, timeout_s=BODY_TIMEOUT_S),
            stream_id=request.headers.get("streamID"),
            request_id=request.headers.get("requestID"),
            received_ms=received_ms,
        )
        try:
            body = await self._start(request, job)
        except LpnodeError as error:
            self._sessions.count_refusal(job.model_id, error)
            raise
        return Response(200, [("Content-Type", JSON)], body)

    async def _start(self, request: Request, job: LiveJob) -> bytes:
        with self._sessions.reserve(job.model_id) as place:
            credentials = self._admitter.check(
                request.headers.get("Livepeer-Payment"),
                request.headers.get("Livepeer-Segment"),
                place.manifest_id,
            )
            meter: Meter | None = None
            if self._till is not None:
                meter = await self._till.begin_live(credentials, job.model_id)
            try:
                self._sessions.start(place, job, credentials.admission, meter)
            except BaseException:  # whatever it was, nobody else closes the meter
                if meter is not None:
                    meter.close("the session could not be started")
                raise
            return encode_live_answer(place.manifest_id, self._channels_url)


def _media_type(request: Request) -> str:
    return request.headers.get("Content-Type").partition(";")[0].strip().lower()
