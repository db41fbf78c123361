"""The benchmark's handler in Python: an ASGI function that says when it began."""

import asyncio
import os
import time

import uvicorn

TAKES = int(os.environ["BENCH_MS"]) / 1000
HEADERS = [(b"content-type", b"application/json")]


async def work(scope, receive, send):
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    began = time.time_ns() // 1000
    if TAKES > 0:
        await asyncio.sleep(TAKES)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b'{"began":%d}' % began})


if __name__ == "__main__":
    uvicorn.run(
        work,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
