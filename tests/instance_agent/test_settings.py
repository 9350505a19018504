from pathlib import Path
from uuid import UUID

import pytest

from instance_agent import settings

ID = "018f0000-0000-7000-8000-000000000001"
OPTIONS = {
    "--instance-id": ID,
    "--generation": "7",
    "--control-url": "http://127.0.0.1:8080/",
    "--data-dir": "/data",
    "--bootstrap-file": "/token",
}
EXPECTED = settings.Settings(
    instance_id=UUID(ID),
    generation=7,
    control_url="http://127.0.0.1:8080",
    data_dir=Path("/data"),
    bootstrap_file=Path("/token"),
    listen_host="127.0.0.1",
    listen_port=0,
)


def argv(**changes):
    options = {**OPTIONS, **{f"--{key.replace('_', '-')}": v for key, v in changes.items()}}
    return [word for pair in options.items() for word in pair]


class TestRead:
    def test_the_command_line(self):
        assert settings.read(argv(), {}) == EXPECTED

    def test_the_environment_fills_in_what_is_not_said(self):
        environ = {
            "BOTYARD_AGENT_" + key[2:].upper().replace("-", "_"): value
            for key, value in OPTIONS.items()
        }
        assert settings.read([], environ) == EXPECTED
        assert settings.read(["--generation", "8"], environ).generation == 8

    def test_an_ipv6_loopback_address(self):
        read = settings.read(argv(listen="[::1]:8443"), {})
        assert (read.listen_host, read.listen_port) == ("::1", 8443)

    def test_an_address_of_a_pod(self):
        read = settings.read(argv(listen="10.244.0.7:8443"), {})
        assert (read.listen_host, read.listen_port) == ("10.244.0.7", 8443)
        assert settings.read(argv(listen="fd00::7:8443"), {}).listen_host == "fd00::7"

    def test_tls_on_loopback_where_it_is_asked_for(self):
        assert not settings.read(argv(), {}).always_tls
        assert settings.read(argv(tls="always"), {}).always_tls
        assert settings.read(argv(), {"BOTYARD_AGENT_TLS": "always"}).always_tls

    def test_networks_where_models_may_be(self):
        read = settings.read(argv(outbound_allow="10.2.0.0/16, 127.0.0.1/32"), {})
        assert [str(network) for network in read.outbound_allow] == ["10.2.0.0/16", "127.0.0.1/32"]

    def test_what_a_release_says_to_all_agents_comes_by_the_environment(self):
        said = {"BOTYARD_AGENT_LOG_LEVEL": "debug", "BOTYARD_AGENT_MAX_CONNECTIONS": "64"}
        read = settings.read(argv(), said)
        assert (read.log_level, read.max_connections) == ("debug", 64)
        assert (EXPECTED.log_level, EXPECTED.max_connections) == ("info", 512)

    @pytest.mark.parametrize(
        "changes",
        [
            {"listen": "0.0.0.0:0"},
            {"listen": "127.0.0.1"},
            {"listen": "127.0.0.1:70000"},
            {"control_url": "ftp://x"},
            {"instance_id": "7"},
            {"generation": "x"},
            {"outbound_allow": "the-office"},
            {"log_level": "loud"},
            {"max_connections": "15"},
            {"max_connections": "none"},
        ],
    )
    def test_what_cannot_be_is_refused_with_2(self, changes, capsys):
        with pytest.raises(SystemExit) as ended:
            settings.read(argv(**changes), {})
        assert ended.value.code == 2
        assert "error: argument" in capsys.readouterr().err

    def test_help_teaches(self, capsys):
        with pytest.raises(SystemExit) as ended:
            settings.read(["--help"], {})
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert all(option in text for option in OPTIONS)
        assert "Exit codes" in text
