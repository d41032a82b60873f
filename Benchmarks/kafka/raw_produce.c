// raw_produce: Produce requests of one record each on one connection, a fixed number of them in flight.
//
//   raw_produce --host H --port P --topic T [--size 100] [--window 1] [--seconds 5] [--partition 0]
//
// Shows what an acknowledgement costs without a client library: window 1 is one flush and one round trip at a time,
// larger windows show how many records share a flush.
#include "measure.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t *put(uint8_t *at, uint64_t value, int width) {
  for (int i = width - 1; i >= 0; i--) *at++ = (uint8_t)(value >> (8 * i));
  return at;
}

static uint8_t *put_varint(uint8_t *at, int64_t value) {
  uint64_t rest = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
  while (rest >= 0x80) {
    *at++ = (uint8_t)(rest & 0x7f) | 0x80;
    rest >>= 7;
  }
  *at++ = (uint8_t)rest;
  return at;
}

static int varint_size(int64_t value) {
  uint8_t scratch[10];
  return (int)(put_varint(scratch, value) - scratch);
}

static uint8_t *put_string(uint8_t *at, const char *text) {
  size_t length = strlen(text);
  at = put(at, length, 2);
  memcpy(at, text, length);
  return at + length;
}

// CRC-32C, bit by bit: it runs once.
static uint32_t crc32c(const uint8_t *data, size_t count) {
  uint32_t crc = 0xffffffff;
  for (size_t i = 0; i < count; i++) {
    crc ^= data[i];
    for (int k = 0; k < 8; k++) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return crc ^ 0xffffffff;
}

// A Produce request, version 7, acks all, with one record of `size` bytes; the correlation id stands at byte 8.
static size_t build(uint8_t *frame, const char *topic, int partition, size_t size) {
  uint8_t *at = frame + 4;
  at = put(at, 0, 2);
  at = put(at, 7, 2);
  at = put(at, 0, 4);
  at = put_string(at, "raw");
  at = put(at, 0xffff, 2);
  at = put(at, 0xffff, 2);
  at = put(at, 30000, 4);
  at = put(at, 1, 4);
  at = put_string(at, topic);
  at = put(at, 1, 4);
  at = put(at, (uint64_t)partition, 4);
  uint8_t *batch_size = at;
  at += 4;
  uint8_t *batch = at;
  at = put(at, 0, 8);
  uint8_t *batch_length = at;
  at += 4;
  at = put(at, 0xffffffff, 4);
  *at++ = 2;
  uint8_t *crc = at;
  at += 4;
  uint8_t *checked = at;
  at = put(at, 0, 2);
  at = put(at, 0, 4);
  at = put(at, 1700000000000, 8);
  at = put(at, 1700000000000, 8);
  at = put(at, UINT64_MAX, 8);
  at = put(at, 0xffff, 2);
  at = put(at, 0xffffffff, 4);
  at = put(at, 1, 4);
  at = put_varint(at, 1 + 1 + 1 + varint_size(-1) + varint_size((int64_t)size) + (int64_t)size + 1);
  *at++ = 0;
  at = put_varint(at, 0);
  at = put_varint(at, 0);
  at = put_varint(at, -1);
  at = put_varint(at, (int64_t)size);
  memset(at, 'x', size);
  at += size;
  at = put_varint(at, 0);
  put(crc, crc32c(checked, (size_t)(at - checked)), 4);
  put(batch_length, (uint64_t)(at - batch_length - 4), 4);
  put(batch_size, (uint64_t)(at - batch), 4);
  put(frame, (uint64_t)(at - frame - 4), 4);
  return (size_t)(at - frame);
}

static int connect_to(const char *host, const char *port) {
  struct addrinfo *found, wanted = {.ai_socktype = SOCK_STREAM};
  int code = getaddrinfo(host, port, &wanted, &found);
  if (code != 0) die(host, gai_strerror(code));
  int fd = socket(found->ai_family, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0) die(host, strerror(errno));
  freeaddrinfo(found);
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static void write_all(int fd, const uint8_t *data, size_t count) {
  while (count > 0) {
    ssize_t written = write(fd, data, count);
    if (written <= 0) die("write", strerror(errno));
    data += written;
    count -= (size_t)written;
  }
}

static void read_all(int fd, uint8_t *into, size_t count) {
  static uint8_t buffer[1 << 16];
  static size_t from, to;
  while (count > 0) {
    if (from == to) {
      ssize_t got = read(fd, buffer, sizeof buffer);
      if (got <= 0) die("read", got == 0 ? "the server closed the connection" : strerror(errno));
      from = 0;
      to = (size_t)got;
    }
    size_t part = count < to - from ? count : to - from;
    memcpy(into, buffer + from, part);
    from += part;
    into += part;
    count -= part;
  }
}

static uint32_t get32(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

int main(int argc, char **argv) {
  const char *topic = option(argc, argv, "topic", "raw");
  size_t size = (size_t)number_option(argc, argv, "size", 100);
  long window = number_option(argc, argv, "window", 1);
  double seconds = (double)number_option(argc, argv, "seconds", 5);
  int fd = connect_to(option(argc, argv, "host", "127.0.0.1"), option(argc, argv, "port", "9092"));
  uint8_t *frame = malloc(size + 4096);
  size_t length = build(frame, topic, (int)number_option(argc, argv, "partition", 0), size);

  size_t room = 1 << 16, done = 0;
  double *took = malloc(room * sizeof *took), *sent_at = calloc((size_t)window, sizeof *sent_at);
  uint32_t sent = 0, answered = 0;
  double began = now_seconds(), end = began + seconds;
  while (1) {
    double now = now_seconds();
    while (now < end && sent - answered < (uint32_t)window) {
      put(frame + 8, sent, 4);
      sent_at[sent % (uint32_t)window] = now_seconds();
      write_all(fd, frame, length);
      sent++;
    }
    if (sent == answered) break;
    uint8_t head[4], body[1024];
    read_all(fd, head, 4);
    uint32_t count = get32(head);
    if (count > sizeof body) die("response", "longer than expected");
    read_all(fd, body, count);
    if (get32(body) != answered) die("response", "out of order");
    // correlation, topic count, topic, partition count, partition: then the error code.
    uint32_t error_at = 4 + 4 + 2 + (uint32_t)strlen(topic) + 4 + 4;
    if (count < error_at + 2) die("response", "shorter than expected");
    if (body[error_at] != 0 || body[error_at + 1] != 0) {
      fprintf(stderr, "the server answered error %d\n", body[error_at] << 8 | body[error_at + 1]);
      return 1;
    }
    if (done == room) took = realloc(took, (room *= 2) * sizeof *took);
    took[done++] = now_seconds() - sent_at[answered % (uint32_t)window];
    answered++;
  }
  double spent = now_seconds() - began;
  printf("{\"window\": %ld, \"size\": %zu, \"records\": %zu, \"per_second\": %.1f, ", window, size, done,
         (double)done / spent);
  print_latency(took, done);
  printf("}\n");
  return 0;
}
