import io.confluent.parallelconsumer.offsets.OffsetEncoding;
import io.confluent.parallelconsumer.offsets.OffsetSimultaneousEncoder;
import java.util.Base64;
import java.util.Map;
import java.util.SortedSet;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * Prints what Confluent's Parallel Consumer makes of some sets of offsets, by its own encoders, in all the forms
 * it has: NAME BASE END UNFINISHED STRING. See README.md.
 */
public final class ParallelConsumer {
    public static void main(String[] args) throws Exception {
        OffsetSimultaneousEncoder.compressionForced = true;
        print("front", 1000, 1040, every(1000, 1040, 3));
        print("one-below", 5, 900, new TreeSet<>(java.util.Set.of(5L)));
        print("mixed", 123_456_789_012L, 123_456_789_512L, random(123_456_789_012L, 500));
    }

    private static SortedSet<Long> every(long from, long to, int step) {
        SortedSet<Long> offsets = new TreeSet<>();
        for (long offset = from; offset < to; offset += step) {
            offsets.add(offset);
        }
        return offsets;
    }

    private static SortedSet<Long> random(long from, int count) {
        SortedSet<Long> offsets = new TreeSet<>();
        java.util.Random random = new java.util.Random(7);
        offsets.add(from);
        for (int i = 1; i < count - 1; i++) {
            if (random.nextInt(4) == 0) {
                offsets.add(from + i);
            }
        }
        return offsets;
    }

    /** The offset before `end` is finished, and so are all from `base` on that are not in the set. */
    private static void print(String name, long base, long end, SortedSet<Long> unfinished) throws Exception {
        var encoder = new OffsetSimultaneousEncoder(base, end - 1, unfinished).invoke();
        String list = unfinished.stream().map(String::valueOf).collect(Collectors.joining(","));
        for (Map.Entry<OffsetEncoding, byte[]> entry : encoder.getEncodingMap().entrySet()) {
            byte[] form = entry.getValue();
            byte[] whole = new byte[form.length + 1];
            whole[0] = entry.getKey().getMagicByte();
            System.arraycopy(form, 0, whole, 1, form.length);
            System.out.println(name + "-" + entry.getKey().name() + " " + base + " " + end + " " + list + " "
                    + Base64.getEncoder().encodeToString(whole));
        }
    }

    private ParallelConsumer() {}
}
