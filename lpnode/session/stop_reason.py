"""Why a live session ended."""

from enum import StrEnum


class StopReason(StrEnum):
    """Source: live.md section 8.2."""

    INPUT_ENDED = "the input channel was closed"
    CONTROL_ENDED = "the control channel was closed"
    OUTPUT_CLOSED = "the output channel was closed"
    UNPAID = "the gateway's balance does not cover the work"
    NO_INPUT = "no input came"
    PIPELINE_FAILED = "the pipeline failed"
    MEDIA_FAILED = "the media could not be processed"
    INTERNAL_ERROR = "internal error"
    SHUTDOWN = "the node is shutting down"
