"""Mail, to a real SMTP server on this machine."""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
import structlog
from pydantic import ValidationError

from control_plane.access import mail
from control_plane.access.mail import NoMailer, SmtpMailer, make_mailer
from control_plane.settings import Settings

LINK = "https://bots.example.com/app/reset#a-secret-token"


class Server:
    """As much of SMTP as one mail needs."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.mails: list[EmailMessage] = []
        self.commands: list[str] = []

    @asynccontextmanager
    async def run(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := (await reader.readline()).strip().decode():
            self.commands.append(line)
            if line.upper().startswith("RCPT") and self.refuses:
                writer.write(b"550 unknown " + line.encode() + b"\r\n")
            elif line.upper() == "DATA":
                writer.write(b"354 go on\r\n")
                raw = await reader.readuntil(b"\r\n.\r\n")
                self.mails.append(message_from_bytes(raw, policy=policy.default))  # type: ignore[arg-type]
                writer.write(b"250 taken\r\n")
            elif line.upper() == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 yes\r\n")
        writer.close()
        await writer.wait_closed()


async def send(mailer: mail.Mailer) -> list[dict[str, Any]]:
    """Send one mail; what was logged about it."""
    with structlog.testing.capture_logs() as logs:
        await mailer.send(to="anna@example.com", subject="重置密码", text=f"请打开 {LINK}\n")
    return logs


class TestSmtpMailer:
    async def test_hands_the_mail_over(self) -> None:
        server = Server()
        async with server.run() as port:
            url = f"smtp://127.0.0.1:{port}"
            logs = await send(make_mailer(url, public_url="https://bots.example.com"))

        [mail] = server.mails
        assert (mail["from"], mail["to"]) == ("botyard@bots.example.com", "anna@example.com")
        assert mail["subject"] == "重置密码"
        assert LINK in mail.get_content()
        assert logs == []

    async def test_a_refused_mail_is_a_line_in_the_log_that_names_nobody(self) -> None:
        server = Server(refuses=True)
        async with server.run() as port:
            logs = await send(SmtpMailer(f"smtp://127.0.0.1:{port}", sender="b@example.com"))

        assert [log["event"] for log in logs] == ["mail was not sent"]
        assert "anna" not in str(logs)
        assert LINK not in str(logs)

    async def test_a_server_that_is_away_is_a_line_in_the_log(self) -> None:
        async with Server().run() as port:
            pass
        logs = await send(SmtpMailer(f"smtp://u:the-password@127.0.0.1:{port}", sender="b@x.org"))

        assert [log["error"] for log in logs] == ["ConnectionRefusedError"]
        assert "the-password" not in str(logs)

    async def test_a_header_cannot_be_smuggled_in(self) -> None:
        mailer = SmtpMailer("smtp://127.0.0.1:9", sender="b@example.com")

        with pytest.raises(ValueError, match="linefeed"):
            await mailer.send(to="a@example.com\nBcc: b@example.com", subject="x", text="y")

    async def test_another_machine_is_spoken_to_encrypted_before_it_hears_the_password(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for scheme, spoken in (
            ("smtp", ["connect mail.example.com 587", "starttls", "login anna p@ss", "send"]),
            ("smtps", ["connect encrypted mail.example.com 465", "login anna p@ss", "send"]),
        ):
            said: list[str] = []
            monkeypatch.setattr(smtplib, "SMTP", talker(said, "connect"))
            monkeypatch.setattr(smtplib, "SMTP_SSL", talker(said, "connect encrypted"))
            url = f"{scheme}://anna:p%40ss@mail.example.com"

            assert await send(SmtpMailer(url, sender="b@example.com")) == []
            assert said == spoken


def talker(said: list[str], verb: str) -> Callable[..., Any]:
    """Stands in for the client of a machine that tests cannot reach."""

    class Talker:
        def __init__(self, host: str, port: int, **more: Any) -> None:
            assert more["timeout"] == mail.TIMEOUT_S
            said.append(f"{verb} {host} {port}")

        def __enter__(self) -> "Talker":
            return self

        def __exit__(self, *_: object) -> None: ...

        def starttls(self, *, context: Any) -> None:
            assert context.check_hostname
            said.append("starttls")

        def login(self, user: str, password: str) -> None:
            said.append(f"login {user} {password}")

        def send_message(self, _message: EmailMessage) -> None:
            said.append("send")

    return Talker


class TestNoMailer:
    async def test_says_that_mail_is_off_and_never_what_it_was(self) -> None:
        mailer = make_mailer(None, public_url="https://bots.example.com")
        logs = await send(mailer)

        assert isinstance(mailer, NoMailer)
        assert [log["event"] for log in logs] == ["mail is off; set BOTYARD_SMTP_URL to send it"]
        assert LINK not in str(logs)
        assert "anna" not in str(logs)


class TestSettings:
    def test_take_the_address_of_a_mail_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BOTYARD_SMTP_URL", "smtps://u:pass-word@mail.example.com:465")

        settings = Settings()

        assert settings.mail_server == "smtps://u:pass-word@mail.example.com:465"
        assert "pass-word" not in repr(settings)

    @pytest.mark.parametrize("url", ["mail.example.com", "http://x", "smtp://", "smtp://x:port"])
    def test_refuse_what_is_none_without_showing_it(
        self, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("BOTYARD_SMTP_URL", url)

        with pytest.raises(ValidationError) as refused:
            Settings()

        [error] = refused.value.errors(include_input=False)
        assert error["loc"] == ("smtp_url",)
