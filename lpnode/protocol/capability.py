"""Numbered capabilities: names, bitstrings, and the test whether an offer meets a demand.

Source: discovery.md section 4.
"""

from collections.abc import Iterable, Sequence

from lpnode.errors import NotCapable
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.version import is_version_compatible

CAPABILITY_NAMES: dict[int, str] = {
    -2: "Invalid",
    -1: "Unused",
    0: "H.264",
    1: "MPEGTS",
    2: "MP4",
    3: "Fractional framerates",
    4: "Storage direct",
    5: "Storage S3",
    6: "Storage GCS",
    7: "H264 Baseline profile",
    8: "H264 Main profile",
    9: "H264 High profile",
    10: "H264 Constrained, Contained High profile",
    11: "GOP",
    12: "Auth token",
    14: "MPEG7 signature",
    15: "HEVC decode",
    16: "HEVC encode",
    17: "VP8 decode",
    18: "VP9 decode",
    19: "VP8 encode",
    20: "VP9 encode",
    21: "H264 Decode YUV444 8-bit",
    22: "H264 Decode YUV422 8-bit",
    23: "H264 Decode YUV444 10-bit",
    24: "H264 Decode YUV422 10-bit",
    25: "H264 Decode YUV420 10-bit",
    26: "Segment slicing",
    27: "Text to image",
    28: "Image to image",
    29: "Image to video",
    30: "Upscale",
    31: "Audio to text",
    32: "Segment anything 2",
    33: "Llm",
    34: "Image to text",
    35: "Live video to video",
    36: "Text to speech",
    37: "byoc",
}

LIVE_VIDEO_TO_VIDEO = 35

PIPELINES: dict[str, int] = {
    CAPABILITY_NAMES[capability].lower().replace(" ", "-"): capability
    for capability in range(27, 37)
}
"""The ten AI pipelines by the name that configuration and requests use."""

DEFAULT_CAPABILITIES: frozenset[int] = frozenset({*range(13), 14, 26})
"""What every orchestrator advertises besides its AI bits; gateways demand all of them."""


def capability_of(pipeline: str) -> int:
    """Returns the capability number of an AI pipeline such as ``text-to-image``.

    Only the ten names themselves are accepted; the reference also takes spellings such as
    ``Text-to-image`` and the names of transcoding capabilities.

    Raises: NotCapable: it is none of the ten AI pipelines.
    """
    try:
        return PIPELINES[pipeline]
    except KeyError:
        raise NotCapable("pipeline not available") from None


def pipeline_of(capability: int) -> str:
    """Returns the pipeline name that gateways derive from a capability number."""
    return CAPABILITY_NAMES.get(capability, str(capability)).lower().replace(" ", "-")


def to_bitstring(capabilities: Iterable[int]) -> list[int]:
    """Returns the 64-bit words, least significant bit first; negative numbers set no bit."""
    words: list[int] = []
    for capability in capabilities:
        if capability < 0:
            continue
        word, bit = divmod(capability, 64)
        words.extend([0] * (word + 1 - len(words)))
        words[word] |= 1 << bit
    return words


def from_bitstring(words: Sequence[int]) -> list[int]:
    """Returns the capability numbers whose bits are set, ascending."""
    return [
        64 * index + bit
        for index, word in enumerate(words)
        for bit in range(word.bit_length())
        if word >> bit & 1
    ]


def capacities_of(message: pb.Capabilities) -> dict[int, int]:
    """Returns the message's capacities, or 1 for each set bit when it carries none."""
    if message.capacities:
        return dict(message.capacities)
    return dict.fromkeys(from_bitstring(message.bitstring), 1)


def is_subset(words: Sequence[int], of: Sequence[int]) -> bool:
    """Whether all bits are in ``of``. More words than ``of`` has is a no, even if they are zero."""
    return len(words) <= len(of) and all(
        word & other == word for word, other in zip(words, of, strict=False)
    )


def meets(demand: pb.Capabilities, offer: pb.Capabilities) -> bool:
    """Whether ``offer`` can serve ``demand``. Capacity numbers are not compared.

    Source: discovery.md section 4.6, in its order.
    """
    if not is_version_compatible(demand.constraints.minVersion, offer.version):
        return False
    if not is_subset(offer.mandatories, demand.bitstring):
        return False
    offered = offer.constraints.PerCapability
    for capability, constraints in demand.constraints.PerCapability.items():
        # No entry at all passes this step; the bitstring decides then.
        if capability in offered and not _meets_models(constraints, offered[capability]):
            return False
    return is_subset(demand.bitstring, offer.bitstring)


def _meets_models(
    demand: pb.Capabilities.CapabilityConstraints, offer: pb.Capabilities.CapabilityConstraints
) -> bool:
    for model_id, wanted in demand.models.items():
        if model_id not in offer.models:
            return False
        offered = offer.models[model_id]
        if wanted.warm and not offered.warm:
            return False
        if not is_version_compatible(wanted.runnerVersion, offered.runnerVersion):
            return False
    return True
