#!/usr/bin/python3
"""Carries messages between a test and a WebSocket server; the WebSocket is that of the package websockets.

Usage: web_client.py URI [CERTIFICATE NAME]
On both pipes every message has its length in front, in four bytes, the highest first. When the input ends
the WebSocket is closed; the last line on standard error is the close code.
"""
import asyncio
import ssl
import struct
import sys

import websockets


async def send(socket):
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    number = 0
    try:
        while True:
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            text = await reader.readexactly(length)
            number += 1
            # Every second message goes as bytes: a gateway has to take both.
            await socket.send(text if number % 2 == 0 else text.decode())
    except asyncio.IncompleteReadError:
        await socket.close()


async def hear(socket):
    async for message in socket:
        message = message.encode() if isinstance(message, str) else message
        sys.stdout.buffer.write(struct.pack(">I", len(message)) + message)
        sys.stdout.buffer.flush()


async def main(uri, certificate=None, name=None):
    options = {"subprotocols": ["sip"], "ping_interval": None, "max_size": 65536}
    if certificate:
        options["ssl"] = ssl.create_default_context(cafile=certificate)
        options["server_hostname"] = name
    async with websockets.connect(uri, **options) as socket:
        assert socket.subprotocol == "sip", socket.subprotocol
        sender = asyncio.ensure_future(send(socket))
        await hear(socket)
        sender.cancel()
        print(socket.close_code, file=sys.stderr)


asyncio.run(main(*sys.argv[1:]))
