"""The ``Livepeer-Segment`` header: ``net.SegData``, a gateway's signed credentials.

Source: payments.md section 2.3; discovery.md section 3.2.
"""

from collections.abc import Iterable

from lpnode.errors import NotAuthorised
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.base64_message import (
    NotAMessage,
    NotBase64,
    decode_message,
    encode_message,
)
from lpnode.protocol.keccak import keccak256

SEGMENT_HEADER = "Livepeer-Segment"

EMPTY_HASH = keccak256(b"")
"""What AI requests carry as segment hash: there is no segment."""

# AI requests have no transcoding profiles; gateways still fill the retired field with this text.
_RETIRED_PROFILES = b"invalid"
_MAX_DURATION_MS = 5 * 60 * 1000


def parse_segment(header: str) -> pb.SegData:
    """Reads the header and checks what can be checked without keys.

    Raises: NotAuthorised: with the text that the reference answers (HTTP 403).
    """
    try:
        segment = decode_message(pb.SegData, header)
    except NotBase64 as error:
        raise NotAuthorised("ErrorSegEncoding") from error
    except NotAMessage as error:
        raise NotAuthorised(f"protobuf unmarshal error: {error}") from error
    known = pb.VideoProfile.Format.values()
    if any(profile.format not in known for profile in profiles_of(segment)):
        raise NotAuthorised("unrecognized profile output format")
    if not 0 <= segment.duration <= _MAX_DURATION_MS:
        raise NotAuthorised("invalid duration")
    return segment


def profiles_of(segment: pb.SegData) -> Iterable[pb.VideoProfile]:
    """The transcoding profiles from the newest field that has any; none in AI requests."""
    return segment.fullProfiles3 or segment.fullProfiles2 or segment.fullProfiles


def signed_part(segment: pb.SegData) -> bytes:
    """Returns what the gateway signed: manifest, seq, hash and profile names.

    Not covered by the signature: duration, capabilities, auth token, storage.
    """
    return flatten(
        segment.manifestId,
        segment.seq,
        segment.hash,
        (profile.name for profile in profiles_of(segment)),
    )


def flatten(manifest: bytes, seq: int, hash32: bytes, profile_names: Iterable[str]) -> bytes:
    """Joins the signed fields. ``seq`` becomes a 32-byte big-endian number."""
    names = b"".join(keccak256(name.encode())[:4].hex().encode() for name in profile_names)
    # A negative seq is signed as its magnitude, as the reference's big integers do it.
    return manifest + abs(seq).to_bytes(32, "big") + hash32[-32:].rjust(32, b"\0") + names


def ai_segment(
    manifest: bytes,
    capabilities: pb.Capabilities,
    token: pb.AuthToken,
    signature: bytes = b"",
) -> pb.SegData:
    """Builds the credentials of an AI request, as a gateway does; unsigned off-chain."""
    return pb.SegData(
        manifestId=manifest,
        hash=EMPTY_HASH,
        profiles=_RETIRED_PROFILES,
        sig=signature,
        capabilities=capabilities,
        auth_token=token,
    )


def segment_header(segment: pb.SegData) -> str:
    """Returns the header's value."""
    return encode_message(segment)
