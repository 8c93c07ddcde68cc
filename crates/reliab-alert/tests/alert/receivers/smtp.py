"""A mail server on loopback for tests: STARTTLS, a password, and faults by the names of its readers.

Prints its port; appends each mail that it takes to a file, one JSON object a line.
"""
import argparse
import asyncio
import base64
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

parser = argparse.ArgumentParser()
parser.add_argument("--mails", required=True)
parser.add_argument("--certificate")
parser.add_argument("--key")
parser.add_argument("--password")
parser.add_argument("--mode", default="starttls", choices=["starttls", "tls", "plain", "silent", "busy"])
options = parser.parse_args()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("nobody@"):
            return "550 5.1.1 no such user"
        if address.startswith("later@"):
            return "450 4.2.0 greylisted, come back"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        first = envelope.rcpt_tos[0]
        if first.startswith("spam@"):
            return "554 5.7.1 looks like spam"
        if first.startswith("full@"):
            return "452 4.3.1 no room"
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or options.mode == "tls",
            "user": session.auth_data.login.decode() if session.authenticated else None,
            "data": base64.b64encode(envelope.original_content).decode(),
        }
        with open(options.mails, "a") as file:
            file.write(json.dumps(mail) + "\n")
        if first.startswith("cut@"):
            server.transport.abort()
        if first.startswith("hold@"):
            await asyncio.sleep(60)
        return "250 OK: taken as 42"


def authenticate(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and data.password.decode() == options.password
    return AuthResult(success=right, handled=False, auth_data=data)


async def fault(reader, writer):
    if options.mode == "busy":
        writer.write(b"421 4.3.2 too many connections\r\n")
        await writer.drain()
        writer.close()
    else:
        await asyncio.sleep(60)


async def main():
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    loop = asyncio.get_running_loop()
    if options.mode in ("silent", "busy"):
        server = await asyncio.start_server(fault, "127.0.0.1", 0)
    else:
        starttls = options.mode == "starttls"

        def protocol():
            return SMTP(
                Handler(),
                hostname="mail.example.org",
                require_starttls=starttls,
                tls_context=context if starttls else None,
                authenticator=authenticate if options.password else None,
                auth_required=bool(options.password),
                auth_require_tls=starttls,
            )

        wrapped = context if options.mode == "tls" else None
        server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=wrapped)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
