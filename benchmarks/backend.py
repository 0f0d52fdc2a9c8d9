"""A fake LLM backend for measuring: a raw asyncio server with replies made in advance.

The request's JSON body says what is wanted: ``size`` bytes of a reply, or ``chunks`` events of a stream, sent at once
or ``delay`` seconds apart, each then beginning with the nanosecond at which it was sent.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@functools.cache
def reply(size: int) -> bytes:
    """A chat completion of about ``size`` bytes, as an HTTP response."""
    document = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    document["choices"][0]["message"]["content"] = 'plain "words" \\ ' * ((size - len(json.dumps(document))) // 19)
    body = json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@functools.cache
def chunks(count: int) -> tuple[bytes, ...]:
    """``count`` events of about 200 bytes, each an HTTP chunk of its own."""
    framed = []
    for number in range(count):
        delta = {"index": 0, "delta": {"content": f"#{number:06d} " + "token " * 8}, "finish_reason": None}
        document = {
            "id": "chatcmpl-bench",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "bench",
            "choices": [delta],
        }
        event = b"data: %b\n\n" % json.dumps(document, separators=(",", ":")).encode()
        framed.append(b"%x\r\n%b\r\n" % (len(event), event))
    return tuple(framed)


async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"content-length:" in head:
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
            else:
                body = b""
                while size := int(await reader.readline(), 16):
                    body += await reader.readexactly(size)
                    await reader.readexactly(2)
                await reader.readexactly(2)
            wanted = json.loads(body)
            if "size" in wanted:
                writer.write(reply(wanted["size"]))
            elif not wanted.get("delay"):
                writer.write(STREAM_HEAD + b"".join(chunks(wanted["chunks"])) + b"0\r\n\r\n")
            else:
                writer.write(STREAM_HEAD)
                for _ in range(wanted["chunks"]):
                    event = b"data: %d %b\n\n" % (time.monotonic_ns(), b"token " * 30)
                    writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                    await asyncio.sleep(wanted["delay"])
                writer.write(b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Listens on a free port of the loopback interface and prints it."""
    server = await asyncio.start_server(serve_connection, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
