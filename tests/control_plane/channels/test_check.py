"""What is told of a channel, as a table."""

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.channels.check import Asked, findings
from control_plane.channels.models import Channel
from control_plane.kit.ids import new_id
from instance_agent.protocol import ChannelCheck, ChannelFault, ChannelState, ChannelStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def channel(kind: str = "wecom", **changes: datetime | None) -> Channel:
    return Channel(
        id=new_id(),
        tenant_id=new_id(),
        instance_id=new_id(),
        kind=kind,
        name="x",
        secrets=b"",
        public_token="t",
        created_at=NOW,
        **changes,
    )


def said(state: ChannelState = "connected", reason: str | None = None, **faults: str) -> Asked:
    return Asked(
        there=True,
        said=ChannelCheck(
            status=ChannelStatus(channel_id=new_id(), state=state, reason=reason, proof_at=NOW),
            probed=True,
            **{
                name: ChannelFault(error_class=error_class, detail="why", path="/x")
                for name, error_class in faults.items()
            },
        ),
    )


def told(asked: Asked, of: Channel | None = None, wrong=None) -> dict[str, bool | None]:
    return {each.code: each.ok for each in findings(of or channel(), asked, wrong)}


class TestFindings:
    @pytest.mark.parametrize("by", ["probe", "run", "sends"])
    @pytest.mark.parametrize(
        ("error_class", "code"),
        [
            ("secret_invalid", "credentials"),
            ("token_invalid", "credentials"),
            ("no_permission", "permission"),
            ("bot_banned", "permission"),
            ("ip_not_allowed", "trusted_address"),
        ],
    )
    def test_a_refusal_belongs_to_what_it_is_about(
        self, by: str, error_class: str, code: str
    ) -> None:
        found = told(said("failed", "why", **{by: error_class}))

        others = {"credentials", "permission", "trusted_address"} - {code}
        assert found[code] is False
        assert all(found[each] is None for each in others)

    def test_what_is_connected_was_taken(self) -> None:
        found = told(said(), channel(callback_at=NOW))

        assert set(found.values()) == {True}

    def test_a_platform_that_is_away_refuses_nothing(self) -> None:
        found = findings(channel(), said("failed", "it cannot be reached"), None)
        by_code = {each.code: each for each in found}

        assert by_code["credentials"].ok is None
        assert by_code["connection"].text == "The channel is failed: it cannot be reached."

    @pytest.mark.parametrize("there", [False, None])
    def test_without_an_agent_the_platform_was_not_asked(self, there: bool | None) -> None:
        assert set(told(Asked(there=there))) == {"agent", "settings", "callback"}

    def test_a_setting_that_is_not_valid_has_its_path(self) -> None:
        [wrong] = [
            each
            for each in findings(channel(), said(), ("/corp_id", "too long"))
            if each.code == "settings"
        ]

        assert (wrong.ok, wrong.path) == (False, "/corp_id")

    @pytest.mark.parametrize(
        ("called", "refused", "ok"),
        [(None, None, False), (0, None, True), (None, 0, False), (1, 0, True), (0, 1, False)],
    )
    def test_the_last_call_counts(self, called, refused, ok: bool) -> None:
        at = {None: None} | {n: NOW + n * timedelta(minutes=1) for n in (0, 1)}
        found = told(said(), channel(callback_at=at[called], callback_refused_at=at[refused]))

        assert found["callback"] is ok

    def test_a_kind_without_an_address_to_enter_has_no_such_finding(self) -> None:
        assert "callback" not in told(said(), channel("webchat"))
