"""A worker on the Python SDK: waits BENCH_MS and says when it began."""

import logging
import os
import time

from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.worker.worker_task import worker_task

TAKES = int(os.environ["BENCH_MS"]) / 1000


@worker_task(
    task_definition_name=os.environ["BENCH_TASK"],
    thread_count=int(os.environ["BENCH_CONCURRENCY"]),
    **({} if "BENCH_DEFAULTS" in os.environ else {"poll_interval_millis": 1, "poll_timeout": 5000}),
)
def work(order: dict) -> dict:
    began = time.time_ns() // 1000
    if TAKES > 0:
        time.sleep(TAKES)
    return {"began": began}


def main() -> None:
    # Reads CONDUCTOR_SERVER_URL.
    with TaskHandler(configuration=Configuration(log_level=logging.ERROR)) as handler:
        handler.start_processes()
        handler.join_processes()


if __name__ == "__main__":
    main()
