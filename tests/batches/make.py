#!/usr/bin/env python3
"""Makes the batches here anew; see README.md. Wants KAFKA_SERVER and KAFKA_DIR, which `tests/kafka/kafka run` sets."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time

import kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SERVER = os.environ["KAFKA_SERVER"]
DATA = pathlib.Path(os.environ["KAFKA_DIR"]) / "data"
HERE = pathlib.Path(__file__).resolve().parent
TOOL = HERE.parent / "kafka" / "kafka"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
SECOND_MS = 1_700_000_000_000

admin = AdminClient({"bootstrap.servers": SERVER})


def topic(name, **config):
    config = {key.replace("_", "."): str(value) for key, value in config.items()}
    config.setdefault("retention.ms", "-1")
    config.setdefault("message.timestamp.after.max.ms", str(2**63 - 1))
    for future in admin.create_topics([NewTopic(name, 1, 1, config=config)]).values():
        future.result()
    return name


def long(codec):
    """Longer than a block of the codecs, and not all the same; short where nothing is compressed."""
    return b" ".join(hashlib.sha256(b"%d" % (at % 60)).hexdigest().encode() for at in range(3 if codec == "none" else 1500))


def values(codec):
    short = [f"value {at} ".encode() * 3 for at in range(20)]
    return [*short, long(codec), b""]


# --- the clients ----------------------------------------------------------------------------------


def by_kcat(codec):
    name = topic(f"kcat-{codec}")
    headers = [b"a=1", b"a=2", b"\xff\xfe=not UTF-8", b"empty=", b"null"]
    command = ["kcat", "-P", "-b", SERVER, "-t", name, "-z", codec, "-K:", "-Z", "-X", "linger.ms=500"]
    command += [word for header in headers for word in (b"-H", header)]
    lines = [b"key %d:%s" % (at, b"value " * 30) for at in range(30)] + [b":no key", b"no value:"]
    subprocess.run(command, input=b"\n".join(lines) + b"\n", check=True)


def by_java(codec, label=None, **properties):
    name = topic(label or f"java-{codec}")
    command = [TOOL, "tool", "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", SERVER, "--topic", name]
    command += ["--compression-codec", codec]
    for key, value in {"linger.ms": 500, "batch.size": 500_000, **properties}.items():
        command += ["--command-property", f"{key}={value}"]
    for key, value in {"parse.key": "true", "parse.headers": "true", "null.marker": "NULL"}.items():
        command += ["--reader-property", f"{key}={value}"]
    lines = [f"a:1,a:2,b:NULL\tkey {at}\t{'value ' * 20}{at}" for at in range(20)]
    lines += ["x:y\tNULL\tno key", "x:y\tno value\tNULL", f"x:y\tlong\t{long(codec).decode()}"]
    subprocess.run(command, input="\n".join(lines).encode() + b"\n", check=True)


def by_librdkafka(codec):
    name = topic(f"librdkafka-{codec}")
    producer = Producer({"bootstrap.servers": SERVER, "compression.type": codec, "linger.ms": 500})
    for at, value in enumerate(values(codec)):
        headers = [("same", b"1"), ("same", None), ("", b""), ("null", None)] if at % 2 else None
        producer.produce(name, value, f"key {at}" if at % 3 else None, headers=headers, timestamp=SECOND_MS + at)
    producer.produce(name, None, "tombstone", timestamp=SECOND_MS * 1_000_000)
    producer.flush()


def by_kafka_python(codec):
    name = topic(f"kafka-python-{codec}")
    compression = None if codec == "none" else codec
    producer = kafka.KafkaProducer(
        bootstrap_servers=SERVER, compression_type=compression, linger_ms=500, batch_size=500_000, enable_idempotence=False
    )
    for at, value in enumerate(values(codec)):
        producer.send(name, value, key=b"key", headers=[("h", b"v")], timestamp_ms=SECOND_MS - at)
    producer.flush()


def transactions():
    name = topic("transactions")

    def producer(who):
        made = Producer({"bootstrap.servers": SERVER, "transactional.id": who, "linger.ms": 100})
        made.init_transactions()
        return made

    one, two = producer("one"), producer("two")
    for ending in ["commit_transaction", "abort_transaction", "abort_transaction", "commit_transaction"]:
        one.begin_transaction()
        two.begin_transaction()
        for at in range(3):
            one.produce(name, f"one, {ending} {at}")
            two.produce(name, f"two, always aborted {at}")
            one.flush()
            two.flush()
        getattr(one, ending)()
        two.abort_transaction()
    plain = Producer({"bootstrap.servers": SERVER})
    plain.produce(name, "no transaction")
    plain.flush()


def appended():
    name = topic("log-append-time", message_timestamp_type="LogAppendTime")
    producer = Producer({"bootstrap.servers": SERVER, "compression.type": "lz4", "linger.ms": 500})
    for at in range(5):
        producer.produce(name, f"value {at}", timestamp=SECOND_MS + at)
    producer.flush()


def compacted():
    """Holes in batches, in one codec each, and a batch of which nothing is left but its offsets."""
    name = topic(
        "compacted",
        cleanup_policy="compact",
        min_cleanable_dirty_ratio=0.001,
        segment_ms=1000,
        delete_retention_ms=0,
        min_compaction_lag_ms=0,
        max_compaction_lag_ms=1000,
    )
    rounds = [*CODECS, "none"]
    for number, codec in enumerate(rounds):
        config = {"bootstrap.servers": SERVER, "compression.type": codec, "linger.ms": 300, "enable.idempotence": True}
        # Of an idempotent producer's last batch at least the header is kept.
        gone = Producer(config)
        gone.produce(name, "is written again below", "last")
        gone.flush()
        producer = Producer(config)
        for at in range(12):
            producer.produce(name, f"{codec} {at} " * 10, f"key {at % 7 if at % 2 else (number, at)}")
        producer.flush()
    # Half of each batch but the last one is written again by the next one.
    left = (len(rounds) + 1) * 6
    producer = Producer({"bootstrap.servers": SERVER})
    deadline = time.monotonic() + 60
    # The active segment is never cleaned, and ends only when something is written.
    while sum(record["key"] != short(b"last") for record in read(name)) > left:
        assert time.monotonic() < deadline, "nothing was compacted"
        producer.produce(name, "the last", "last")
        producer.flush()
        time.sleep(1)


# --- what they wrote ------------------------------------------------------------------------------


def short(content):
    if content is None or len(content) <= 200:
        return content if content is None else content.hex()
    return f"sha256 {hashlib.sha256(content).hexdigest()}"


def read(name, isolation="read_uncommitted"):
    """The topic as librdkafka reads it."""
    if name.startswith("kcat-"):
        # The Python client crashes where the name of a header is not UTF-8.
        yield from read_by_kcat(name)
        return
    consumer = Consumer(
        {"bootstrap.servers": SERVER, "group.id": "none", "isolation.level": isolation, "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(name, 0, 0)])
    while True:
        message = consumer.poll(10)
        assert message is not None, "no end in sight"
        if message.error():
            break
        yield {
            "offset": message.offset(),
            "timestamp": message.timestamp()[1],
            "key": short(message.key()),
            "value": short(message.value()),
            "headers": [[name.encode().hex(), short(value)] for name, value in message.headers() or []],
        }
    consumer.close()


def read_by_kcat(name):
    form = "%o %T %K %S\n%k\n%s\n%h\n"
    command = ["kcat", "-C", "-b", SERVER, "-t", name, "-e", "-q", "-Z", "-f", form]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.split(b"\n")
    for numbers, key, value, headers in zip(*(lines[at::4] for at in range(4))):
        offset, timestamp, key_length, value_length = map(int, numbers.split())
        pairs = [header.split(b"=") for header in headers.split(b",")]
        yield {
            "offset": offset,
            "timestamp": timestamp,
            "key": None if key_length < 0 else short(key),
            "value": None if value_length < 0 else short(value),
            "headers": [[name.hex(), None if value == b"NULL" else short(value)] for name, value in pairs],
        }


def keep(name):
    segments = sorted((DATA / f"{name}-0").glob("*.log"))
    content = b"".join(segment.read_bytes() for segment in segments)
    records = list(read(name))
    committed = [record["offset"] for record in read(name, "read_committed")]
    (HERE / f"{name}.log").write_bytes(content)
    lines = ",\n".join(json.dumps(record) for record in records)
    (HERE / f"{name}.json").write_text(f'{{"committed": {json.dumps(committed)},\n"records": [\n{lines}\n]}}\n')
    print(name, len(content), "bytes", len(records), "records", flush=True)


def main():
    for codec in CODECS:
        by_kcat(codec)
        by_java(codec)
        by_librdkafka(codec)
        by_kafka_python(codec)
    by_java("zstd", "java-zstd-22", **{"compression.zstd.level": 22})
    by_java("lz4", "java-lz4-17", **{"compression.lz4.level": 17})
    transactions()
    appended()
    compacted()
    # The cleaner has done all there is to do.
    time.sleep(3)
    for name in sorted(path.name.removesuffix("-0") for path in DATA.glob("*-0") if not path.name.startswith("__")):
        keep(name)


sys.exit(main())
