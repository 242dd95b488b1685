"""What Prometheus reads from the node: the reference's names and labels."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lpnode.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_every_livepeer_sample_carries_the_node() -> None:
    metrics = Metrics(node_id="0x0-host")
    metrics.describe_node(version="0.9.1", max_sessions=10)
    metrics.ai_container_idle.set(
        2, pipeline="live-video-to-video", model_name="noop", orchestrator_uri=""
    )
    for name, labels in samples(metrics).items():
        if name.startswith("livepeer_") and name != "livepeer_versions":
            assert all(label["node_id"] == "0x0-host" for label in labels), name
            assert all(label["node_type"] == "orch" for label in labels), name
    (versions,) = samples(metrics)["livepeer_versions"]
    assert versions["livepeerversion"] == "0.9.1"
    assert "node_id" not in versions


def test_a_counter_has_no_suffix_and_is_declared_as_a_counter() -> None:
    metrics = Metrics(node_id="n")
    for _ in range(2):
        metrics.ai_models_requested.increase(pipeline="p", model_name='m"1')
    text = metrics.exposition().decode()
    assert "# TYPE livepeer_ai_models_requested counter\n" in text
    sample = 'livepeer_ai_models_requested{model_name="m\\"1",node_id="n",node_type="orch"'
    assert f'{sample},pipeline="p"}} 2.0\n' in text
    assert "livepeer_ai_models_requested_total" not in text


def test_gauges_that_live_elsewhere_are_refreshed_at_each_scrape() -> None:
    metrics = Metrics(node_id="n")
    running = [3, 4]
    metrics.at_scrape(lambda: metrics.live_sessions.set(running.pop(0)))
    assert b"lpnode_live_sessions 3.0" in metrics.exposition()
    assert b"lpnode_live_sessions 4.0" in metrics.exposition()


def test_a_missing_label_is_a_mistake_at_the_call() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Metrics(node_id="n").ai_request_errors.increase(pipeline="p")


def test_process_metrics_are_there() -> None:
    assert "process_resident_memory_bytes" in samples(Metrics(node_id="n"))
