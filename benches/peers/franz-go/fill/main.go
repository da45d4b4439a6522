// The topics of a benchmark: makes, fills, looks at and removes them, quickly.
//
//	fill create --brokers B --topic T --partitions 4
//	fill fill   --brokers B --topic T --messages 1000000 --bytes 256 --codec none
//	fill ends   --brokers B --topic T            prints the sum of the end offsets
//	fill committed --brokers B --topic T --group G   prints the sum of the committed offsets
//	fill delete --brokers B --topic T
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("fill create|fill|ends|committed|delete --brokers B --topic T ...")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	brokers := flags.String("brokers", "", "HOST:PORT,...")
	topic := flags.String("topic", "", "the topic")
	group := flags.String("group", "", "the consumer group")
	partitions := flags.Int("partitions", 4, "how many partitions")
	messages := flags.Int("messages", 0, "how many messages")
	size := flags.Int("bytes", 256, "how long a value is")
	codec := flags.String("codec", "none", "how messages are compressed: none or lz4")
	flags.Parse(os.Args[2:])

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression()}
	compression, known := codecs[*codec]
	if !known {
		log.Fatalf("no such codec: %s", *codec)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(*brokers, ",")...),
		kgo.DefaultProduceTopic(*topic),
		kgo.ProducerBatchCompression(compression),
		kgo.MaxBufferedRecords(100_000),
	)
	must(err)
	defer client.Close()
	admin := kadm.NewClient(client)

	switch os.Args[1] {
	case "create":
		_, err := admin.CreateTopic(ctx, int32(*partitions), 1, nil, *topic)
		must(err)
	case "fill":
		fill(ctx, client, *messages, *size)
	case "ends":
		ends, err := admin.ListEndOffsets(ctx, *topic)
		must(err)
		must(ends.Error())
		sum := int64(0)
		ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		fmt.Println(sum)
	case "committed":
		offsets, err := admin.FetchOffsetsForTopics(ctx, *group, *topic)
		must(err)
		sum := int64(0)
		offsets.Each(func(o kadm.OffsetResponse) { sum += max(o.At, 0) })
		fmt.Println(sum)
	case "delete":
		answers, err := admin.DeleteTopics(ctx, *topic)
		must(err)
		must(answers.Error())
	default:
		log.Fatalf("no such sub-command: %s", os.Args[1])
	}
}

// fill produces messages with keys of their own: JSON objects padded to size.
func fill(ctx context.Context, client *kgo.Client, messages, size int) {
	for i := range messages {
		value := make([]byte, 0, size)
		value = fmt.Appendf(value, `{"id":%d,"padding":"`, i)
		for len(value) < size-2 {
			value = append(value, 'x')
		}
		value = append(value, `"}`...)
		record := &kgo.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: value}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) { must(err) })
	}
	must(client.Flush(ctx))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
