"""An SMTP server for tests: writes its port, keeps what it takes as lines of JSON.

The folder given holds `options.json`; `port` and `messages` are written into it. Recipients whose
name begins with `refused` or `later` are refused for good or for now.
"""

import asyncio
import base64
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

FOLDER = sys.argv[1]
with open(os.path.join(FOLDER, "options.json"), encoding="utf-8") as file:
    OPTIONS = json.load(file)


class Keeper:
    """Keeps messages."""

    def __init__(self):
        self.taken = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused"):
            return "550 5.1.1 there is no such user"
        if address.startswith("later"):
            return "450 4.2.1 the user is away"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 taken"

    async def handle_DATA(self, server, session, envelope):
        self.taken += 1
        parsed = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        bodies = {kind: parsed.get_body((kind,)) for kind in ("plain", "html")}
        message = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "content": base64.b64encode(envelope.original_content).decode(),
            "headers": [[name, str(value)] for name, value in parsed.items()],
            "text": bodies["plain"].get_content().replace("\r\n", "\n") if bodies["plain"] else "",
            "html": bodies["html"].get_content().replace("\r\n", "\n") if bodies["html"] else None,
            "user": session.auth_data.login.decode() if session.auth_data else None,
            "tls": OPTIONS["tls"] == "tls" or session.ssl is not None,
        }
        with open(os.path.join(FOLDER, "messages"), "a", encoding="utf-8") as messages:
            messages.write(json.dumps(message) + "\n")
        return f"250 2.0.0 queued as {self.taken}"


def authenticate(server, session, envelope, mechanism, given):
    wanted = (OPTIONS["user"].encode(), OPTIONS["password"].encode())
    if (given.login, given.password) == wanted:
        return AuthResult(success=True, auth_data=given)
    return AuthResult(success=False, handled=False)


async def main():
    context = None
    if OPTIONS["tls"] != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(FOLDER, "server.pem"))
    starttls = OPTIONS["tls"] == "starttls"
    keeper = Keeper()

    def connection():
        return SMTP(
            keeper,
            hostname="localhost",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            authenticator=authenticate if OPTIONS["user"] else None,
            auth_required=bool(OPTIONS["user"]),
            auth_require_tls=starttls,
        )

    loop = asyncio.get_running_loop()
    wrapped = context if OPTIONS["tls"] == "tls" else None
    server = await loop.create_server(connection, "127.0.0.1", 0, ssl=wrapped)
    port = os.path.join(FOLDER, "port")
    with open(port + ".new", "w", encoding="utf-8") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(port + ".new", port)
    await server.serve_forever()


asyncio.run(main())
