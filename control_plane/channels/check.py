"""Whether a channel is ready to go live: tried now through its agent, said in plain words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from adapters import registry
from adapters.registry import UnknownKind
from control_plane.channels import settings
from control_plane.channels.models import Channel
from control_plane.db.session import Database, Scope
from control_plane.instances import sessions
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused, AgentSilent
from control_plane.kit.crypto import Keyring
from instance_agent.document import document_errors
from instance_agent.protocol import ChannelCheck, ChannelFault

Code = Literal[
    "agent", "settings", "credentials", "permission", "trusted_address", "connection", "callback"
]
# Which finding a refusal belongs to; what is in neither says nothing of the settings.
_FOUND: dict[str, Code] = {
    "secret_invalid": "credentials",
    "token_invalid": "credentials",
    "token_expired": "credentials",
    "token_missing": "credentials",
    "no_permission": "permission",
    "bot_banned": "permission",
    "ip_not_allowed": "trusted_address",
}
_TEXTS: dict[tuple[Code, bool | None], tuple[str, str]] = {
    ("agent", True): ("The bot is running.", "机器人正在运行。"),
    ("agent", False): (
        "The bot is not running or cannot be reached, so the platform was not asked.",
        "机器人没有运行或暂时联系不上，因此没有向平台核对。",
    ),
    ("agent", None): (
        "The bot has not taken this channel over yet. Try again in a moment.",
        "机器人还没有接管这个渠道，请稍后再试。",
    ),
    ("settings", True): ("The settings are complete.", "设置完整。"),
    ("credentials", True): ("The platform takes the credentials.", "平台接受了凭证。"),
    ("credentials", None): (
        "The platform has not said whether it takes the credentials.",
        "平台还没有确认凭证是否有效。",
    ),
    ("permission", True): ("The account may do what it needs.", "账号权限足够。"),
    ("permission", None): (
        "No permission was refused; it shows when the channel is connected.",
        "没有发现缺少的权限；渠道连接后才能确认。",
    ),
    ("trusted_address", True): (
        "The platform accepts calls from this server.",
        "平台接受来自本服务器的调用。",
    ),
    ("trusted_address", None): (
        "It shows when the channel is connected whether the platform accepts this server.",
        "渠道连接后才能确认平台是否接受本服务器的地址。",
    ),
    ("connection", True): ("The channel is connected.", "渠道已连接。"),
    ("callback", True): ("The platform has called our address.", "平台已经调用过我们的地址。"),
    ("callback", None): (
        "The platform called, and the signature did not fit: compare token and key there.",
        "平台调用过我们的地址，但签名不符：请核对平台后台里的 Token 和密钥。",
    ),
    ("callback", False): (
        "The platform has never called our address: copy the callback address into its console.",
        "平台还从未调用过我们的地址：请把回调地址填到平台后台。",
    ),
}
_STATES_ZH = {"connecting": "正在连接", "failed": "连接失败", "stopped": "已停止"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at; `ok` None where it cannot be told now."""

    code: Code
    ok: bool | None
    text: str
    text_zh: str
    path: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the agent said; `there` None when it runs and does not have the channel yet."""

    there: bool | None
    said: ChannelCheck | None = None


class Checks:
    """Tries channels."""

    def __init__(self, database: Database, keys: Keyring, agents: AgentClient) -> None:
        self._database = database
        self._keys = keys
        self._agents = agents

    async def of(self, channel: Channel) -> list[Finding]:
        """What was found, the first things first."""
        scope = Scope(tenants=(channel.tenant_id,))
        async with self._database.session(scope) as session:
            agent = await sessions.active_agent(session, self._keys, channel.instance_id)
        asked = Asked(there=False)
        if agent is not None:
            try:
                asked = Asked(there=True, said=await self._agents.check(agent, channel.id))
            except AgentRefused:
                asked = Asked(there=None)
            except (AgentAway, AgentSilent):
                pass
        return findings(channel, asked, self._wrong_settings(channel))

    def _wrong_settings(self, channel: Channel) -> tuple[str, str] | None:
        """(path, why) of the first setting that this version does not take."""
        try:
            model = registry.kind(channel.kind).settings()
            model.model_validate(channel.settings | settings.unseal(self._keys, channel.secrets))
        except UnknownKind:
            return "", f"no adapter for {channel.kind} is installed"
        except ValidationError as error:
            [first, *_] = document_errors(error, prefix="")
            return first.path, first.message
        return None


def findings(channel: Channel, asked: Asked, wrong: tuple[str, str] | None) -> list[Finding]:
    """What to tell of a channel; pure."""
    found = [_plain("agent", asked.there), _settings(wrong)]
    if asked.said is not None:
        faults = [each for each in (asked.said.probe, asked.said.run, asked.said.sends) if each]
        connected = asked.said.status.state == "connected"
        found += [
            _refused(code, faults, otherwise=connected or None)
            for code in ("credentials", "permission", "trusted_address")
        ]
        found.append(_connection(asked.said))
    if wrong is None and registry.kind(channel.kind).callback:
        found.append(_called(channel))
    return found


def _settings(wrong: tuple[str, str] | None) -> Finding:
    if wrong is None:
        return _plain("settings", True)
    path, why = wrong
    text, zh = f"A setting is not valid: {why}.", f"有一项设置无效：{why}。"
    return Finding(code="settings", ok=False, text=text, text_zh=zh, path=path)


def _refused(code: Code, faults: Sequence[ChannelFault], *, otherwise: bool | None) -> Finding:
    fault = next((each for each in faults if _FOUND.get(each.error_class) == code), None)
    if fault is None:
        return _plain(code, otherwise)
    return Finding(
        code=code,
        ok=False,
        text=f"The platform says no: {fault.detail}.",
        text_zh=f"平台拒绝：{fault.detail}。",
        path=fault.path or None,
    )


def _connection(said: ChannelCheck) -> Finding:
    status = said.status
    if status.state == "connected":
        return _plain("connection", True, at=status.proof_at)
    why = status.reason or "no answer yet"
    return Finding(
        code="connection",
        ok=False,
        text=f"The channel is {status.state}: {why}.",
        text_zh=f"渠道{_STATES_ZH[status.state]}：{status.reason or '尚无应答'}。",
        at=status.proof_at,
    )


def _called(channel: Channel) -> Finding:
    at, refused_at = channel.callback_at, channel.callback_refused_at
    if refused_at is not None and (at is None or at < refused_at):
        return replace(_plain("callback", None, at=refused_at), ok=False)
    return _plain("callback", at is not None, at=at)


def _plain(code: Code, ok: bool | None, *, at: datetime | None = None) -> Finding:
    text, zh = _TEXTS[code, ok]
    return Finding(code=code, ok=ok, text=text, text_zh=zh, at=at)
