import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A member of a group, for tests/kafka/groups: Confluent's Parallel Consumer as its README's example has it
 * (unordered, pollAndProduce, close() at the end), by its defaults but for the number of workers and the group's
 * session. A task sleeps for as long as its message says. It runs until SIGTERM.
 */
public final class Member {
    private static final Pattern SLEEP = Pattern.compile("\"sleep_ms\":(\\d+)");

    public static void main(String[] args) throws Exception {
        Map<String, String> flags = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) {
            flags.put(args[i], args[i + 1]);
        }
        String brokers = flags.get("--brokers");
        String replyTopic = flags.get("--reply-topic");
        createTopic(brokers, replyTopic);
        Map<String, Object> consumer = Map.of(
                "bootstrap.servers", brokers,
                "group.id", flags.get("--group"),
                "session.timeout.ms", flags.get("--session-timeout-ms"),
                "heartbeat.interval.ms", flags.get("--heartbeat-interval-ms"),
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false,
                "key.deserializer", ByteArrayDeserializer.class,
                "value.deserializer", ByteArrayDeserializer.class);
        Map<String, Object> producer = Map.of(
                "bootstrap.servers", brokers,
                "key.serializer", ByteArraySerializer.class,
                "value.serializer", ByteArraySerializer.class);
        ParallelStreamProcessor<byte[], byte[]> processor =
                ParallelStreamProcessor.createEosStreamProcessor(ParallelConsumerOptions.<byte[], byte[]>builder()
                        .ordering(ProcessingOrder.UNORDERED)
                        .maxConcurrency(Integer.parseInt(flags.get("--workers")))
                        .consumer(new KafkaConsumer<>(consumer))
                        .producer(new KafkaProducer<>(producer))
                        .build());
        Runtime.getRuntime().addShutdownHook(new Thread(processor::close));
        processor.subscribe(List.of(flags.get("--topic")));
        processor.pollAndProduce(context -> answer(replyTopic, context.getSingleConsumerRecord()));
        // Its own threads keep the process alive.
    }

    private static ProducerRecord<byte[], byte[]> answer(String topic, ConsumerRecord<byte[], byte[]> record) {
        Matcher sleep = SLEEP.matcher(new String(record.value(), StandardCharsets.UTF_8));
        try {
            Thread.sleep(sleep.find() ? Long.parseLong(sleep.group(1)) : 0);
        } catch (InterruptedException e) {
            throw new IllegalStateException("the task was interrupted", e);
        }
        return new ProducerRecord<>(topic, null, record.key(), bytes("{}"), List.of(
                new RecordHeader("longshore.topic", bytes(record.topic())),
                new RecordHeader("longshore.partition", bytes(Integer.toString(record.partition()))),
                new RecordHeader("longshore.offset", bytes(Long.toString(record.offset()))),
                new RecordHeader("longshore.status", bytes("ok"))));
    }

    private static void createTopic(String brokers, String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            admin.createTopics(List.of(new NewTopic(topic, Optional.empty(), Optional.empty()))).all().get();
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof TopicExistsException)) {
                throw e;
            }
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private Member() {}
}
