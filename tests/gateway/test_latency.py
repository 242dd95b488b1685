"""What the meter says about frames that come back, late, twice or never."""

import math

from lpnode.gateway.latency import LatencyMeter, summarise


class SetClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_percentiles_are_by_nearest_rank() -> None:
    summary = summarise([number / 100 for number in range(100, 0, -1)])
    assert (summary.p50_s, summary.p95_s, summary.p99_s, summary.max_s) == (0.5, 0.95, 0.99, 1.0)
    assert summarise([0.3]).p99_s == 0.3
    assert math.isnan(summarise([]).p50_s)


def test_a_frame_is_measured_from_its_making_to_its_return() -> None:
    clock = SetClock()
    meter = LatencyMeter(clock)
    for number in range(3):
        meter.mark_sent(number)
        clock.now_s += 0.5
    assert meter.mark_returned(0) is not None
    returned = meter.mark_returned(2)
    assert returned is not None
    assert returned.latency_s == 0.5
    assert (meter.sent, meter.lost, meter.sent_fps()) == (3, 1, 2.0)


def test_a_repeated_and_an_unknown_frame_do_not_count() -> None:
    meter = LatencyMeter(SetClock())
    meter.mark_sent(7)
    assert meter.mark_returned(7) is not None
    assert meter.mark_returned(7) is None
    assert meter.mark_returned(9) is None
    assert (meter.repeated, meter.unknown, len(meter.returns)) == (1, 1, 1)


def test_the_first_seconds_can_be_left_out() -> None:
    clock = SetClock()
    meter = LatencyMeter(clock)
    meter.mark_sent(0)
    clock.now_s += 0.9
    meter.mark_returned(0)
    clock.now_s += 1
    meter.mark_sent(1)
    clock.now_s += 0.1
    meter.mark_returned(1)
    assert meter.summary().count == 2
    assert math.isclose(meter.summary(since_s=1.5).max_s, 0.1)
