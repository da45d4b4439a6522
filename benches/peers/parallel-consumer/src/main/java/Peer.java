import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The reference in Java: Confluent's Parallel Consumer, unordered, as its README shows it. It runs a task
 * (nothing, or a sleep) for every message of a topic, answers where asked (pollAndProduce, which counts a
 * message when its answer is acknowledged), and ends when N messages are done.
 */
public final class Peer {
    private static final byte[] OK = bytes("ok");
    /** Ends a run that nobody is there to end. */
    private static final Duration DEADLINE = Duration.ofMinutes(10);

    private final String brokers;
    private final String group;
    private final String topic;
    private final String replyTopic;
    private final int workers;
    private final long taskMillis;
    private final long messages;

    private final AtomicLong firstNanos = new AtomicLong();
    private final AtomicLong finished = new AtomicLong();
    private final CountDownLatch done = new CountDownLatch(1);
    private volatile long lastNanos;

    private Peer(Map<String, String> flags) {
        brokers = required(flags, "--brokers");
        group = required(flags, "--group");
        topic = required(flags, "--topic");
        replyTopic = flags.get("--reply-topic");
        workers = Integer.parseInt(flags.getOrDefault("--workers", "32"));
        taskMillis = millis(flags.getOrDefault("--task-time", "0"));
        messages = Long.parseLong(required(flags, "--messages"));
    }

    public static void main(String[] args) throws Exception {
        long start = System.nanoTime();
        Map<String, String> flags = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) {
            flags.put(args[i], args[i + 1]);
        }
        new Peer(flags).run(start);
    }

    private void run(long start) throws Exception {
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
                .ordering(ProcessingOrder.UNORDERED)
                .maxConcurrency(workers)
                .consumer(new KafkaConsumer<>(consumerSettings()));
        if (replyTopic != null) {
            options.producer(new KafkaProducer<>(producerSettings()));
        }
        var processor = ParallelStreamProcessor.createEosStreamProcessor(options.build());
        processor.subscribe(List.of(topic));
        if (replyTopic == null) {
            processor.poll(context -> {
                task();
                finish();
            });
        } else {
            processor.pollAndProduce(
                    context -> answer(context.getSingleConsumerRecord(), task()), result -> finish());
        }
        if (!done.await(DEADLINE.toSeconds(), TimeUnit.SECONDS)) {
            System.err.println("not done within " + DEADLINE);
            System.exit(1);
        }
        processor.close();
        System.out.printf(
                "{\"messages\":%d,\"work_ms\":%.3f,\"elapsed_ms\":%.3f,\"max_rss_kb\":%d}%n",
                finished.get(),
                (lastNanos - firstNanos.get()) / 1e6,
                (System.nanoTime() - start) / 1e6,
                maxRssKb());
        System.exit(0);
    }

    /** Runs the task and returns how long it took, in milliseconds. */
    private long task() {
        long began = System.nanoTime();
        if (firstNanos.get() == 0) {
            firstNanos.compareAndSet(0, began);
        }
        if (taskMillis > 0) {
            try {
                Thread.sleep(taskMillis);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
        return (System.nanoTime() - began) / 1_000_000;
    }

    private void finish() {
        if (finished.incrementAndGet() == messages) {
            lastNanos = System.nanoTime();
            done.countDown();
        }
    }

    private ProducerRecord<byte[], byte[]> answer(ConsumerRecord<byte[], byte[]> record, long tookMillis) {
        String value = "{\"status\":\"ok\",\"topic\":\"" + record.topic() + "\",\"partition\":" + record.partition()
                + ",\"offset\":" + record.offset() + ",\"took_ms\":" + tookMillis + "}";
        return new ProducerRecord<>(
                replyTopic,
                null,
                record.key(),
                bytes(value),
                List.of(
                        new RecordHeader("longshore.topic", bytes(record.topic())),
                        new RecordHeader("longshore.partition", bytes(Integer.toString(record.partition()))),
                        new RecordHeader("longshore.offset", bytes(Long.toString(record.offset()))),
                        new RecordHeader("longshore.status", OK)));
    }

    private Map<String, Object> consumerSettings() {
        return Map.of(
                "bootstrap.servers", brokers,
                "group.id", group,
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false,
                "max.poll.records", 5000,
                "key.deserializer", ByteArrayDeserializer.class,
                "value.deserializer", ByteArrayDeserializer.class);
    }

    private Map<String, Object> producerSettings() {
        return Map.of(
                "bootstrap.servers", brokers,
                "key.serializer", ByteArraySerializer.class,
                "value.serializer", ByteArraySerializer.class);
    }

    private static String required(Map<String, String> flags, String name) {
        String value = flags.get(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " must be given");
        }
        return value;
    }

    /** Reads `0`, `10ms` or `5s`. */
    private static long millis(String text) {
        if (text.endsWith("ms")) {
            return Long.parseLong(text.substring(0, text.length() - 2));
        }
        if (text.endsWith("s")) {
            return Duration.ofSeconds(Long.parseLong(text.substring(0, text.length() - 1))).toMillis();
        }
        return Long.parseLong(text);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** The peak of the resident memory, as Linux tells it. */
    private static long maxRssKb() throws IOException {
        return Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("VmHWM:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")))
                .findFirst()
                .orElse(0);
    }
}
