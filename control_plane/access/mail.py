"""Mail: over SMTP where a server is set, else only a line in the log that says that it is off."""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import structlog

# Seconds that a mail server may take for each step.
TIMEOUT_S = 10.0
# Mails on their way at once: each occupies a thread.
_AT_ONCE = 2
# Mails that wait for one of those; more are not sent, and people ask again.
_MOST_WAITING = 100
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

log = structlog.get_logger()


class Mailer(Protocol):
    """Sends mail as well as it can; whoever calls does not learn whether it arrived."""

    async def send(self, *, to: str, subject: str, text: str) -> None: ...


class NoMailer:
    """For a house without a mail server."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        log.warning("mail is off; set BOTYARD_SMTP_URL to send it", subject=subject)


class SmtpMailer:
    """Hands each mail to one server, encrypted unless that is on this machine."""

    def __init__(self, url: str, *, sender: str) -> None:
        self._server = urlsplit(url)
        self._sender = sender
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def send(self, *, to: str, subject: str, text: str) -> None:
        if self._waiting >= _MOST_WAITING:
            log.warning("mail was not sent", subject=subject, error="too many are waiting")
            return
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, to, subject
        message.set_content(text)
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.to_thread(_deliver, self._server, message)
        except (OSError, smtplib.SMTPException) as error:
            # The server's own words may name the address.
            log.warning("mail was not sent", subject=subject, error=type(error).__name__)
        finally:
            self._waiting -= 1


def make_mailer(smtp_url: str | None, *, public_url: str) -> Mailer:
    """The mailer that the settings ask for; mail comes from `botyard@` our public host."""
    if smtp_url is None:
        return NoMailer()
    return SmtpMailer(smtp_url, sender=f"botyard@{urlsplit(public_url).hostname}")


def _deliver(server: SplitResult, message: EmailMessage) -> None:
    with _connect(server, ssl.create_default_context()) as connection:
        if server.username:
            connection.login(unquote(server.username), unquote(server.password or ""))
        connection.send_message(message)


def _connect(server: SplitResult, context: ssl.SSLContext) -> smtplib.SMTP:
    host = server.hostname or ""
    if server.scheme == "smtps":
        return smtplib.SMTP_SSL(host, server.port or 465, timeout=TIMEOUT_S, context=context)
    connection = smtplib.SMTP(host, server.port or 587, timeout=TIMEOUT_S)
    if host not in _LOOPBACK:
        connection.starttls(context=context)
    return connection
