// job_latency: how long one record takes from a topic through a job to another topic, beside one flush of the same disk.
//
//   job_latency --bootstrap HOST:PORT --probe PATH [--from lines] [--to counts] [--count 2000] [--size 100] [--pause MS]
//
// The job is the word count: each record is one word of `size` letters, and its count must come back, one higher each time. In
// turn: a flush (a 4 KiB block of a pre-written file is overwritten, fdatasync), then a record, whose result is waited for. Prints one
// line of JSON: latencies of the flush, of the acknowledgement, of the result, and of what the result took longer than the flush
// before it.
#include "measure.h"

#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <unistd.h>

enum { block_size = 4096, probe_blocks = 4096 };

static _Atomic int stop_polling;
static _Atomic long failures;
static double *started, *acknowledged;

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
  char why[512];
  if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) die(name, why);
}

static rd_kafka_t *make_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *bootstrap) {
  char why[512];
  set(conf, "bootstrap.servers", bootstrap);
  rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
  if (rk == NULL) die("librdkafka", why);
  return rk;
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
  (void)rk, (void)opaque;
  long index = (long)(intptr_t)message->_private;
  if (message->err && failures++ == 0) fprintf(stderr, "delivery: %s\n", rd_kafka_err2str(message->err));
  acknowledged[index] = now_seconds() - started[index];
}

static void *poll_loop(void *rk) {
  while (!stop_polling) rd_kafka_poll(rk, 20);
  return NULL;
}

static int open_probe(const char *path, const char *block) {
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) die(path, strerror(errno));
  for (int i = 0; i < probe_blocks; i++)
    if (pwrite(fd, block, block_size, (off_t)i * block_size) != block_size) die(path, strerror(errno));
  if (fsync(fd) != 0) die("fsync", strerror(errno));
  return fd;
}

// Starts to consume all partitions of `topic` into `queue`, from their ends on.
static void follow(rd_kafka_t *rk, rd_kafka_topic_t *topic, rd_kafka_queue_t *queue) {
  const struct rd_kafka_metadata *metadata;
  rd_kafka_resp_err_t error = rd_kafka_metadata(rk, 0, topic, &metadata, 10000);
  if (error) die("metadata", rd_kafka_err2str(error));
  int partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
  rd_kafka_metadata_destroy(metadata);
  if (partitions == 0) die(rd_kafka_topic_name(topic), "the topic is not there");
  for (int partition = 0; partition < partitions; partition++) {
    if (rd_kafka_consume_start_queue(topic, partition, RD_KAFKA_OFFSET_END, queue) != 0)
      die("consume", rd_kafka_err2str(rd_kafka_last_error()));
  }
}

// Waits for the next result, which must be `expected`.
static void await_result(rd_kafka_queue_t *queue, long expected) {
  for (double deadline = now_seconds() + 30;;) {
    rd_kafka_message_t *message = rd_kafka_consume_queue(queue, 1000);
    if (message != NULL) {
      if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)(message->len < 31 ? message->len : 31), (const char *)message->payload);
        if (atol(text) != expected) die("a wrong result", text);
        rd_kafka_message_destroy(message);
        return;
      }
      if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) die("consume", rd_kafka_message_errstr(message));
      rd_kafka_message_destroy(message);
    }
    if (now_seconds() > deadline) die("a result", "did not come in 30 s");
  }
}

static void print_named(const char *name, double *values, long count, const char *behind) {
  printf("\"%s\": {", name);
  print_latency(values, (size_t)count);
  printf("}%s", behind);
}

int main(int argc, char **argv) {
  const char *bootstrap = option(argc, argv, "bootstrap", "localhost:9092"), *path = option(argc, argv, "probe", NULL);
  long count = number_option(argc, argv, "count", 2000), warmup = count / 10, pause = number_option(argc, argv, "pause", 0);
  size_t size = (size_t)number_option(argc, argv, "size", 100);
  if (path == NULL) die("usage", "job_latency --bootstrap HOST:PORT --probe PATH [--count N] [--size S] [--pause MS]");
  long all = count + warmup;
  double *flushes = calloc((size_t)all, sizeof *flushes), *results = calloc((size_t)all, sizeof *results);
  double *beyond = calloc((size_t)all, sizeof *beyond);
  started = calloc((size_t)all, sizeof *started), acknowledged = calloc((size_t)all, sizeof *acknowledged);
  char block[block_size], *word = malloc(size);
  memset(block, 'x', sizeof block), memset(word, 'w', size);
  int probe = open_probe(path, block);

  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "acks", "all");
  set(conf, "linger.ms", "0");
  rd_kafka_conf_set_dr_msg_cb(conf, delivered);
  rd_kafka_t *producer = make_client(RD_KAFKA_PRODUCER, conf, bootstrap);
  rd_kafka_topic_t *from = rd_kafka_topic_new(producer, option(argc, argv, "from", "lines"), NULL);
  conf = rd_kafka_conf_new();
  set(conf, "isolation.level", "read_committed");
  rd_kafka_t *consumer = make_client(RD_KAFKA_CONSUMER, conf, bootstrap);
  rd_kafka_topic_t *to = rd_kafka_topic_new(consumer, option(argc, argv, "to", "counts"), NULL);
  rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer);
  follow(consumer, to, queue);
  sleep_until(now_seconds() + 1);  // until the consumer waits at the ends
  pthread_t poller;
  pthread_create(&poller, NULL, poll_loop, producer);

  double cpu = cpu_seconds();
  for (long i = 0; i < all; i++) {
    memcpy(block, &i, sizeof i);
    double begin = now_seconds();
    if (pwrite(probe, block, block_size, (off_t)(i % probe_blocks) * block_size) != block_size) die(path, strerror(errno));
    if (fdatasync(probe) != 0) die("fdatasync", strerror(errno));
    flushes[i] = now_seconds() - begin;
    if (pause > 0) sleep_until(now_seconds() + (double)pause * 1e-3);
    started[i] = now_seconds();
    if (rd_kafka_produce(from, 0, 0, word, size, NULL, 0, (void *)(intptr_t)i) != 0)
      die("produce", rd_kafka_err2str(rd_kafka_last_error()));
    await_result(queue, i + 1);
    results[i] = now_seconds() - started[i];
    beyond[i] = results[i] - flushes[i];
  }
  cpu = cpu_seconds() - cpu;
  if (rd_kafka_flush(producer, 10000) != 0 || failures > 0) die("produce", "not all was acknowledged");
  stop_polling = 1;
  pthread_join(poller, NULL);
  printf("{\"librdkafka\": \"%s\", \"records\": %ld, \"size\": %zu, \"client_cpu_seconds\": %.3f, ", rd_kafka_version_str(),
         count, size, cpu);
  print_named("flush", flushes + warmup, count, ", ");
  print_named("acknowledged", acknowledged + warmup, count, ", ");
  print_named("result", results + warmup, count, ", ");
  print_named("beyond", beyond + warmup, count, "}\n");
  rd_kafka_topic_destroy(from);
  rd_kafka_topic_destroy(to);
  rd_kafka_queue_destroy(queue);
  rd_kafka_destroy(producer);
  rd_kafka_destroy(consumer);
  close(probe);
  unlink(path);
  return 0;
}
