// rdkafka_client: what a C program does with the system's librdkafka, one operation a run, for the Python driver beside it.
//
//   rdkafka_client produce TOPIC PARTITION [NAME=VALUE…]           records on standard input, their offsets on output
//   rdkafka_client read TOPIC PARTITION FIRST COUNT MS [NAME=…]    records on output, by assignment
//   rdkafka_client time TOPIC PARTITION TIME [NAME=…]              the first offset not older than TIME (ms), or a negative one
//   rdkafka_client member TOPIC [NAME=…]                           records on output, by group, until SIGTERM or SIGINT
//
// NAME=VALUE are librdkafka's own settings. A record is a line of fields between spaces:
//   TIMESTAMP KEY VALUE [NAME VALUE]…             as read; a timestamp of 0 or less means now
//   record PARTITION OFFSET TIMESTAMP KEY VALUE [NAME VALUE]…      as written
// Bytes are "x" and hexadecimal digits, "-" is none. A member also writes `assigned P,P…` and `revoked`.
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t stopping;
static rd_kafka_resp_err_t delivery_error;

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static int64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static rd_kafka_conf_t *settings(char **arguments, int count) {
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  char reason[512];
  for (int i = 0; i < count; i++) {
    char *value = strchr(arguments[i], '=');
    if (!value) fail("%s is not NAME=VALUE", arguments[i]);
    *value++ = 0;
    if (rd_kafka_conf_set(conf, arguments[i], value, reason, sizeof reason) != RD_KAFKA_CONF_OK) fail("%s", reason);
  }
  return conf;
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
  char reason[512];
  rd_kafka_t *kafka = rd_kafka_new(type, conf, reason, sizeof reason);
  if (!kafka) fail("%s", reason);
  return kafka;
}

// Bytes as text

struct bytes {
  uint8_t *base; // NULL: none
  size_t count;
};

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  fail("'%c' is no hexadecimal digit", c);
  return 0;
}

static struct bytes parse(const char *text) {
  struct bytes out = {NULL, 0};
  if (!text) fail("a field is missing");
  if (strcmp(text, "-") == 0) return out;
  if (*text++ != 'x') fail("bytes begin with x");
  out.count = strlen(text) / 2;
  out.base = malloc(out.count + 1);
  for (size_t i = 0; i < out.count; i++) out.base[i] = (uint8_t)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
  out.base[out.count] = 0;
  return out;
}

static void print_bytes(const void *base, size_t count) {
  if (!base) {
    fputs(" -", stdout);
    return;
  }
  fputs(" x", stdout);
  for (size_t i = 0; i < count; i++) printf("%02x", ((const uint8_t *)base)[i]);
}

static void print_record(const rd_kafka_message_t *message) {
  rd_kafka_timestamp_type_t type;
  int64_t timestamp = rd_kafka_message_timestamp(message, &type);
  if (type != RD_KAFKA_TIMESTAMP_CREATE_TIME) timestamp = -1;
  printf("record %" PRId32 " %" PRId64 " %" PRId64, message->partition, message->offset, timestamp);
  // librdkafka gives an empty key or value an address, a null one none.
  print_bytes(message->key, message->key_len);
  print_bytes(message->payload, message->len);
  rd_kafka_headers_t *headers;
  if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const char *name;
    const void *value;
    size_t size;
    for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
      print_bytes(name, strlen(name));
      print_bytes(value, size);
    }
  }
  putchar('\n');
}

// Producing

static void delivered(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque) {
  (void)kafka;
  (void)opaque;
  if (message->err) delivery_error = message->err;
  // Each record carries the place of its offset.
  *(int64_t *)message->_private = message->offset;
}

static int produce(const char *topic, int partition, rd_kafka_conf_t *conf) {
  rd_kafka_conf_set_dr_msg_cb(conf, delivered);
  rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER, conf);
  size_t count = 0, capacity = 1 << 20;
  int64_t *offsets = malloc(capacity * sizeof *offsets);
  char *line = NULL;
  size_t room = 0;
  ssize_t length;
  while ((length = getline(&line, &room, stdin)) > 0) {
    if (line[length - 1] == '\n') line[length - 1] = 0;
    if (count == capacity) fail("more than %zu records", capacity);
    char *rest = line;
    int64_t timestamp = strtoll(strsep(&rest, " "), NULL, 10);
    struct bytes key = parse(strsep(&rest, " ")), value = parse(strsep(&rest, " "));
    rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
    while (rest) {
      struct bytes name = parse(strsep(&rest, " ")), content = parse(strsep(&rest, " "));
      rd_kafka_header_add(headers, (char *)name.base, (ssize_t)name.count, content.base, (ssize_t)content.count);
      free(name.base);
      free(content.base);
    }
    rd_kafka_resp_err_t error;
    while ((error = rd_kafka_producev(
              kafka, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_KEY(key.base, key.count),
              RD_KAFKA_V_VALUE(value.base, value.count), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
              RD_KAFKA_V_TIMESTAMP(timestamp < 0 ? 0 : timestamp), RD_KAFKA_V_HEADERS(headers),
              RD_KAFKA_V_OPAQUE(&offsets[count]), RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
      rd_kafka_poll(kafka, 100);
    if (error) fail("producing: %s", rd_kafka_err2str(error));
    count++;
    free(key.base);
    free(value.base);
    rd_kafka_poll(kafka, 0);
  }
  if (rd_kafka_flush(kafka, 30000)) fail("not everything was acknowledged in time");
  if (delivery_error) fail("%s", rd_kafka_err2name(delivery_error));
  for (size_t i = 0; i < count; i++) printf("%" PRId64 "\n", offsets[i]);
  rd_kafka_destroy(kafka);
  return 0;
}

// Consuming

static void check(rd_kafka_message_t *message) {
  if (message->err) fail("%s: %s", rd_kafka_err2name(message->err), rd_kafka_message_errstr(message));
}

static int read_assigned(
    const char *topic, int partition, int64_t first, int64_t count, int64_t milliseconds, rd_kafka_conf_t *conf) {
  rd_kafka_t *kafka = client(RD_KAFKA_CONSUMER, conf);
  rd_kafka_poll_set_consumer(kafka);
  rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topic, partition)->offset = first;
  rd_kafka_resp_err_t error = rd_kafka_assign(kafka, list);
  if (error) fail("%s", rd_kafka_err2str(error));
  int64_t deadline = now_ms() + milliseconds;
  while (count > 0 && now_ms() < deadline) {
    rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka, 200);
    if (!message) continue;
    check(message);
    print_record(message);
    rd_kafka_message_destroy(message);
    count--;
  }
  rd_kafka_topic_partition_list_destroy(list);
  rd_kafka_consumer_close(kafka);
  rd_kafka_destroy(kafka);
  return 0;
}

static int offset_for_time(const char *topic, int partition, int64_t milliseconds, rd_kafka_conf_t *conf) {
  rd_kafka_t *kafka = client(RD_KAFKA_CONSUMER, conf);
  rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topic, partition)->offset = milliseconds;
  rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(kafka, list, 20000);
  if (!error) error = list->elems[0].err;
  if (error) fail("%s", rd_kafka_err2str(error));
  printf("%" PRId64 "\n", list->elems[0].offset);
  rd_kafka_topic_partition_list_destroy(list);
  rd_kafka_destroy(kafka);
  return 0;
}

static void rebalanced(
    rd_kafka_t *kafka, rd_kafka_resp_err_t event, rd_kafka_topic_partition_list_t *partitions, void *opaque) {
  (void)opaque;
  if (event == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
    rd_kafka_assign(kafka, partitions);
    fputs("assigned ", stdout);
    for (int i = 0; i < partitions->cnt; i++) printf("%s%" PRId32, i ? "," : "", partitions->elems[i].partition);
    putchar('\n');
  } else {
    puts("revoked");
    rd_kafka_assign(kafka, NULL);
  }
  fflush(stdout);
}

static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

static int member(const char *topic, rd_kafka_conf_t *conf) {
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  rd_kafka_conf_set_rebalance_cb(conf, rebalanced);
  rd_kafka_t *kafka = client(RD_KAFKA_CONSUMER, conf);
  rd_kafka_poll_set_consumer(kafka);
  rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
  rd_kafka_resp_err_t error = rd_kafka_subscribe(kafka, list);
  if (error) fail("%s", rd_kafka_err2str(error));
  rd_kafka_topic_partition_list_destroy(list);
  while (!stopping) {
    rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka, 100);
    if (!message) continue;
    check(message);
    print_record(message);
    fflush(stdout);
    rd_kafka_message_destroy(message);
  }
  error = rd_kafka_consumer_close(kafka);
  if (error) fail("closing: %s", rd_kafka_err2str(error));
  rd_kafka_destroy(kafka);
  return 0;
}

int main(int count, char **arguments) {
  const char *command = count > 2 ? arguments[1] : "";
  char **rest = arguments + 2;
  int left = count - 2;
  if (strcmp(command, "produce") == 0 && left >= 2)
    return produce(rest[0], atoi(rest[1]), settings(rest + 2, left - 2));
  if (strcmp(command, "read") == 0 && left >= 5)
    return read_assigned(
        rest[0], atoi(rest[1]), atoll(rest[2]), atoll(rest[3]), atoll(rest[4]), settings(rest + 5, left - 5));
  if (strcmp(command, "time") == 0 && left >= 3)
    return offset_for_time(rest[0], atoi(rest[1]), atoll(rest[2]), settings(rest + 3, left - 3));
  if (strcmp(command, "member") == 0 && left >= 1) return member(rest[0], settings(rest + 1, left - 1));
  fail("usage: rdkafka_client produce|read|time|member …; see the head of its source");
}
