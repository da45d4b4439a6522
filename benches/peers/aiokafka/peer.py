"""The service that Longshore's users come from, in its essence: aiokafka and a ThreadPoolExecutor.

It runs a task (nothing, or a sleep) for every message of a topic on a thread, answers where asked, and
ends when N messages are done. As that service did, it lets the client commit what was polled, so a crash
loses what was running.
"""

import argparse
import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

# Ends a run that nobody is there to end.
DEADLINE_S = 600


def seconds(text: str) -> float:
    """Reads `0`, `10ms` or `5s`."""
    if text.endswith("ms"):
        return float(text[:-2]) / 1000
    return float(text.removesuffix("s"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--reply-topic")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--task-time", type=seconds, default=0.0)
    parser.add_argument("--messages", type=int, required=True)
    return parser.parse_args()


def task(duration_s: float) -> float:
    """The blocking task; returns how long it took, in seconds."""
    began = time.monotonic()
    if duration_s > 0:
        time.sleep(duration_s)
    return time.monotonic() - began


def answer_of(record, took_s: float) -> tuple[bytes, list[tuple[str, bytes]]]:
    value = {
        "status": "ok",
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "took_ms": int(took_s * 1000),
    }
    headers = [
        ("longshore.topic", record.topic.encode()),
        ("longshore.partition", str(record.partition).encode()),
        ("longshore.offset", str(record.offset).encode()),
        ("longshore.status", b"ok"),
    ]
    return json.dumps(value).encode(), headers


class Service:
    def __init__(self, arguments: argparse.Namespace, producer: AIOKafkaProducer | None) -> None:
        self.arguments = arguments
        self.producer = producer
        self.pool = ThreadPoolExecutor(arguments.workers)
        # What is handed out and not finished: twice the workers, so that none of them waits.
        self.room = asyncio.Semaphore(2 * arguments.workers)
        self.running: set[asyncio.Task] = set()
        self.finished = 0
        self.first = self.last = 0.0

    async def handle(self, record) -> None:
        loop = asyncio.get_running_loop()
        took_s = await loop.run_in_executor(self.pool, task, self.arguments.task_time)
        if self.producer is not None:
            value, headers = answer_of(record, took_s)
            await self.producer.send_and_wait(
                self.arguments.reply_topic, value, key=record.key, headers=headers
            )
        self.finished += 1
        self.last = time.monotonic()
        self.room.release()

    async def work_off(self, consumer: AIOKafkaConsumer) -> None:
        handed_out = 0
        while handed_out < self.arguments.messages:
            batches = await consumer.getmany(timeout_ms=1000, max_records=500)
            for record in (record for batch in batches.values() for record in batch):
                await self.room.acquire()
                self.first = self.first or time.monotonic()
                running = asyncio.create_task(self.handle(record))
                self.running.add(running)
                running.add_done_callback(self.running.discard)
                handed_out += 1
        await asyncio.gather(*self.running)


def max_rss_kb() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


async def main() -> None:
    start = time.monotonic()
    arguments = parse_arguments()
    consumer = AIOKafkaConsumer(
        arguments.topic,
        bootstrap_servers=arguments.brokers,
        group_id=arguments.group,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=arguments.brokers) if arguments.reply_topic else None
    service = Service(arguments, producer)
    await consumer.start()
    if producer is not None:
        await producer.start()
    try:
        await service.work_off(consumer)
    finally:
        if producer is not None:
            await producer.stop()
        await consumer.stop()
    print(
        json.dumps(
            {
                "messages": service.finished,
                "work_ms": round((service.last - service.first) * 1000, 3),
                "elapsed_ms": round((time.monotonic() - start) * 1000, 3),
                "max_rss_kb": max_rss_kb(),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
