"""The decision whether a request with these credentials may run.

Source: live.md section 2.2; payments.md section 2.3, checks 1 to 5.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lpnode.admission.auth_token import AuthTokens
from lpnode.admission.gateway_signature import is_segment_signed
from lpnode.errors import NotAuthorised
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.capability import meets
from lpnode.protocol.ethereum import Address, to_address
from lpnode.protocol.payment_header import parse_payment
from lpnode.protocol.segment_header import parse_segment


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitterConfig:
    """Off-chain every signature is valid; on-chain it must be the payment's sender's."""

    verify_signatures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who may run what. Payments of ``sender`` count towards ``manifest_id``.

    ``session_id`` is that of the auth token, which discovery handed out.
    """

    sender: Address
    session_id: str
    manifest_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An admission and the two messages that it was granted on."""

    admission: Admission
    payment: pb.Payment
    segment: pb.SegData


class Admitter:
    """Checks the two headers that every paid request carries."""

    def __init__(
        self,
        config: AdmitterConfig,
        *,
        tokens: AuthTokens,
        capabilities: Callable[[], pb.Capabilities],
    ) -> None:
        """``capabilities``: what the node offers now."""
        self._config = config
        self._tokens = tokens
        self._capabilities = capabilities

    def admit(self, payment_header: str, segment_header: str, manifest_id: str) -> Admission:
        """Decides on ``Livepeer-Payment`` and ``Livepeer-Segment``, in that order.

        ``manifest_id`` names the work that the payment is for; the caller made it.

        Raises:
            PaymentUnreadable: the payment header.
            NotAuthorised: the credentials, with the reference's text.
        """
        return self.check(payment_header, segment_header, manifest_id).admission

    def check(
        self, payment_header: str, segment_header: str, manifest_id: str | None = None
    ) -> Credentials:
        """As ``admit``, for those who need the messages too.

        ``manifest_id``: None for work that was begun before, which the credentials name.
        """
        payment = parse_payment(payment_header)
        sender = to_address(payment.sender)
        segment = parse_segment(segment_header)
        if self._config.verify_signatures and not is_segment_signed(sender, segment):
            raise NotAuthorised("ErrSegSig")
        if not meets(segment.capabilities, self._capabilities()):
            raise NotAuthorised("incompatible capabilities")
        self._tokens.check(segment.auth_token if segment.HasField("auth_token") else None)
        if manifest_id is None:
            manifest_id = segment.manifestId.decode(errors="backslashreplace")
        admission = Admission(
            sender=sender, session_id=segment.auth_token.session_id, manifest_id=manifest_id
        )
        return Credentials(admission=admission, payment=payment, segment=segment)
