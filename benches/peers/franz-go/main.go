// The reference in Go: franz-go and a pool of goroutines, as an experienced user of it would write it for
// speed. It runs a task (nothing, or a sleep) for every message of a topic, answers where asked, and ends
// when N messages are done.
//
//	PollRecords --> queue of records --> N goroutines: task --> Produce --> acknowledged --> mark
//	                                                                                          |
//	                                                    autocommit of the highest mark <------+
//
// What it deliberately has not, and Longshore has: the highest marked offset is committed, past the gaps
// that running tasks leave below it, so a crash loses messages. It is a measure of speed, not a model.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// deadline ends a run that nobody is there to end.
const deadline = 10 * time.Minute

type config struct {
	brokers, group, topic, replyTopic string
	workers                           int
	taskTime                          time.Duration
	messages                          int64
}

func parseConfig() config {
	var c config
	flag.StringVar(&c.brokers, "brokers", "", "HOST:PORT,...")
	flag.StringVar(&c.group, "group", "", "the consumer group")
	flag.StringVar(&c.topic, "topic", "", "the topic to work off")
	flag.StringVar(&c.replyTopic, "reply-topic", "", "where answers go; none without it")
	flag.IntVar(&c.workers, "workers", 32, "goroutines, and so tasks at once")
	flag.DurationVar(&c.taskTime, "task-time", 0, "how long a task sleeps; 0 does nothing")
	flag.Int64Var(&c.messages, "messages", 0, "how many messages there are")
	flag.Parse()
	if c.brokers == "" || c.group == "" || c.topic == "" || c.messages <= 0 || c.workers <= 0 {
		log.Fatal("--brokers, --group, --topic and --messages must be given")
	}
	return c
}

// run is what the goroutines share.
type run struct {
	config
	client   *kgo.Client
	queue    chan *kgo.Record
	finished atomic.Int64
	done     chan time.Time // when the last message was finished
}

func main() {
	start := time.Now()
	// Fewer collections: a fifth less CPU with answers, for more memory while messages rush through.
	debug.SetGCPercent(400)
	time.AfterFunc(deadline, func() { log.Fatalf("not done within %v", deadline) })
	c := parseConfig()
	options := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(c.brokers, ",")...),
		kgo.ConsumerGroup(c.group),
		kgo.ConsumeTopics(c.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitMarks(),
	}
	if c.replyTopic != "" {
		options = append(options,
			kgo.ProducerBatchCompression(kgo.NoCompression()),
			kgo.MaxBufferedRecords(100_000),
		)
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		log.Fatal(err)
	}
	r := &run{config: c, client: client, queue: make(chan *kgo.Record, 4096), done: make(chan time.Time, 1)}
	for range c.workers {
		go r.work()
	}
	first, last := r.poll()
	if err := client.CommitMarkedOffsets(context.Background()); err != nil {
		log.Fatal(err)
	}
	client.Close()
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"messages":   r.finished.Load(),
		"work_ms":    milliseconds(last.Sub(first)),
		"elapsed_ms": milliseconds(time.Since(start)),
		"max_rss_kb": maxRSS(),
	})
}

// poll feeds the queue until every message is finished, and returns when the first one was handed out and
// when the last one was finished.
func (r *run) poll() (first, last time.Time) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		last = <-r.done
		cancel()
	}()
	for {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return first, last
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			log.Fatalf("%s/%d: %v", topic, partition, err)
		})
		if first.IsZero() && !fetches.Empty() {
			first = time.Now()
		}
		fetches.EachRecord(func(record *kgo.Record) { r.queue <- record })
	}
}

// work runs tasks until the process ends.
func (r *run) work() {
	for record := range r.queue {
		began := time.Now()
		if r.taskTime > 0 {
			time.Sleep(r.taskTime)
		}
		if r.replyTopic == "" {
			r.finish(record)
		} else {
			r.reply(record, time.Since(began))
		}
	}
}

// finish marks the record for the next commit and counts it.
func (r *run) finish(record *kgo.Record) {
	r.client.MarkCommitRecords(record)
	if r.finished.Add(1) == r.messages {
		r.done <- time.Now()
	}
}

// reply sends the answer; the record is finished when the answer is acknowledged.
func (r *run) reply(record *kgo.Record, took time.Duration) {
	partition := strconv.AppendInt(nil, int64(record.Partition), 10)
	offset := strconv.AppendInt(nil, record.Offset, 10)
	value := make([]byte, 0, 128)
	value = append(value, `{"status":"ok","topic":`...)
	value = strconv.AppendQuote(value, record.Topic)
	value = append(value, `,"partition":`...)
	value = append(value, partition...)
	value = append(value, `,"offset":`...)
	value = append(value, offset...)
	value = append(value, `,"took_ms":`...)
	value = strconv.AppendInt(value, took.Milliseconds(), 10)
	value = append(value, '}')
	answer := &kgo.Record{
		Topic: r.replyTopic,
		Key:   record.Key,
		Value: value,
		Headers: []kgo.RecordHeader{
			{Key: "longshore.topic", Value: []byte(record.Topic)},
			{Key: "longshore.partition", Value: partition},
			{Key: "longshore.offset", Value: offset},
			{Key: "longshore.status", Value: []byte("ok")},
		},
	}
	r.client.Produce(context.Background(), answer, func(_ *kgo.Record, err error) {
		if err != nil {
			log.Fatal(err)
		}
		r.finish(record)
	})
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// maxRSS is the peak of the resident memory in kB. VmHWM, since rusage's counts the parent before the exec.
func maxRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb
		}
	}
	return 0
}
