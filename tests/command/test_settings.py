"""How settings are read: one or two dashes, LP_ variables, both kinds of file, their order."""

from pathlib import Path

import pytest

from lpnode.config.node_config import NodeConfig, node_config
from lpnode.config.serve_flags import SERVE_FLAGS, flags_help
from lpnode.config.settings import Settings, parse_duration, read_settings
from lpnode.errors import ConfigError

SPECIFIED = """
orchestrator aiWorker network serviceAddr nodes httpAddr cliAddr orchSecret orchAddr dataDir
maxSessions startupAvailabilityCheck authWebhookUrl nvidia aiModels aiModelsDir aiRunnerImage
aiRunnerImageOverrides aiVerboseLogs aiRunnerContainersPerGPU aiMinRunnerVersion
aiProcessingRetryTimeout aiServiceRegistry aiServerless livePaymentInterval
liveAITrickleHostForRunner liveOutSegmentTimeout liveAICapReportInterval useLiveRunners
liveRunnerConfig liveRunnerAddr liveRunnerProxyUrl orchMinLivepeerVersion pricePerUnit
pixelsPerUnit pricePerGateway pricePerBroadcaster priceFeedAddr autoAdjustPrice ticketEV
maxFaceValue ethUrl ethAcctAddr ethPassword ethKeystorePath ethOrchAddr ethController maxGasPrice
minGasPrice gasLimit transactionTimeout maxTransactionReplacements blockPollingInterval redeemer
redeemerAddr reward initializeRound initializeRoundMaxDelay monitor metricsPerStream
metricsClientIP metadataQueueUri metadataAmqpExchange metadataPublishTimeout
kafkaBootstrapServers kafkaUser kafkaPassword kafkaGatewayTopic v config objectStore datadir
""".split()  # noqa: SIM905


def read(*arguments: str, **environment: str) -> Settings:
    return read_settings(SERVE_FLAGS, arguments, environment)


def configured(*arguments: str, **environment: str) -> NodeConfig:
    return node_config(read(*arguments, **environment))


def test_every_flag_of_the_specification_is_accepted() -> None:
    known = {name for flag in SERVE_FLAGS for name in (flag.name, *flag.aliases)}
    assert set(SPECIFIED) <= known


def test_a_value_may_follow_an_equals_sign_or_be_the_next_argument() -> None:
    for arguments in (["-serviceAddr=a:1"], ["--serviceAddr", "a:1"], ["-serviceAddr", "a:1"]):
        assert read(*arguments).text("serviceAddr") == "a:1"


def test_a_boolean_stands_alone_and_needs_equals_to_be_false() -> None:
    assert read("-logJson").boolean("logJson")
    assert not read("--monitor=false").boolean("monitor")
    with pytest.raises(ConfigError, match="unexpected argument 'false'"):
        read("-monitor", "false")


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.conf"
    file.write_text("# a comment\nv 1\nmaxSessions 3   # transcoding\nnodes a:1\n\nmonitor false\n")
    settings = read("-v", "5", LP_V="4", LP_MAXSESSIONS="7", LP_CONFIG=str(file))
    assert settings.text("v") == "5"
    assert settings.text("maxSessions") == "7"
    assert settings.text("nodes") == "a:1"
    assert not settings.boolean("monitor")


def test_a_toml_file_may_group_settings_in_tables(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'v = 2\n[network]\nserviceAddr = "h:1"\nnodes = ["a:1", "b:2"]\nmonitor = false'
    )
    settings = read("-config", str(file))
    assert (settings.integer("v"), settings.text("nodes")) == (2, "a:1,b:2")
    assert not settings.boolean("monitor")


def test_mistakes_are_named_with_their_place_and_a_remedy(tmp_path: Path) -> None:
    file = tmp_path / "node.conf"
    file.write_text("serviceAdr h:1\n")
    for arguments, message in [
        (["-serviceAdr", "x"], "unknown setting -serviceAdr; did you mean -serviceAddr?"),
        (["-config", str(file)], "node.conf line 1: serviceAdr; did you mean -serviceAddr?"),
        (["-v"], "-v needs a value: an integer"),
        (["-v", "loud"], "-v: 'loud' is not an integer"),
        (["-drainTimeout", "5"], "-drainTimeout: '5' is not a duration such as 500ms"),
        (["serve"], "unexpected argument 'serve'"),
        (["-config", str(tmp_path / "none")], "cannot read"),
    ]:
        with pytest.raises(ConfigError) as caught:
            read(*arguments)
        assert message in str(caught.value)


def test_durations_are_read_as_go_writes_them() -> None:
    texts = ["500ms", "5s", "25m", "1h30m", "1m0.5s", "0"]
    assert [parse_duration(text) for text in texts] == [0.5, 5, 1500, 5400, 60.5, 0]


def test_values_without_meaning_here_are_reported_and_secrets_masked() -> None:
    settings = read("-orchSecret", "hunter2", "-v=2", LP_ETHPASSWORD="p", LP_KAFKAPASSWORD="q")
    assert sorted(settings.unused()) == ["-orchSecret", "LP_KAFKAPASSWORD"]
    hidden = dict.fromkeys(("orchSecret", "ethPassword", "kafkaPassword"), "***")
    assert settings.masked() == hidden | {"v": "2"}


def test_the_service_address_gets_https_and_must_have_a_port() -> None:
    assert configured("-serviceAddr", "h.example:8935").service_uri == "https://h.example:8935"
    assert configured("-serviceAddr", "http://h:1/").service_uri == "http://h:1"
    for bad in ("h.example", "ftp://h:1", "https://h:1/path", "h:99999"):
        with pytest.raises(ConfigError):
            configured("-serviceAddr", bad)


def test_the_listener_takes_its_port_from_the_service_address() -> None:
    config = configured("-serviceAddr", "h:9000")
    assert (config.listen.host, config.listen.port, config.is_tls) == ("", 9000, True)
    config = configured("-serviceAddr", "h:9000", "-httpAddr", "http://127.0.0.1:81")
    assert (str(config.listen), config.is_tls) == ("127.0.0.1:81", False)
    assert configured("-httpAddr", "[::1]:5").listen.host == "::1"


def test_an_empty_service_address_is_made_from_the_listener() -> None:
    assert configured("-httpAddr", "http://:81").service_uri.startswith("http://")
    assert configured("-httpAddr", ":81").service_uri.endswith(":81")
    assert configured().listen.port == 8935


def test_listener_mistakes_have_the_reference_texts() -> None:
    with pytest.raises(ConfigError, match=r'^unsupported -httpAddr scheme "ftp"$'):
        configured("-httpAddr", "ftp://:1")
    with pytest.raises(ConfigError, match=r"^-httpAddr must not include a path$"):
        configured("-httpAddr", "https://:1/x")


def test_a_directory_node_needs_nodes() -> None:
    config = configured("-serviceAddr", "none", "-nodes", "a:1,https://b:2")
    assert config.service_uri == ""
    assert config.nodes == ("https://a:1", "https://b:2")
    with pytest.raises(ConfigError, match="needs -nodes"):
        configured("-serviceAddr", "none")
    with pytest.raises(ConfigError, match="must be https"):
        configured("-serviceAddr", "none", "-nodes", "http://a:1")


def test_the_operator_port_is_loopback_by_default() -> None:
    assert configured().operator.is_loopback
    assert not configured("-cliAddr", ":7935").operator.is_loopback


def test_settings_this_node_cannot_honour_are_refused() -> None:
    for arguments in (
        ["-network", "arbitrum-one-mainnet"],
        ["-orchestrator=false"],
        ["-certFile", "c.pem"],
        ["-maxSessions", "many"],
        ["-v", "7"],
    ):
        with pytest.raises(ConfigError):
            configured(*arguments)


def test_help_names_every_flag() -> None:
    text = flags_help()
    assert all(flag.name in text for flag in SERVE_FLAGS)
    assert max(map(len, text.splitlines())) <= 98
    # No name runs into what it means.
    assert all(f"  -{flag.name} " in text for flag in SERVE_FLAGS if flag.is_used)


def test_one_gpu_or_none_is_chosen_by_number(tmp_path: Path) -> None:
    config = configured("-nvidia", "1", "-aiBackend", "torch", "-dataDir", str(tmp_path))
    assert (config.gpu, config.may_use_gpu, config.ai_backend) == (1, True, "torch")
    assert config.ai_precision == "auto"
    assert configured("-aiPrecision", "bf16").ai_precision == "bf16"
    assert config.diffusion_models == tmp_path / "models"
    assert not configured("-nvidia", "none").may_use_gpu
    assert configured("-aiModelsDir", "/srv/models").diffusion_models == Path("/srv/models")
    with pytest.raises(ConfigError, match="-nvidia: expected the number of one GPU, or none"):
        configured("-nvidia", "0,1")
