import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Fills topics on a real Kafka with everything that a topic can hold. tests/kafka/readers calls it:
 *
 *     tests/kafka/kafka tool tests/kafka/topics/Topics.java HOST:PORT DIR
 *
 * DIR is the broker's log directory: it shows how far the log cleaner is. What is written is the same each time, but for
 * the times that the broker sets. Kafka's own producer writes what it can; the rest goes out as batches made by hand
 * (class Raw), which the broker checks as it checks any other. What librdkafka writes is written by `readers` itself.
 *
 * A flush makes a batch: producers linger until told.
 */
public final class Topics {
    /** The first record's time; all others follow, so that segments roll where we want them to. */
    static final long BEGIN = 1_700_000_000_000L;
    static final long HOUR = 3_600_000;
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};

    static String server;
    static Path logs;
    static Admin admin;
    /** Where each compacted topic's active segment begins: up to there it is cleaned. */
    static final Map<String, Long> cleanedUpTo = new LinkedHashMap<>();
    static final List<String> cleanedTwice = List.of("compacted-tail-empty", "compacted-tail-gone");

    public static void main(String[] args) throws Exception {
        server = args[0];
        logs = Path.of(args[1]);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", server);
        admin = Admin.create(settings);
        int code = 0;
        try {
            create();
            fill();
            clean();
        } catch (Throwable failure) {
            failure.printStackTrace();
            code = 1;
        }
        System.err.flush();
        // Not in a way that would end the open transaction.
        Runtime.getRuntime().halt(code);
    }

    // --- which topics there are ---------------------------------------------------------------------

    static void create() throws Exception {
        List<NewTopic> topics = new ArrayList<>();
        for (String name : new String[] {"nulls", "times", "headers", "headers-repeated", "headers-null",
                "headers-not-utf8", "empty", "mixed-codecs", "many-in-a-batch", "near-the-limit", "inflating",
                "deleted-records", "deleted-in-a-batch", "deleted-all", "deleted-to-a-marker", "recreated-shorter",
                "recreated-longer", "partitions-added", "tx-committed", "tx-aborted", "tx-open", "tx-all-aborted",
                "tx-aborted-tail", "tx-compressed", "tx-many"}) {
            topics.add(topic(name, 1));
        }
        topics.add(topic("plain", 3));
        topics.add(topic("tx-interleaved", 2));
        for (String codec : CODECS) {
            topics.add(topic("java-" + codec, 1));
            topics.add(topic("librdkafka-" + codec, 1));
        }
        topics.add(topic("librdkafka-headers", 1));
        topics.add(topic("librdkafka-tx", 1));
        topics.add(topic("append-time", 1, "message.timestamp.type", "LogAppendTime"));
        topics.add(topic("nanoseconds", 1, "message.timestamp.after.max.ms", "" + Long.MAX_VALUE));
        topics.add(topic("over-the-fetch-size", 1, "max.message.bytes", "8000000"));
        for (String name : new String[] {"compacted-holes", "compacted-lz4", "compacted-idempotent", "compacted-tx",
                "compacted-tail-empty", "compacted-tail-gone"}) {
            topics.add(compacted(name, "0"));
        }
        topics.add(compacted("compacted-tombstones", "" + 24 * HOUR));
        admin.createTopics(topics).all().get();
    }

    static NewTopic topic(String name, int partitions, String... more) {
        Map<String, String> settings = new HashMap<>(Map.of("retention.ms", "-1"));
        for (int i = 0; i < more.length; i += 2) {
            settings.put(more[i], more[i + 1]);
        }
        return new NewTopic(name, partitions, (short) 1).configs(settings);
    }

    static NewTopic compacted(String name, String tombstonesStayMs) {
        return topic(name, 1, "cleanup.policy", "compact", "segment.ms", "60000", "min.cleanable.dirty.ratio", "0.0001",
            "delete.retention.ms", tombstonesStayMs);
    }

    static void fill() throws Exception {
        List<Callable<Void>> all = new ArrayList<>();
        all.addAll(List.of(Topics::plain, Topics::nulls, Topics::times, Topics::headers, Topics::mixedCodecs,
            Topics::large, Topics::deleted, Topics::recreated, Topics::partitionsAdded, Topics::transactions,
            Topics::interleaved, Topics::manyTransactions, Topics::compactedHoles, Topics::compactedTransactions,
            Topics::compactedTails));
        for (String codec : CODECS) {
            all.add(() -> codec(codec));
        }
        ExecutorService threads = Executors.newFixedThreadPool(4);
        for (Future<Void> done : threads.invokeAll(all)) {
            done.get();
        }
        threads.shutdown();
    }

    // --- records of all kinds -----------------------------------------------------------------------

    static Void plain() throws Exception {
        try (Writer to = new Writer("plain")) {
            for (int i = 0; i < 120; i++) {
                to.send(i % 3, BEGIN + i, bytes("key-" + i), bytes("value-" + i));
                if (i % 25 == 24) {
                    to.flush();
                }
            }
        }
        return null;
    }

    static Void nulls() throws Exception {
        try (Writer to = new Writer("nulls")) {
            byte[][] some = {null, new byte[0], bytes("x")};
            for (byte[] key : some) {
                for (byte[] value : some) {
                    to.send(0, BEGIN, key, value);
                }
                to.flush();
            }
            to.send(0, BEGIN, new byte[] {0, (byte) 0xff, (byte) 0xc3, 0x28, '\n', '\t'}, new byte[] {(byte) 0x80, 0});
        }
        return null;
    }

    static Void times() throws Exception {
        try (Raw to = new Raw("times")) {
            // Out of order, so that a delta is negative; at the epoch; not known, alone and beside others.
            to.send(record(BEGIN + 9, "late", "a"), record(BEGIN, "early", "b"), record(0, "epoch", "c"));
            to.send(record(-1, "none", "d"));
            to.send(record(-1, "none", "e"), record(BEGIN, "some", "f"), record(-1, "none again", "g"));
            to.send(record(BEGIN, "some", "h"), record(-1, "none", "i"));
        }
        try (Writer to = new Writer("nanoseconds")) {
            to.send(0, BEGIN, bytes("milliseconds"), bytes("a"));
            to.flush();
            to.send(0, 1_700_000_000_123_456_789L, bytes("nanoseconds"), bytes("b"));
            to.send(0, 1_700_000_000_123_456_790L, bytes("one more"), bytes("c"));
            to.flush();
            to.send(0, BEGIN, bytes("milliseconds"), bytes("d"));
        }
        for (String codec : new String[] {"none", "gzip", "lz4"}) {
            try (Writer to = new Writer("append-time", "compression.type", codec)) {
                to.send(0, BEGIN, bytes(codec), bytes("a"));
                to.send(0, BEGIN + 1, bytes(codec), bytes("b"));
                to.flush();
                to.send(0, BEGIN + 2, bytes(codec), bytes("c"));
            }
        }
        return null;
    }

    static Void headers() throws Exception {
        try (Writer to = new Writer("headers")) {
            to.send(0, BEGIN, bytes("one"), bytes("v"), header("a", "1"));
            to.send(0, BEGIN, bytes("in order"), bytes("v"), header("a", "1"), header("b", ""), header("c", "3"));
            to.send(0, BEGIN, bytes("not ascii"), bytes("v"), header("\u00fcml\u00e4ut \ud83d\ude9a", "\u00e9"));
            to.send(0, BEGIN, bytes("no name"), bytes("v"), header("", "x"));
            to.send(0, BEGIN, bytes("long"), bytes("v"), header("n".repeat(300), "w".repeat(5_000)));
        }
        try (Writer to = new Writer("headers-repeated")) {
            to.send(0, BEGIN, bytes("plain"), bytes("v"));
            to.flush();
            to.send(0, BEGIN, bytes("twice"), bytes("v"), header("a", "1"), header("a", "2"));
            to.send(0, BEGIN, bytes("backwards"), bytes("v"), header("c", "1"), header("b", "2"), header("a", "3"));
            to.send(0, BEGIN, bytes("mixed"), bytes("v"), header("b", "1"), header("a", "2"), header("b", "1"),
                header("", ""), header("", ""));
            to.flush();
            to.send(0, BEGIN, bytes("plain"), bytes("v"));
        }
        try (Writer to = new Writer("headers-null")) {
            to.send(0, BEGIN, bytes("plain"), bytes("v"));
            to.flush();
            to.send(0, BEGIN, bytes("null"), null, new RecordHeader("a", (byte[]) null));
            to.send(0, BEGIN, bytes("null and not"), bytes("v"), header("a", "1"), new RecordHeader("a", (byte[]) null),
                header("a", ""));
        }
        try (Raw to = new Raw("headers-not-utf8")) {
            to.send(record(BEGIN, "plain", "v"));
            byte[][] names = {{(byte) 0xff, (byte) 0xfe}, {'a', (byte) 0xc3}, {(byte) 0xed, (byte) 0xa0, (byte) 0x80}, {0}};
            for (byte[] name : names) {
                to.send(new RawRecord(BEGIN, bytes("not utf-8"), bytes("v"), new byte[][] {name, {(byte) 0xff}}));
            }
            to.send(new RawRecord(BEGIN, bytes("many"), null, new byte[][] {{(byte) 0xff}, null, {(byte) 0xff}, {}, {}, {}}));
        }
        return null;
    }

    /** Small batches and large, text and noise, every kind of null; and one record of many blocks of any codec. */
    static Void codec(String codec) throws Exception {
        Random random = new Random(codec.hashCode());
        try (Writer to = new Writer("java-" + codec, "compression.type", codec)) {
            for (int size : new int[] {1, 2, 50, 400}) {
                for (int i = 0; i < size; i++) {
                    to.send(0, BEGIN + i, bytes("key-" + i), text(i, 20 + random.nextInt(200)), header("n", "" + i));
                }
                to.flush();
            }
            for (int i = 0; i < 40; i++) {
                to.send(0, BEGIN + i, null, noise(random, random.nextInt(300)));
            }
            to.flush();
            to.send(0, BEGIN, new byte[0], new byte[0]);
            if (!codec.equals("none")) {
                to.send(0, BEGIN, bytes("null"), null, header("a", "1"), header("a", "2"), new RecordHeader("a", (byte[]) null));
            }
            to.flush();
            to.send(0, BEGIN, bytes("large text"), text(1, 600_000));
            to.flush();
            to.send(0, BEGIN, bytes("large noise"), noise(random, 600_000));
            to.flush();
            to.send(0, BEGIN, bytes("last"), bytes("of " + codec));
        }
        try (Writer to = new Writer("inflating", "compression.type", codec, "max.request.size", "20000000")) {
            if (!codec.equals("none")) {
                to.send(0, BEGIN, bytes(codec), new byte[6_000_000]);
            }
        }
        return null;
    }

    static Void mixedCodecs() throws Exception {
        for (int round = 0; round < 3; round++) {
            for (String codec : CODECS) {
                try (Writer to = new Writer("mixed-codecs", "compression.type", codec)) {
                    for (int i = 0; i < 5; i++) {
                        to.send(0, BEGIN + i, bytes(codec + "-" + round), text(i, 100));
                    }
                }
            }
        }
        try (Writer to = new Writer("many-in-a-batch", "compression.type", "lz4")) {
            for (int round = 0; round < 2; round++) {
                for (int i = 0; i < 10_000; i++) {
                    to.send(0, BEGIN + i, null, bytes("" + i));
                }
                to.flush();
            }
        }
        return null;
    }

    static Void large() throws Exception {
        for (String codec : new String[] {"none", "zstd"}) {
            try (Writer to = new Writer("over-the-fetch-size", "compression.type", codec, "max.request.size", "8000000")) {
                Random random = new Random(7);
                for (int size : new int[] {10, 1_200_000, 10, 5_000_000, 2_000_000, 10}) {
                    to.send(0, BEGIN, bytes(codec + "-" + size), noise(random, size));
                    to.flush();
                }
            }
        }
        // The largest batch that a broker takes unless told otherwise, to the byte; one more is refused.
        try (Raw to = new Raw("near-the-limit")) {
            int limit = 1_048_588;
            int around = Raw.batch(-1, (short) -1, -1, record(BEGIN, "k", "x".repeat(1_000_000))).length - 1_000_000;
            for (int length : new int[] {limit, 100, limit, limit - 1, limit}) {
                to.send(record(BEGIN, "k", "x".repeat(length - around + (length < 1_000 ? around : 0))));
            }
            short code = to.produce(Raw.batch(-1, (short) -1, -1, record(BEGIN, "k", "x".repeat(limit + 1 - around))));
            check(code == Raw.TOO_LARGE, "one byte over the limit is too large, not " + code);
        }
        return null;
    }

    // --- logs whose beginning moved -----------------------------------------------------------------

    static Void deleted() throws Exception {
        for (String name : new String[] {"deleted-records", "deleted-all", "deleted-to-a-marker"}) {
            try (Writer to = new Writer(name)) {
                for (int i = 0; i < 30; i++) {
                    to.send(0, BEGIN + i, bytes("key-" + i), bytes("value-" + i));
                    if (i % 10 == 9 && !name.equals("deleted-to-a-marker")) {
                        to.flush();
                    }
                }
            }
        }
        try (Writer to = new Writer("deleted-in-a-batch", "compression.type", "snappy")) {
            for (int i = 0; i < 30; i++) {
                to.send(0, BEGIN + i, bytes("key-" + i), text(i, 50));
            }
        }
        try (Writer to = new Writer("deleted-to-a-marker", "transactional.id", "deleted-to-a-marker")) {
            to.transaction(false, 3);
            to.transaction(true, 3);
        }
        delete("deleted-records", 20);
        delete("deleted-in-a-batch", 17);
        delete("deleted-all", 30);
        delete("deleted-to-a-marker", 33);
        return null;
    }

    static void delete(String topic, long before) throws Exception {
        admin.deleteRecords(Map.of(new TopicPartition(topic, 0), RecordsToDelete.beforeOffset(before))).all().get();
    }

    static Void recreated() throws Exception {
        int[][] lengths = {{50, 10}, {10, 50}};
        String[] names = {"recreated-shorter", "recreated-longer"};
        for (int n = 0; n < names.length; n++) {
            String name = names[n];
            write(name, lengths[n][0], "old");
            admin.deleteTopics(Set.of(name)).all().get();
            await("the end of " + name, () -> !admin.listTopics().names().get().contains(name));
            admin.createTopics(Set.of(topic(name, 1))).all().get();
            write(name, lengths[n][1], "new");
        }
        return null;
    }

    static void write(String topic, int count, String what) throws Exception {
        try (Writer to = new Writer(topic)) {
            for (int i = 0; i < count; i++) {
                to.send(0, BEGIN + i, bytes("key-" + i), bytes(what + "-" + i));
            }
        }
    }

    static Void partitionsAdded() throws Exception {
        write("partitions-added", 10, "before");
        admin.createPartitions(Map.of("partitions-added", NewPartitions.increaseTo(4))).all().get();
        try (Writer to = new Writer("partitions-added")) {
            for (int i = 0; i < 40; i++) {
                to.send(i % 4, BEGIN + i, bytes("key-" + i), bytes("after-" + i));
            }
        }
        return null;
    }

    // --- transactions -------------------------------------------------------------------------------

    static Void transactions() throws Exception {
        try (Writer to = new Writer("tx-committed", "transactional.id", "tx-committed")) {
            for (int i = 0; i < 3; i++) {
                to.transaction(true, 5);
            }
        }
        write("tx-aborted", 5, "plain");
        try (Writer to = new Writer("tx-aborted", "transactional.id", "tx-aborted")) {
            for (boolean commit : new boolean[] {true, false, false, true, false}) {
                to.transaction(commit, 4);
            }
        }
        write("tx-aborted", 5, "plain");
        try (Writer to = new Writer("tx-all-aborted", "transactional.id", "tx-all-aborted")) {
            for (int i = 0; i < 4; i++) {
                to.transaction(false, 3);
            }
        }
        write("tx-aborted-tail", 6, "plain");
        try (Writer to = new Writer("tx-aborted-tail", "transactional.id", "tx-aborted-tail")) {
            to.transaction(true, 3);
            to.transaction(false, 3);
        }
        for (String codec : CODECS) {
            try (Writer to = new Writer("tx-compressed", "transactional.id", codec, "compression.type", codec)) {
                to.transaction(false, 20);
                to.transaction(true, 20);
                to.transaction(false, 20);
            }
        }
        try (Writer to = new Writer("tx-open", "transactional.id", "tx-decided")) {
            to.transaction(true, 3);
            to.transaction(false, 3);
        }
        // Never decided: this process ends first, and the broker waits for as long as it can be told to.
        Writer open = new Writer("tx-open", "transactional.id", "tx-open", "transaction.timeout.ms", "900000");
        open.producer.initTransactions();
        open.producer.beginTransaction();
        open.some(4);
        open.flush();
        write("tx-open", 5, "plain");
        try (Writer to = new Writer("tx-open", "transactional.id", "tx-decided")) {
            to.transaction(true, 3);
            to.transaction(false, 3);
        }
        return null;
    }

    /** Three transactional producers and a plain one write by turns to two partitions; some commit, some abort. */
    static Void interleaved() throws Exception {
        List<Writer> all = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            Writer writer = new Writer("tx-interleaved", "transactional.id", "tx-interleaved-" + n);
            writer.producer.initTransactions();
            all.add(writer);
        }
        Writer plain = new Writer("tx-interleaved");
        Random random = new Random(4);
        boolean[] begun = new boolean[3];
        for (int turn = 0; turn < 120; turn++) {
            int n = random.nextInt(4);
            int partition = random.nextInt(2);
            Writer writer = n == 3 ? plain : all.get(n);
            if (n < 3 && !begun[n]) {
                writer.producer.beginTransaction();
                begun[n] = true;
            }
            for (int i = 0; i <= random.nextInt(3); i++) {
                writer.send(partition, BEGIN + turn, bytes("writer-" + n), bytes("turn-" + turn));
            }
            writer.flush();
            if (n < 3 && random.nextInt(4) == 0) {
                writer.end(random.nextBoolean());
                begun[n] = false;
            }
        }
        for (int n = 0; n < 3; n++) {
            if (begun[n]) {
                all.get(n).end(n == 1);
            }
            all.get(n).close();
        }
        plain.close();
        return null;
    }

    /** So many aborted transactions that no answer names them all: some records are larger than a small fetch. */
    static Void manyTransactions() throws Exception {
        try (Writer to = new Writer("tx-many", "transactional.id", "tx-many")) {
            for (int i = 0; i < 60; i++) {
                to.transaction(i % 3 == 0, 1 + i % 4);
            }
        }
        return null;
    }

    // --- compaction ---------------------------------------------------------------------------------

    /** Each hour is a segment. Batches lose their first, middle and last records, or all; the last segment is not cleaned. */
    static Void compactedHoles() throws Exception {
        String[][] kinds = {
            {"compacted-holes", "none", "false"}, {"compacted-lz4", "lz4", "false"}, {"compacted-idempotent", "none", "true"}};
        for (String[] kind : kinds) {
            String[] settings = {"compression.type", kind[1], "enable.idempotence", kind[2]};
            // One that writes no more: of what it wrote last, an idempotent producer's empty batch remains.
            try (Writer to = new Writer(kind[0], settings)) {
                to.keys(0, 0, 10);
                to.flush();
                to.keys(0, 10, 20);
                to.flush();
            }
            try (Writer to = new Writer(kind[0], settings)) {
                to.keys(1, 10, 20); // all of a batch
                to.flush();
                to.keys(1, 0, 3); // the first, some in the middle, and the last of a batch
                to.keys(1, 5, 7);
                to.keys(1, 9, 10);
                to.flush();
                to.keys(2, 30, 40);
                to.flush();
            }
            try (Writer to = new Writer(kind[0], settings)) {
                to.keys(2, 35, 40); // the tail of a batch, at the end of a segment
                to.flush();
                to.keys(3, 35, 38);
                to.flush();
                to.keys(4, 50, 52);
                cleaned(kind[0], to.flush());
            }
        }
        try (Writer to = new Writer("compacted-tombstones")) {
            to.keys(0, 0, 10);
            to.flush();
            for (int i = 0; i < 5; i++) {
                to.send(0, BEGIN + HOUR + i, bytes("key-" + i), null);
            }
            to.flush();
            to.keys(2, 20, 22);
            cleaned("compacted-tombstones", to.flush());
        }
        return null;
    }

    static Void compactedTransactions() throws Exception {
        try (Writer to = new Writer("compacted-tx", "transactional.id", "compacted-tx")) {
            to.producer.initTransactions();
            int[][] parts = {{0, 1}, {0, 0}, {1, 1}, {1, 0}, {2, 1}};
            for (int[] part : parts) {
                to.producer.beginTransaction();
                to.keys(part[0], part[1] == 1 ? part[0] * 3 : 0, 6);
                to.end(part[1] == 1);
            }
        }
        // Markers have the broker's time, so only what is later still makes the segment of the last one roll.
        try (Writer to = new Writer("compacted-tx")) {
            to.send(0, System.currentTimeMillis() + HOUR / 2, bytes("last"), bytes("v"));
            cleaned("compacted-tx", to.flush());
        }
        return null;
    }

    /**
     * Tails that compaction took away: below the high watermark nothing is left but an empty batch, or nothing at all.
     *
     * The active segment is never cleaned. A batch that the broker refuses (its sequence is out of order) makes it roll all
     * the same, and then the active segment is empty.
     */
    static Void compactedTails() throws Exception {
        try (Raw to = new Raw("compacted-tail-empty")) {
            to.send(record(BEGIN, "stays", "v"), record(BEGIN, "goes-1", "v"), record(BEGIN, "goes-2", "v"));
            to.send(7_001, 0, record(BEGIN + HOUR, "goes-1", null), record(BEGIN + HOUR, "goes-2", null));
            to.roll(7_001, BEGIN + 2 * HOUR);
            cleaned("compacted-tail-empty", 5);
        }
        try (Raw to = new Raw("compacted-tail-gone")) {
            to.send(7_002, 0, record(BEGIN, "stays", "v"));
            to.send(record(BEGIN, "goes-1", "v"), record(BEGIN, "goes-2", "v"));
            to.send(record(BEGIN + HOUR, "goes-1", null), record(BEGIN + HOUR, "goes-2", null));
            to.roll(7_002, BEGIN + 2 * HOUR);
            cleaned("compacted-tail-gone", 5);
        }
        return null;
    }

    static void cleaned(String topic, long upTo) {
        synchronized (cleanedUpTo) {
            cleanedUpTo.put(topic, upTo);
        }
    }

    /** Waits for the cleaner. Tombstones go when it comes a second time: it is made to forget that it was there. */
    static void clean() throws Exception {
        for (Map.Entry<String, Long> topic : cleanedUpTo.entrySet()) {
            String line = topic.getKey() + " 0 " + topic.getValue();
            await("the log cleaner to say: " + line, () -> checkpoint().contains(line));
        }
        for (String topic : cleanedTwice) {
            await("an empty tail of " + topic, () -> {
                if (isTombstoneFree(topic)) {
                    return true;
                }
                forget(topic);
                Thread.sleep(300);
                return false;
            });
        }
    }

    static List<String> checkpoint() throws IOException {
        Path file = logs.resolve("cleaner-offset-checkpoint");
        return Files.exists(file) ? Files.readAllLines(file) : List.of();
    }

    static void forget(String topic) throws IOException {
        List<String> lines = new ArrayList<>(checkpoint());
        if (lines.size() > 2 && lines.removeIf(line -> line.startsWith(topic + " "))) {
            lines.set(1, "" + (lines.size() - 2));
            Path part = logs.resolve("cleaner-offset-checkpoint.forget");
            Files.write(part, lines);
            Files.move(part, logs.resolve("cleaner-offset-checkpoint"), StandardCopyOption.ATOMIC_MOVE);
        }
    }

    /** Whether no segment of the topic holds the key of a tombstone. */
    static boolean isTombstoneFree(String topic) throws IOException {
        try (var files = Files.list(logs.resolve(topic + "-0"))) {
            for (Path file : files.filter(path -> path.toString().endsWith(".log")).toList()) {
                if (new String(Files.readAllBytes(file), StandardCharsets.ISO_8859_1).contains("goes-")) {
                    return false;
                }
            }
        }
        return true;
    }

    // --- writers ------------------------------------------------------------------------------------

    /** Kafka's own producer for one topic. Whatever is not written is an error. */
    static final class Writer implements AutoCloseable {
        final KafkaProducer<byte[], byte[]> producer;
        private final String topic;
        private final List<Future<RecordMetadata>> sent = new ArrayList<>();
        private boolean begun;

        Writer(String topic, String... more) {
            this.topic = topic;
            Properties settings = new Properties();
            settings.put("bootstrap.servers", server);
            settings.put("linger.ms", "60000");
            settings.put("batch.size", "900000");
            settings.put("max.block.ms", "30000");
            for (int i = 0; i < more.length; i += 2) {
                settings.put(more[i], more[i + 1]);
            }
            producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        }

        void send(int partition, long timestampMs, byte[] key, byte[] value, RecordHeader... headers) {
            sent.add(producer.send(new ProducerRecord<>(topic, partition, timestampMs, key, value, Arrays.asList(headers))));
        }

        void some(int count) {
            for (int i = 0; i < count; i++) {
                send(0, BEGIN + i, bytes("key-" + i), bytes("value-" + i));
            }
        }

        /** Keys FROM to TO, into the segment of that hour. */
        void keys(int hour, int from, int to) {
            for (int i = from; i < to; i++) {
                send(0, BEGIN + hour * HOUR + i, bytes("key-" + i), bytes("hour-" + hour));
            }
        }

        void transaction(boolean commit, int count) throws Exception {
            if (!begun) {
                producer.initTransactions();
                begun = true;
            }
            producer.beginTransaction();
            some(count);
            end(commit);
        }

        /** Aborts what is in the log already: unsent records of a transaction that is aborted would never get there. */
        void end(boolean commit) throws Exception {
            flush();
            if (commit) {
                producer.commitTransaction();
            } else {
                producer.abortTransaction();
            }
        }

        /** Makes a batch for each partition. Gives the offset of the first record that was written. */
        long flush() throws Exception {
            producer.flush();
            long first = -1;
            for (int i = 0; i < sent.size(); i++) {
                long offset = sent.get(i).get().offset();
                first = i == 0 ? offset : first;
            }
            sent.clear();
            return first;
        }

        @Override
        public void close() throws Exception {
            flush();
            producer.close(Duration.ofSeconds(10));
        }
    }

    record RawRecord(long timestampMs, byte[] key, byte[] value, byte[][] namesAndValues) {}

    static RawRecord record(long timestampMs, String key, String value) {
        return new RawRecord(timestampMs, bytes(key), value == null ? null : bytes(value), new byte[0][]);
    }

    /** Batches made by hand (format 2, uncompressed), sent by Produce version 3: all brokers since 0.11 know that. */
    static final class Raw implements AutoCloseable {
        private static final short TOO_LARGE = 10;
        private static final short NOT_LEADER = 6;
        private static final short OUT_OF_ORDER = 45;

        private final Socket socket;
        private final String topic;

        Raw(String topic) throws IOException {
            this.topic = topic;
            int colon = server.lastIndexOf(':');
            socket = new Socket(server.substring(0, colon), Integer.parseInt(server.substring(colon + 1)));
            socket.setSoTimeout(30_000);
        }

        void send(RawRecord... records) throws Exception {
            send(-1, -1, records);
        }

        /** As an idempotent producer, whose id need not be given out by the broker. */
        void send(long producerId, int sequence, RawRecord... records) throws Exception {
            byte[] batch = batch(producerId, (short) (producerId < 0 ? -1 : 0), sequence, records);
            await("the leader of " + topic, () -> {
                short code = produce(batch);
                check(code == 0 || code == NOT_LEADER, topic + ": the broker answers " + code);
                return code == 0;
            });
        }

        /** Makes the active segment roll and leaves the new one empty. */
        void roll(long producerId, long timestampMs) throws Exception {
            short code = produce(batch(producerId, (short) 0, 1_000, record(timestampMs, "refused", "v")));
            check(code == OUT_OF_ORDER, "a sequence out of order, not " + code);
        }

        static byte[] batch(long producerId, short epoch, int sequence, RawRecord... records) throws IOException {
            long base = records[0].timestampMs;
            var body = new ByteArrayOutputStream();
            for (int i = 0; i < records.length; i++) {
                var record = new ByteArrayOutputStream();
                record.write(0);
                varint(record, records[i].timestampMs - base);
                varint(record, i);
                field(record, records[i].key);
                field(record, records[i].value);
                varint(record, records[i].namesAndValues.length / 2);
                for (byte[] part : records[i].namesAndValues) {
                    field(record, part);
                }
                varint(body, record.size());
                record.writeTo(body);
            }
            long latest = Arrays.stream(records).mapToLong(RawRecord::timestampMs).max().getAsLong();
            ByteBuffer batch = ByteBuffer.allocate(61 + body.size());
            batch.putLong(0).putInt(batch.capacity() - 12).putInt(-1).put((byte) 2).putInt(0);
            batch.putShort((short) 0).putInt(records.length - 1).putLong(base).putLong(latest);
            batch.putLong(producerId).putShort(epoch).putInt(sequence).putInt(records.length).put(body.toByteArray());
            CRC32C crc = new CRC32C();
            crc.update(batch.array(), 21, batch.capacity() - 21);
            batch.putInt(17, (int) crc.getValue());
            return batch.array();
        }

        private static void field(ByteArrayOutputStream out, byte[] bytes) throws IOException {
            varint(out, bytes == null ? -1 : bytes.length);
            out.write(bytes == null ? new byte[0] : bytes);
        }

        private static void varint(ByteArrayOutputStream out, long value) {
            long left = (value << 1) ^ (value >> 63);
            while ((left & ~0x7fL) != 0) {
                out.write((int) (left & 0x7f | 0x80));
                left >>>= 7;
            }
            out.write((int) left);
        }

        /** Gives the error code of partition 0. */
        short produce(byte[] batch) throws IOException {
            var bytes = new ByteArrayOutputStream();
            var request = new DataOutputStream(bytes);
            request.writeShort(0); // Produce
            request.writeShort(3);
            request.writeInt(1); // correlation id
            request.writeShort(-1); // no client id
            request.writeShort(-1); // no transactional id
            request.writeShort(-1); // acks
            request.writeInt(30_000);
            request.writeInt(1);
            request.writeUTF(topic);
            request.writeInt(1);
            request.writeInt(0);
            request.writeInt(batch.length);
            request.write(batch);
            var out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(bytes.size());
            bytes.writeTo(out);
            out.flush();
            var in = new DataInputStream(socket.getInputStream());
            byte[] answer = new byte[in.readInt()];
            in.readFully(answer);
            // Correlation id, one topic with its name, one partition with its number.
            return ByteBuffer.wrap(answer).getShort(4 + 4 + 2 + topic.length() + 4 + 4);
        }

        @Override
        public void close() throws IOException {
            socket.close();
        }
    }

    // --- small things -------------------------------------------------------------------------------

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static RecordHeader header(String name, String value) {
        return new RecordHeader(name, bytes(value));
    }

    static byte[] text(int seed, int length) {
        StringBuilder text = new StringBuilder();
        for (int i = seed; text.length() < length; i++) {
            text.append("{\"number\":").append(i).append(",\"what\":\"some text that repeats\"}");
        }
        return bytes(text.substring(0, length));
    }

    static byte[] noise(Random random, int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }

    static void await(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (!condition.call()) {
            check(System.nanoTime() < end, "waited in vain for " + what);
            Thread.sleep(50);
        }
    }
}
