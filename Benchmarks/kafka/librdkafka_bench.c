// librdkafka_bench: what an unmodified librdkafka client reaches, against a server or its own mock cluster.
//
//   librdkafka_bench produce --bootstrap HOST:PORT|mock --topic T [--count N] [--size S] [--partitions P] [--linger MS]
//                            [--batch BYTES] [--keys K]
//   librdkafka_bench paced   --bootstrap HOST:PORT|mock --topic T [--rate R] [--seconds N] [--size S] [--linger MS]
//   librdkafka_bench consume --bootstrap HOST:PORT|mock --topic T [--count N] [--size S] [--partitions P]
//
// `produce`: as fast as it goes, acks=all; with `--keys`, every record updates one of K keys of 8 bytes, drawn evenly.
// `paced`: open loop, linger 0 unless told, latency from the moment a record was due to its acknowledgement. `consume`:
// everything from the beginning of each partition on. `mock`: librdkafka's mock cluster inside this process, which `consume`
// fills first; it keeps about 5 MB of a partition, so take many. Prints one line of JSON. All take `--properties
// NAME=VALUE,NAME=VALUE…`, librdkafka's own, such as those of TLS.
#include "measure.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <pthread.h>
#include <sys/prctl.h>

static long failures;
static double *latencies, *due;
static _Atomic long acknowledged;

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
  (void)rk, (void)opaque;
  if (message->err) {
    if (failures++ == 0) fprintf(stderr, "delivery: %s\n", rd_kafka_err2str(message->err));
  } else if (latencies != NULL) {
    long index = (long)(intptr_t)message->_private;
    latencies[index] = now_seconds() - due[index];
    acknowledged++;
  }
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
  char why[512];
  if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) die(name, why);
}

// Properties of the command line, which hold for every client but the one that fills a mock cluster.
static const char *properties = "";

static void set_properties(rd_kafka_conf_t *conf) {
  char *all = strdup(properties), *rest = all;
  for (char *pair; (pair = strsep(&rest, ",")) != NULL;) {
    if (*pair == 0) continue;
    char *value = strchr(pair, '=');
    if (value == NULL) die(pair, "expected NAME=VALUE");
    *value++ = 0;
    set(conf, pair, value);
  }
  free(all);
}

static rd_kafka_t *make_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *bootstrap) {
  char why[512];
  if (strcmp(bootstrap, "mock") == 0) {
    set(conf, "test.mock.num.brokers", "1");
    set(conf, "log_level", "3");
  } else {
    set(conf, "bootstrap.servers", bootstrap);
    set_properties(conf);
  }
  rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
  if (rk == NULL) die("librdkafka", why);
  return rk;
}

static rd_kafka_topic_t *make_topic(rd_kafka_t *rk, const char *name) {
  rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
  const struct rd_kafka_metadata *metadata;
  // Metadata first, so that the measurement does not begin with a lookup; asked again while the topic is being made.
  for (int tries = 0; tries < 50; tries++) {
    rd_kafka_resp_err_t error = rd_kafka_metadata(rk, 0, topic, &metadata, 10000);
    if (error) die("metadata", rd_kafka_err2str(error));
    int ready = metadata->topic_cnt == 1 && !metadata->topics[0].err && metadata->topics[0].partition_cnt > 0;
    rd_kafka_metadata_destroy(metadata);
    if (ready) return topic;
    sleep_until(now_seconds() + 0.02);
  }
  die(name, "the topic is not there");
  return NULL;
}

// The next of a sequence that is the same in every run (xorshift64*).
static uint64_t next_random(void) {
  static uint64_t state = 0x9e3779b97f4a7c15;
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1d;
}

// Hands over `count` records, in runs of a hundred to each partition in turn.
static void hand_over(rd_kafka_t *rk, rd_kafka_topic_t *topic, long count, size_t size, int partitions, uint64_t keys) {
  enum { step = 1000 };
  static rd_kafka_message_t messages[step];
  static uint64_t names[step];
  char *payload = malloc(size);
  memset(payload, 'x', size);
  for (long sent = 0; sent < count;) {
    int want = (int)(count - sent < step ? count - sent : step);
    for (int i = 0; i < want; i++) {
      messages[i] = (rd_kafka_message_t){
          .payload = payload, .len = size, .partition = (int32_t)((sent + i) / 100 % partitions)};
      if (keys > 0) {
        names[i] = next_random() % keys;
        messages[i].key = &names[i];
        messages[i].key_len = sizeof names[i];
      }
    }
    // Only keys are copied. When the client's queue is full the first ones may have been refused and later ones taken:
    // count, not order, is what matters here, since all payloads are equal.
    int taken = rd_kafka_produce_batch(topic, 0, RD_KAFKA_MSG_F_PARTITION, messages, want);
    sent += taken;
    rd_kafka_poll(rk, taken < want ? 1 : 0);
  }
  free(payload);
  if (rd_kafka_flush(rk, 120000) != RD_KAFKA_RESP_ERR_NO_ERROR) die("flush", "not all was acknowledged in 120 s");
}

static int produce(int argc, char **argv) {
  long count = number_option(argc, argv, "count", 1000000);
  size_t size = (size_t)number_option(argc, argv, "size", 100);
  int partitions = (int)number_option(argc, argv, "partitions", 1);
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "acks", "all");
  set(conf, "linger.ms", option(argc, argv, "linger", "5"));
  set(conf, "batch.size", option(argc, argv, "batch", "1000000"));
  set(conf, "batch.num.messages", "1000000");
  set(conf, "queue.buffering.max.messages", "1000000");
  set(conf, "queue.buffering.max.kbytes", "262144");
  set(conf, "delivery.report.only.error", "true");
  rd_kafka_conf_set_dr_msg_cb(conf, delivered);
  rd_kafka_t *rk = make_client(RD_KAFKA_PRODUCER, conf, option(argc, argv, "bootstrap", "localhost:9092"));
  rd_kafka_topic_t *topic = make_topic(rk, option(argc, argv, "topic", "bench"));

  double cpu = cpu_seconds(), began = now_seconds();
  hand_over(rk, topic, count, size, partitions, (uint64_t)number_option(argc, argv, "keys", 0));
  double seconds = now_seconds() - began;
  printf("{\"mode\": \"produce\", \"librdkafka\": \"%s\", \"records\": %ld, \"size\": %zu, \"partitions\": %d, \"seconds\": %.4f, "
         "\"per_second\": %.1f, \"client_cpu_seconds\": %.3f, \"failures\": %ld}\n",
         rd_kafka_version_str(), count, size, partitions, seconds, (double)count / seconds, cpu_seconds() - cpu,
         failures);
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(rk);
  return failures > 0;
}

static _Atomic int stop_polling;

static void *poll_loop(void *rk) {
  while (!stop_polling) rd_kafka_poll(rk, 20);
  return NULL;
}

static int paced(int argc, char **argv) {
  long rate = number_option(argc, argv, "rate", 10000);
  long count = rate * number_option(argc, argv, "seconds", 5);
  size_t size = (size_t)number_option(argc, argv, "size", 100);
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "acks", "all");
  set(conf, "linger.ms", option(argc, argv, "linger", "0"));
  set(conf, "queue.buffering.max.kbytes", "1048576");
  set(conf, "queue.buffering.max.messages", "1000000");
  rd_kafka_conf_set_dr_msg_cb(conf, delivered);
  rd_kafka_t *rk = make_client(RD_KAFKA_PRODUCER, conf, option(argc, argv, "bootstrap", "localhost:9092"));
  rd_kafka_topic_t *topic = make_topic(rk, option(argc, argv, "topic", "bench"));
  latencies = calloc((size_t)count, sizeof *latencies);
  due = calloc((size_t)count, sizeof *due);
  char *payload = malloc(size);
  memset(payload, 'x', size);
  prctl(PR_SET_TIMERSLACK, 1000);
  pthread_t poller;
  pthread_create(&poller, NULL, poll_loop, rk);

  double cpu = cpu_seconds(), began = now_seconds() + 0.05;
  for (long i = 0; i < count; i++) {
    due[i] = began + (double)i / (double)rate;
    if (due[i] > now_seconds()) sleep_until(due[i]);
    if (rd_kafka_produce(topic, 0, 0, payload, size, NULL, 0, (void *)(intptr_t)i) != 0)
      die("produce", rd_kafka_err2str(rd_kafka_last_error()));
  }
  double deadline = now_seconds() + 30;
  while (acknowledged + failures < count && now_seconds() < deadline) sleep_until(now_seconds() + 0.005);
  double seconds = now_seconds() - began;
  stop_polling = 1;
  pthread_join(poller, NULL);
  if (acknowledged != count) die("paced", "not all was acknowledged");
  printf("{\"mode\": \"paced\", \"librdkafka\": \"%s\", \"records\": %ld, \"rate\": %ld, \"size\": %zu, "
         "\"per_second\": %.1f, \"client_cpu_seconds\": %.3f, ",
         rd_kafka_version_str(), count, rate, size, (double)count / seconds, cpu_seconds() - cpu);
  print_latency(latencies, (size_t)count);
  printf("}\n");
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(rk);
  return 0;
}

// A mock cluster that holds `count` records, and its address.
static rd_kafka_t *filled_mock(const char *topic_name, long count, size_t size, int partitions, char *address, size_t room) {
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "acks", "all");
  set(conf, "linger.ms", "5");
  set(conf, "batch.num.messages", "1000000");
  rd_kafka_t *rk = make_client(RD_KAFKA_PRODUCER, conf, "mock");
  rd_kafka_mock_cluster_t *cluster = rd_kafka_handle_mock_cluster(rk);
  rd_kafka_resp_err_t error = rd_kafka_mock_topic_create(cluster, topic_name, partitions, 1);
  if (error) die("mock topic", rd_kafka_err2str(error));
  rd_kafka_topic_t *topic = make_topic(rk, topic_name);
  hand_over(rk, topic, count, size, partitions, 0);
  rd_kafka_topic_destroy(topic);
  snprintf(address, room, "%s", rd_kafka_mock_cluster_bootstraps(cluster));
  return rk;
}

static int consume(int argc, char **argv) {
  long count = number_option(argc, argv, "count", 1000000);
  int partitions = (int)number_option(argc, argv, "partitions", 1);
  const char *bootstrap = option(argc, argv, "bootstrap", "localhost:9092"), *name = option(argc, argv, "topic", "bench");
  char address[256];
  rd_kafka_t *mock = NULL;
  if (strcmp(bootstrap, "mock") == 0) {
    mock = filled_mock(name, count, (size_t)number_option(argc, argv, "size", 100), partitions, address, sizeof address);
    bootstrap = address;
  }
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "check.crcs", "false");
  set(conf, "fetch.message.max.bytes", "8388608");
  set(conf, "queued.min.messages", "1000000");
  rd_kafka_t *rk = make_client(RD_KAFKA_CONSUMER, conf, bootstrap);
  rd_kafka_topic_t *topic = make_topic(rk, name);
  rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
  static rd_kafka_message_t *messages[10000];
  double cpu = cpu_seconds(), began = now_seconds();
  for (int partition = 0; partition < partitions; partition++) {
    if (rd_kafka_consume_start_queue(topic, partition, RD_KAFKA_OFFSET_BEGINNING, queue) != 0)
      die("consume", rd_kafka_err2str(rd_kafka_last_error()));
  }
  long got = 0;
  uint64_t bytes = 0;
  double deadline = began + 600;
  while (got < count) {
    ssize_t part = rd_kafka_consume_batch_queue(queue, 100, messages, 10000);
    if (part < 0) die("consume", rd_kafka_err2str(rd_kafka_last_error()));
    for (ssize_t i = 0; i < part; i++) {
      if (messages[i]->err) die("consume", rd_kafka_message_errstr(messages[i]));
      bytes += messages[i]->len;
      rd_kafka_message_destroy(messages[i]);
    }
    got += part;
    if (now_seconds() > deadline) die("consume", "not all came in 600 s");
  }
  double seconds = now_seconds() - began;
  printf("{\"mode\": \"consume\", \"librdkafka\": \"%s\", \"records\": %ld, \"bytes\": %llu, \"seconds\": %.4f, "
         "\"per_second\": %.1f, \"client_cpu_seconds\": %.3f}\n",
         rd_kafka_version_str(), got, (unsigned long long)bytes, seconds, (double)got / seconds, cpu_seconds() - cpu);
  for (int partition = 0; partition < partitions; partition++) rd_kafka_consume_stop(topic, partition);
  rd_kafka_queue_destroy(queue);
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(rk);
  if (mock != NULL) rd_kafka_destroy(mock);
  return 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  properties = option(argc, argv, "properties", "");
  if (strcmp(mode, "produce") == 0) return produce(argc, argv);
  if (strcmp(mode, "paced") == 0) return paced(argc, argv);
  if (strcmp(mode, "consume") == 0) return consume(argc, argv);
  die("usage", "librdkafka_bench produce|paced|consume --bootstrap HOST:PORT|mock --topic T …");
}
