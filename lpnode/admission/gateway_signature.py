"""Signatures that gateways make: on discovery requests and on segment credentials.

Source: discovery.md section 3.2.
"""

from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Address, checksum_text, is_message_signed_by
from lpnode.protocol.segment_header import signed_part


def is_request_signed(sender: Address, signature: bytes) -> bool:
    """Whether ``sender`` signed a discovery request.

    It signs its own address and nothing else: no proof that the request is fresh.
    """
    return is_message_signed_by(sender, checksum_text(sender).encode(), signature)


def is_segment_signed(sender: Address, segment: pb.SegData) -> bool:
    """Whether ``sender`` signed the manifest, seq, hash and profiles of ``segment``."""
    return is_message_signed_by(sender, signed_part(segment), segment.sig)
