import java.io.PrintStream;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * What Kafka's own consumer reads of topics, byte for byte: for tests/kafka/readers, which compares Longshore's readers
 * with it. Called by
 *
 *     tests/kafka/kafka tool tests/kafka/topics/Reference.java HOST:PORT DIR TOPIC...
 *
 * For each topic and each isolation level it writes DIR/TOPIC.LEVEL, a line for each record, by partition and offset:
 *
 *     PARTITION OFFSET TIMESTAMP KEY VALUE HEADERS
 *
 * Bytes are `null`, or `x` and hexadecimal digits, or, where there are more than 64 of them, `sha256:LENGTH:` and their
 * hash. Headers are `NAME=VALUE`, separated by commas, `-` where there are none. examples/dump.rs writes the same.
 *
 * DIR/ends has for each partition TOPIC PARTITION EARLIEST STABLE LATEST: the last stable offset and the high watermark.
 */
public final class Reference {
    private static final int LONGEST = 64;
    /** A consumer that has nothing more to tell for this long has come to the end, though it may not know. */
    private static final long IDLE_MS = 1_500;

    private static Field nameBytes;

    public static void main(String[] args) throws Exception {
        nameBytes = RecordHeader.class.getDeclaredField("keyBuffer");
        nameBytes.setAccessible(true);
        Path dir = Files.createDirectories(Path.of(args[1]));
        Map<TopicPartition, Long> stable = new TreeMap<>(
            (a, b) -> a.topic().equals(b.topic()) ? a.partition() - b.partition() : a.topic().compareTo(b.topic()));
        try (KafkaConsumer<byte[], byte[]> committed = consumer(args[0], "read_committed");
                KafkaConsumer<byte[], byte[]> uncommitted = consumer(args[0], "read_uncommitted");
                PrintStream ends = new PrintStream(dir.resolve("ends").toFile())) {
            for (int i = 2; i < args.length; i++) {
                stable.putAll(read(committed, args[i], dir.resolve(args[i] + ".read_committed")));
                Map<TopicPartition, Long> latest = read(uncommitted, args[i], dir.resolve(args[i] + ".read_uncommitted"));
                Map<TopicPartition, Long> earliest = uncommitted.beginningOffsets(latest.keySet());
                latest.forEach((at, end) -> ends.printf(
                    "%s %d %d %d %d%n", at.topic(), at.partition(), earliest.get(at), stable.get(at), end));
            }
        }
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String server, String level) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", server);
        settings.put("isolation.level", level);
        settings.put("auto.offset.reset", "none");
        settings.put("enable.auto.commit", "false");
        settings.put("allow.auto.create.topics", "false");
        settings.put("fetch.max.wait.ms", "100");
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Reads all there is now. Gives where that ends. */
    private static Map<TopicPartition, Long> read(KafkaConsumer<byte[], byte[]> consumer, String topic, Path to)
            throws Exception {
        List<TopicPartition> partitions = new ArrayList<>();
        consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
        Map<TopicPartition, Long> ends = new TreeMap<>((a, b) -> a.partition() - b.partition());
        ends.putAll(consumer.endOffsets(partitions));
        consumer.assign(partitions);
        consumer.beginningOffsets(partitions).forEach(consumer::seek);
        Map<Integer, StringBuilder> lines = new TreeMap<>();
        long idleSince = System.nanoTime();
        long before = -1;
        while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                lines.computeIfAbsent(record.partition(), p -> new StringBuilder()).append(line(record)).append('\n');
            }
            long now = partitions.stream().mapToLong(consumer::position).sum();
            idleSince = now == before ? idleSince : System.nanoTime();
            before = now;
            if (System.nanoTime() - idleSince > Duration.ofMillis(IDLE_MS).toNanos()) {
                System.err.printf("%s: Kafka's own consumer does not reach the end, %s%n", to.getFileName(), ends);
                break;
            }
        }
        Files.writeString(to, String.join("", lines.values()));
        return ends;
    }

    private static String line(ConsumerRecord<byte[], byte[]> record) throws Exception {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(headers.length() == 0 ? "" : ",").append(text(name(header))).append('=').append(text(header.value()));
        }
        return record.partition() + " " + record.offset() + " " + record.timestamp() + " " + text(record.key()) + " "
            + text(record.value()) + " " + (headers.length() == 0 ? "-" : headers);
    }

    /** A header's name as it came. key() makes a String of it, and loses what is not UTF-8. */
    private static byte[] name(Header header) throws Exception {
        ByteBuffer bytes = ((ByteBuffer) nameBytes.get(header)).duplicate();
        byte[] name = new byte[bytes.remaining()];
        bytes.get(name);
        return name;
    }

    private static String text(byte[] bytes) throws Exception {
        if (bytes == null) {
            return "null";
        }
        if (bytes.length <= LONGEST) {
            return "x" + HexFormat.of().formatHex(bytes);
        }
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(bytes);
        return "sha256:" + bytes.length + ":" + HexFormat.of().formatHex(hash);
    }
}
