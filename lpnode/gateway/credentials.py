"""What a gateway signs beside tickets: its own address, and the credentials of a request.

Source: discovery.md section 3.2; payments.md sections 2.3 and 7.4.
"""

from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Account, Signature, checksum_text
from lpnode.protocol.segment_header import ai_segment, segment_header, signed_part


def address_signature(account: Account) -> Signature:
    """Signs the account's own address: what an on-chain node wants with GetOrchestrator."""
    return account.sign(checksum_text(account.address).encode())


def credentials_header(
    manifest_id: str, demand: pb.Capabilities, token: pb.AuthToken, account: Account | None
) -> str:
    """The ``Livepeer-Segment`` header; unsigned without an account, as off-chain."""
    segment = ai_segment(manifest_id.encode(), demand, token)
    if account is not None:
        segment.sig = account.sign(signed_part(segment))
    return segment_header(segment)
