// link: one AMQP connection with one channel, through librabbitmq or, with the same handshake, by prepared frames on its socket.
//
// librabbitmq writes three frames, and makes three system calls, for each publication, and copies what it receives into pools.
// By prepared frames a block of publications is one write, and what comes is counted where it was read: that shows what the
// server reaches when the client costs next to nothing.
#pragma once
#include "measure.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 256, INPUT = 256 << 10, SMALLEST = 16, LARGEST = 100000 };
enum { ACK = 60 << 16 | 80, NACK = 60 << 16 | 120, DELIVER = 60 << 16 | 60, BLOCKED = 10 << 16 | 60, UNBLOCKED = 10 << 16 | 61 };

struct link {
  amqp_connection_state_t state;
  int fd;
  bool raw;
  const char *queue;
  bool persistent;
  size_t size;
  // Prepared publications, BLOCK of them; where a body begins in one.
  uint8_t *block;
  size_t publication, body;
  // What was received and not looked at.
  uint8_t *input;
  size_t from, to;
};

// A message's begin: its number and when it was due, in nanoseconds. The last one has no number.
struct stamp {
  uint64_t number;
  int64_t due;
};
static const uint64_t LAST = UINT64_MAX;

static uint8_t *put(uint8_t *at, uint64_t value, int width) {
  for (int i = width - 1; i >= 0; i--) *at++ = (uint8_t)(value >> (8 * i));
  return at;
}

static uint64_t get(const uint8_t *at, int width) {
  uint64_t value = 0;
  for (int i = 0; i < width; i++) value = value << 8 | at[i];
  return value;
}

static amqp_bytes_t bytes(const char *text) { return amqp_cstring_bytes(text); }

static void check(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) die(what, amqp_error_string2(reply.library_error));
  static char why[300];
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
    amqp_channel_close_t *close = reply.reply.decoded;
    snprintf(why, sizeof why, "%d %.*s", close->reply_code, (int)close->reply_text.len, (char *)close->reply_text.bytes);
    die(what, why);
  }
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
    amqp_connection_close_t *close = reply.reply.decoded;
    snprintf(why, sizeof why, "%d %.*s", close->reply_code, (int)close->reply_text.len, (char *)close->reply_text.bytes);
    die(what, why);
  }
  die(what, "no answer");
}

static void check_status(int status, const char *what) {
  if (status != AMQP_STATUS_OK) die(what, amqp_error_string2(status));
}

// Connects and opens channel 1.
static struct link connect_link(int argc, char **argv) {
  struct link link = {.queue = option(argc, argv, "queue", "bench"), .state = amqp_new_connection()};
  amqp_socket_t *socket = amqp_tcp_socket_new(link.state);
  if (socket == NULL) die("socket", "no memory");
  int port = (int)number_option(argc, argv, "port", 5672);
  check_status(amqp_socket_open(socket, option(argc, argv, "host", "127.0.0.1"), port), "connecting");
  // So that the server says when publishers have to wait.
  amqp_table_entry_t can = {.key = bytes("connection.blocked"), .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
  amqp_table_entry_t all = {.key = bytes("capabilities"),
                            .value = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {.num_entries = 1, .entries = &can}}};
  amqp_table_t properties = {.num_entries = 1, .entries = &all};
  check(amqp_login_with_properties(link.state, "/", 0, 131072, 0, &properties, AMQP_SASL_METHOD_PLAIN, "guest", "guest"),
        "login");
  amqp_channel_open(link.state, 1);
  check(amqp_get_rpc_reply(link.state), "opening a channel");
  link.fd = amqp_get_sockfd(link.state);
  link.raw = strcmp(option(argc, argv, "via", "library"), "raw") == 0;
  // The library's sockets do not wait.
  if (link.raw && fcntl(link.fd, F_SETFL, fcntl(link.fd, F_GETFL) & ~O_NONBLOCK) != 0) die("socket", strerror(errno));
  return link;
}

static void close_link(struct link *link) {
  check(amqp_connection_close(link->state, AMQP_REPLY_SUCCESS), "closing");
  amqp_destroy_connection(link->state);
  free(link->block);
  free(link->input);
}

static void write_all(struct link *link, const uint8_t *data, size_t count) {
  while (count > 0) {
    ssize_t done = send(link->fd, data, count, MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) die("write", strerror(errno));
    data += done;
    count -= (size_t)done;
  }
}

static uint8_t *begin_frame(uint8_t *at, int kind, size_t size) {
  at = put(at, (uint64_t)kind, 1);
  at = put(at, 1, 2);
  return put(at, size, 4);
}

static uint8_t *put_short(uint8_t *at, const char *text) {
  size_t length = strlen(text);
  at = put(at, length, 1);
  memcpy(at, text, length);
  return at + length;
}

// Lays out what the publications have in common.
static void prepare(struct link *link, size_t size, bool persistent) {
  if (size < SMALLEST || size > LARGEST) die("size", "expected 16 to 100,000");
  link->size = size;
  link->persistent = persistent;
  link->input = malloc(INPUT);
  uint8_t *one = malloc(size + 1024);
  uint8_t *at = begin_frame(one, 1, 9 + strlen(link->queue));
  at = put(at, 60 << 16 | 40, 4);
  at = put(at, 0, 2);
  at = put_short(at, "");
  at = put_short(at, link->queue);
  at = put(at, 0, 1);
  at = put(at, 0xCE, 1);
  at = begin_frame(at, 2, persistent ? 15 : 14);
  at = put(at, 60 << 16, 4);
  at = put(at, size, 8);
  at = put(at, persistent ? 1 << 12 : 0, 2);
  if (persistent) at = put(at, 2, 1);
  at = put(at, 0xCE, 1);
  at = begin_frame(at, 3, size);
  link->body = (size_t)(at - one);
  memset(at, 'x', size);
  at = put(at + size, 0xCE, 1);
  link->publication = (size_t)(at - one);
  link->block = malloc(BLOCK * link->publication);
  for (int i = 0; i < BLOCK; i++) memcpy(link->block + (size_t)i * link->publication, one, link->publication);
  free(one);
}

// Sets what differs in the publication at `index` of the block.
static void stamp(struct link *link, int index, struct stamp what) {
  memcpy(link->block + (size_t)index * link->publication + link->body, &what, sizeof what);
}

// Publishes the first `count` of the block.
static void publish(struct link *link, int count) {
  if (link->raw) return write_all(link, link->block, (size_t)count * link->publication);
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
  for (int i = 0; i < count; i++) {
    amqp_bytes_t body = {.len = link->size, .bytes = link->block + (size_t)i * link->publication + link->body};
    check_status(amqp_basic_publish(link->state, 1, amqp_empty_bytes, bytes(link->queue), 0, 0,
                                    link->persistent ? &properties : NULL, body),
                 "publishing");
  }
}

// Something that came: a method, and, for a delivery, its content's first bytes.
struct event {
  int method;
  uint64_t tag;
  bool multiple;
  struct stamp stamp;
};

static void fill_input(struct link *link, size_t needed) {
  if (link->from + needed > INPUT) {
    memmove(link->input, link->input + link->from, link->to - link->from);
    link->to -= link->from;
    link->from = 0;
  }
  while (link->to - link->from < needed) {
    ssize_t got = recv(link->fd, link->input + link->to, INPUT - link->to, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) die("read", got == 0 ? "the server has closed the connection" : strerror(errno));
    link->to += (size_t)got;
  }
}

// The next frame as a whole; its payload.
static const uint8_t *raw_frame(struct link *link, int *kind, size_t *size) {
  if (link->to - link->from < 7) fill_input(link, 7);
  *size = get(link->input + link->from + 3, 4);
  if (*size + 8 > INPUT) die("read", "a frame that is too large");
  if (link->to - link->from < *size + 8) fill_input(link, *size + 8);
  const uint8_t *frame = link->input + link->from;
  if (frame[7 + *size] != 0xCE) die("read", "a frame without its end");
  *kind = frame[0];
  link->from += *size + 8;
  return frame + 7;
}

static struct event raw_event(struct link *link) {
  struct event event = {0};
  int kind;
  size_t size;
  const uint8_t *payload = raw_frame(link, &kind, &size);
  if (kind != 1) die("read", "a content without its method");
  event.method = (int)get(payload, 4);
  if (event.method == ACK || event.method == NACK) {
    event.tag = get(payload + 4, 8);
    event.multiple = payload[12] & 1;
  } else if (event.method == DELIVER) {
    event.tag = get(payload + 5 + payload[4], 8);
    payload = raw_frame(link, &kind, &size);
    uint64_t left = get(payload + 4, 8);
    for (bool first = true; left > 0; first = false) {
      payload = raw_frame(link, &kind, &size);
      if (kind != 3 || size > left || (first && size < SMALLEST)) die("read", "a body that is not as announced");
      if (first) memcpy(&event.stamp, payload, sizeof event.stamp);
      left -= size;
    }
  }
  return event;
}

static void wait_frame(struct link *link, amqp_frame_t *frame) {
  check_status(amqp_simple_wait_frame(link->state, frame), "reading");
}

static struct event library_event(struct link *link) {
  struct event event = {0};
  amqp_frame_t frame;
  amqp_maybe_release_buffers(link->state);
  wait_frame(link, &frame);
  if (frame.frame_type != AMQP_FRAME_METHOD) die("reading", "a content without its method");
  event.method = (int)frame.payload.method.id;
  void *decoded = frame.payload.method.decoded;
  if (event.method == ACK) {
    event.tag = ((amqp_basic_ack_t *)decoded)->delivery_tag;
    event.multiple = ((amqp_basic_ack_t *)decoded)->multiple;
  } else if (event.method == DELIVER) {
    event.tag = ((amqp_basic_deliver_t *)decoded)->delivery_tag;
    wait_frame(link, &frame);
    if (frame.frame_type != AMQP_FRAME_HEADER) die("reading", "a delivery without its header");
    uint64_t left = frame.payload.properties.body_size;
    for (bool first = true; left > 0; first = false) {
      wait_frame(link, &frame);
      amqp_bytes_t part = frame.payload.body_fragment;
      if (frame.frame_type != AMQP_FRAME_BODY || part.len > left || (first && part.len < SMALLEST))
        die("reading", "a body that is not as announced");
      if (first) memcpy(&event.stamp, part.bytes, sizeof event.stamp);
      left -= part.len;
    }
  }
  return event;
}

static struct event next_event(struct link *link) { return link->raw ? raw_event(link) : library_event(link); }

// Acknowledges everything up to `tag`.
static void acknowledge(struct link *link, uint64_t tag) {
  if (!link->raw) return check_status(amqp_basic_ack(link->state, 1, tag, 1), "acknowledging");
  uint8_t frame[21];
  uint8_t *at = begin_frame(frame, 1, 13);
  at = put(at, ACK, 4);
  at = put(at, tag, 8);
  at = put(at, 1, 1);
  put(at, 0xCE, 1);
  write_all(link, frame, sizeof frame);
}

// Begins to consume, `prefetch` unacknowledged at most; 0: without acknowledgements.
static void consume(struct link *link, int prefetch) {
  if (prefetch > 0) {
    amqp_basic_qos(link->state, 1, 0, (uint16_t)prefetch, 0);
    check(amqp_get_rpc_reply(link->state), "setting the prefetch");
  }
  if (!link->raw) {
    amqp_basic_consume(link->state, 1, bytes(link->queue), bytes("c"), 0, prefetch == 0, 0, amqp_empty_table);
    return check(amqp_get_rpc_reply(link->state), "consuming");
  }
  // By hand: the library would keep what comes right behind the answer.
  uint8_t frame[400], payload[300];
  uint8_t *at = put(payload, 60 << 16 | 20, 4);
  at = put(at, 0, 2);
  at = put_short(at, link->queue);
  at = put_short(at, "c");
  at = put(at, prefetch == 0 ? 2 : 0, 1);
  at = put(at, 0, 4);
  size_t size = (size_t)(at - payload);
  at = begin_frame(frame, 1, size);
  memcpy(at, payload, size);
  at = put(at + size, 0xCE, 1);
  write_all(link, frame, (size_t)(at - frame));
  if (raw_event(link).method != (60 << 16 | 21)) die("consuming", "refused");
}
