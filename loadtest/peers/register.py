"""Registers one user with sippy's own transaction layer and digest; exit 0 when the answer is 200.

Usage: register.py HOST:PORT USER PASSWORD ALGORITHM LOCAL_PORT
"""
import sys

from sippy.Core.EventDispatcher import ED2
from sippy.SipLogger import SipLogger
from sippy.SipRegistrationAgent import SipRegistrationAgent
from sippy.SipTransactionManager import SipTransactionManager
from sippy.SipURL import SipURL


class OneAlgorithm(SipRegistrationAgent):
    """sippy takes the first challenge that it knows; this leaves it only the one asked for."""

    def __init__(self, algorithm, *arguments, **named):
        self.algorithm = algorithm
        super().__init__(*arguments, **named)

    def gotreply(self, response):
        for header in list(response.getHFs("www-authenticate")):
            body = header.getBody()
            if (body.algorithm or "MD5") != self.algorithm:
                response.removeHeader(header)
        super().gotreply(response)


def main():
    server, user, password, algorithm, local_port = sys.argv[1:6]
    host, port = server.rsplit(":", 1)
    settings = {
        "_sip_address": host,
        "_sip_port": int(local_port),
        "_sip_logger": SipLogger("peer"),
        "nh_addr": None,
    }
    settings["_sip_tm"] = SipTransactionManager(settings, lambda request, transaction: (None, None, None))
    agent = OneAlgorithm(
        algorithm,
        settings,
        SipURL(username=user, host=host, port=int(port)),
        SipURL(username=user, host=host, port=int(local_port)),
        user=user,
        passw=password,
        exp=300,
        rok_cb=lambda when, contact, argument: ED2.breakLoop(0),
        rfail_cb=lambda line, argument: ED2.breakLoop(1),
        target=((host, int(port)), "udp"),
    )
    agent.doregister()
    return ED2.loop(10)


if __name__ == "__main__":
    code = main()
    sys.exit(1 if code is None else code)
