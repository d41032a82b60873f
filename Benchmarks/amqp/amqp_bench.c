// amqp_bench: what an AMQP 0-9-1 client reaches: librabbitmq as it is, or prepared frames on its connection.
//
//   amqp_bench declare     --queue Q [--durable 1] [--type quorum]
//   amqp_bench flow        --queue Q [--seconds N] [--count N] [--window W] [--prefetch P] …   a producer and a consumer at once
//   amqp_bench fill        --queue Q --count N [--window W] …                                  the producer alone
//   amqp_bench drain       --queue Q --count N [--prefetch P] …                                the consumer alone
//   amqp_bench paced       --queue Q [--rate R] [--seconds N] [--window W] [--prefetch P] …    latency, open loop
//   amqp_bench flood       --queue Q [--stall MS] …   publishes until the server takes no more; goes on and drains when told
//   amqp_bench connections --count N                  opens them; closes them when told
//   amqp_bench queues      --count N [--durable 1]    declares them
//
// Everywhere: --host H --port P; where messages flow: --via library|raw, --size S, --durable 1 (persistent messages). `window`: so
// many publications unconfirmed at most; 0 for no confirms. `prefetch`: so many deliveries unacknowledged at most, acknowledged
// a quarter of them at once; 0 for automatic acknowledgement. Told: by a line on standard input. Each message carries its number, and
// the consumer fails when one is missing, double or out of order. Prints a line of JSON; everything ends after --limit seconds.
#include "link.h"

#include <pthread.h>
#include <sys/prctl.h>

static double thread_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int64_t now_nanoseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// --- publishing

enum { LARGEST_WINDOW = 1 << 16 };

struct producer {
  struct link link;
  long window, count;
  double seconds, began, ended, cpu;
  // Published; confirmed; the first that is not confirmed, from 1 on, and those behind it that are.
  uint64_t sent, confirmed, first;
  bool isConfirmed[LARGEST_WINDOW];
};

static void begin_producer(struct producer *producer, int argc, char **argv) {
  *producer = (struct producer){.link = connect_link(argc, argv), .first = 1};
  producer->window = number_option(argc, argv, "window", 0);
  producer->count = number_option(argc, argv, "count", LONG_MAX);
  producer->seconds = (double)number_option(argc, argv, "seconds", 86400);
  if (producer->window >= LARGEST_WINDOW) die("window", "expected less than 65,536");
  if (producer->window > 0) {
    amqp_confirm_select(producer->link.state, 1);
    check(amqp_get_rpc_reply(producer->link.state), "asking for confirms");
  }
  prepare(&producer->link, (size_t)number_option(argc, argv, "size", 16), number_option(argc, argv, "durable", 0));
}

// Waits for one confirm.
static void take_confirm(struct producer *producer) {
  struct event event = next_event(&producer->link);
  if (event.method == BLOCKED || event.method == UNBLOCKED) return;
  if (event.method != ACK) die("confirms", event.method == NACK ? "a publication was refused" : "something else came");
  if (event.tag > producer->sent) die("confirms", "a publication that there was not");
  for (uint64_t tag = event.multiple ? producer->first : event.tag; tag <= event.tag; tag++) {
    bool *isConfirmed = &producer->isConfirmed[tag % LARGEST_WINDOW];
    if (tag < producer->first || *isConfirmed) continue;
    *isConfirmed = true;
    producer->confirmed++;
  }
  for (; producer->isConfirmed[producer->first % LARGEST_WINDOW]; producer->first++)
    producer->isConfirmed[producer->first % LARGEST_WINDOW] = false;
}

// Waits until `most` publications or fewer are unconfirmed.
static void await_confirms(struct producer *producer, uint64_t most) {
  while (producer->window > 0 && producer->sent - producer->confirmed > most) take_confirm(producer);
}

// Publishes as fast as it goes, and then the mark of the end.
static void *produce(void *opaque) {
  struct producer *producer = opaque;
  double cpu = thread_seconds();
  producer->began = now_seconds();
  double until = producer->began + producer->seconds;
  uint64_t total = (uint64_t)producer->count;
  bool isOver = false;
  while (!isOver) {
    uint64_t room = BLOCK;
    if (producer->window > 0) {
      await_confirms(producer, (uint64_t)producer->window - 1);
      uint64_t free = (uint64_t)producer->window - (producer->sent - producer->confirmed);
      if (free < room) room = free;
    }
    // By the library each is a write of its own, so that confirms are better looked at in between.
    if (!producer->link.raw && room > 16) room = 16;
    if (total - producer->sent < room) room = total - producer->sent;
    isOver = now_seconds() >= until || producer->sent + room == total;
    for (uint64_t i = 0; i < room; i++) {
      bool isLast = isOver && i + 1 == room;
      stamp(&producer->link, (int)i, (struct stamp){.number = isLast ? LAST : producer->sent + i});
    }
    publish(&producer->link, (int)room);
    producer->sent += room;
  }
  await_confirms(producer, 0);
  producer->ended = now_seconds();
  producer->cpu = thread_seconds() - cpu;
  return NULL;
}

// --- consuming

struct consumer {
  struct link link;
  int prefetch;
  // What there is to come, if that is known; what came.
  uint64_t count, received;
  double began, ended, cpu;
  // Times from when a message was due to its delivery, in seconds, if they are wanted.
  double *latencies;
};

static void begin_consumer(struct consumer *consumer, int argc, char **argv) {
  *consumer = (struct consumer){.link = connect_link(argc, argv)};
  consumer->prefetch = (int)number_option(argc, argv, "prefetch", 0);
  prepare(&consumer->link, SMALLEST, false);
}

// Takes what comes until the message that is marked as the last one, or up to the count.
static void *take(void *opaque) {
  struct consumer *consumer = opaque;
  double cpu = thread_seconds();
  consumer->began = now_seconds();
  uint64_t unacknowledged = 0, step = consumer->prefetch > 3 ? (uint64_t)consumer->prefetch / 4 : 1;
  for (bool isLast = false; !isLast;) {
    struct event event = next_event(&consumer->link);
    if (event.method != DELIVER) die("consuming", "something else came");
    isLast = event.stamp.number == LAST || consumer->received + 1 == consumer->count;
    if (event.stamp.number != LAST && event.stamp.number != consumer->received) die("consuming", "a message is missing or double");
    if (consumer->latencies != NULL) consumer->latencies[consumer->received] = (double)(now_nanoseconds() - event.stamp.due) * 1e-9;
    consumer->received++;
    unacknowledged++;
    if (consumer->prefetch > 0 && (isLast || unacknowledged == step)) {
      acknowledge(&consumer->link, event.tag);
      unacknowledged = 0;
    }
  }
  consumer->ended = now_seconds();
  consumer->cpu = thread_seconds() - cpu;
  return NULL;
}

static void start(pthread_t *thread, void *(*body)(void *), void *argument) {
  if (pthread_create(thread, NULL, body, argument) != 0) die("thread", "cannot be started");
}

// --- what is measured

static void flow(int argc, char **argv) {
  struct producer producer;
  struct consumer consumer;
  begin_consumer(&consumer, argc, argv);
  begin_producer(&producer, argc, argv);
  consume(&consumer.link, consumer.prefetch);
  pthread_t taking;
  start(&taking, take, &consumer);
  produce(&producer);
  pthread_join(taking, NULL);
  if (consumer.received != producer.sent) die("flow", "not everything arrived");
  double ended = producer.ended > consumer.ended ? producer.ended : consumer.ended;
  printf("{\"count\": %lu, \"seconds\": %.6f, \"per_second\": %.1f, \"producing_cpu\": %.4f, \"consuming_cpu\": %.4f}\n",
         producer.sent, ended - producer.began, (double)producer.sent / (ended - producer.began), producer.cpu, consumer.cpu);
  close_link(&producer.link);
  close_link(&consumer.link);
}

static void fill(int argc, char **argv) {
  struct producer producer;
  begin_producer(&producer, argc, argv);
  produce(&producer);
  double seconds = producer.ended - producer.began;
  printf("{\"count\": %lu, \"seconds\": %.6f, \"per_second\": %.1f, \"producing_cpu\": %.4f}\n", producer.sent, seconds,
         (double)producer.sent / seconds, producer.cpu);
  close_link(&producer.link);
}

static void drain(int argc, char **argv) {
  struct consumer consumer;
  begin_consumer(&consumer, argc, argv);
  consumer.count = (uint64_t)number_option(argc, argv, "count", 0);
  consume(&consumer.link, consumer.prefetch);
  take(&consumer);
  double seconds = consumer.ended - consumer.began;
  printf("{\"count\": %lu, \"seconds\": %.6f, \"per_second\": %.1f, \"consuming_cpu\": %.4f}\n", consumer.received, seconds,
         (double)consumer.received / seconds, consumer.cpu);
  close_link(&consumer.link);
}

// Open loop: a message is due at its time, whether or not those before it have gone out.
static void paced(int argc, char **argv) {
  struct producer producer;
  struct consumer consumer;
  begin_consumer(&consumer, argc, argv);
  begin_producer(&producer, argc, argv);
  long rate = number_option(argc, argv, "rate", 10000), total = rate * number_option(argc, argv, "seconds", 5);
  if (rate < 1 || total < 1 || total > 100000000) die("paced", "expected a rate and seconds of 1 or more");
  consumer.latencies = malloc((size_t)total * sizeof(double));
  consume(&consumer.link, consumer.prefetch);
  pthread_t taking;
  start(&taking, take, &consumer);
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  int64_t began = now_nanoseconds() + 1000000;
  for (long next = 0; next < total;) {
    sleep_until((double)(began + next * 1000000000 / rate) * 1e-9);
    int64_t now = now_nanoseconds();
    int count = 0;
    for (; next < total && count < BLOCK && began + next * 1000000000 / rate <= now; next++, count++)
      stamp(&producer.link, count,
            (struct stamp){.number = next + 1 == total ? LAST : (uint64_t)next, .due = began + next * 1000000000 / rate});
    if (count == 0) continue;
    if (producer.window > 0) await_confirms(&producer, (uint64_t)producer.window > (uint64_t)count ? (uint64_t)(producer.window - count) : 0);
    publish(&producer.link, count);
    producer.sent += (uint64_t)count;
  }
  await_confirms(&producer, 0);
  pthread_join(taking, NULL);
  if (consumer.received != producer.sent) die("paced", "not everything arrived");
  // The first tenth warms everything up.
  printf("{\"count\": %ld, ", total);
  print_latency(consumer.latencies + total / 10, (size_t)(total - total / 10));
  printf("}\n");
  free(consumer.latencies);
  close_link(&producer.link);
  close_link(&consumer.link);
}

// Tells how far it is and waits to be told to go on.
static void await_word(void) {
  fflush(stdout);
  char line[100];
  if (fgets(line, sizeof line, stdin) == NULL) exit(0);
}

// Publishes without a consumer until nothing more is taken for some time; then everything must come out again.
static void flood(int argc, char **argv) {
  struct producer producer;
  begin_producer(&producer, argc, argv);
  struct link *link = &producer.link;
  int stall = (int)number_option(argc, argv, "stall", 3000);
  uint64_t most = (uint64_t)number_option(argc, argv, "count", 100000000);
  double seconds = (double)number_option(argc, argv, "seconds", 600);
  bool isTold = false, isStalled = false;
  size_t block = BLOCK * link->publication, at = block;
  double began = now_seconds(), ended = began;
  uint64_t begun = 0;
  while (begun < most && now_seconds() - began < seconds) {
    if (at == block) {
      for (int i = 0; i < BLOCK; i++) stamp(link, i, (struct stamp){.number = begun + (uint64_t)i});
      begun += BLOCK;
      at = 0;
    }
    struct pollfd poller = {.fd = link->fd, .events = POLLOUT | POLLIN};
    if (poll(&poller, 1, stall) == 0) {
      isStalled = true;
      break;
    }
    if (poller.revents & POLLIN) {
      int method = raw_event(link).method;
      if (method != BLOCKED && method != UNBLOCKED) die("flood", "something else came");
      if (method == BLOCKED) isTold = true;
    }
    if (!(poller.revents & POLLOUT)) continue;
    ssize_t done = send(link->fd, link->block + at, block - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done < 0 && errno != EAGAIN) die("flood", strerror(errno));
    if (done > 0) at += (size_t)done;
    ended = now_seconds();
  }
  printf("{\"count\": %lu, \"seconds\": %.6f, \"is_told\": %s, \"is_stalled\": %s}\n", begun, ended - began,
         isTold ? "true" : "false", isStalled ? "true" : "false");
  await_word();
  // The consumer makes room for the rest of the last block.
  struct consumer consumer;
  begin_consumer(&consumer, argc, argv);
  consumer.count = begun;
  consume(&consumer.link, consumer.prefetch);
  pthread_t taking;
  start(&taking, take, &consumer);
  write_all(link, link->block + at, block - at);
  pthread_join(taking, NULL);
  printf("{\"count\": %lu, \"per_second\": %.1f}\n", consumer.received, (double)consumer.received / (consumer.ended - consumer.began));
  fflush(stdout);
  // What the server said meanwhile may lie before its answer to a farewell.
  close_link(&consumer.link);
}

static void connections(int argc, char **argv) {
  long count = number_option(argc, argv, "count", 1000);
  struct link *links = calloc((size_t)count, sizeof *links);
  double began = now_seconds();
  for (long i = 0; i < count; i++) links[i] = connect_link(argc, argv);
  printf("{\"count\": %ld, \"seconds\": %.3f}\n", count, now_seconds() - began);
  await_word();
  for (long i = 0; i < count; i++) close_link(&links[i]);
  free(links);
}

static void declare_queue(struct link *link, const char *name, bool isDurable, const char *type) {
  amqp_table_entry_t entry = {.key = bytes("x-queue-type"), .value = {.kind = AMQP_FIELD_KIND_UTF8}};
  entry.value.value.bytes = bytes(type);
  amqp_table_t arguments = {.num_entries = 1, .entries = &entry};
  amqp_queue_declare(link->state, 1, bytes(name), 0, isDurable, 0, 0, *type == 0 ? amqp_empty_table : arguments);
  check(amqp_get_rpc_reply(link->state), "declaring a queue");
  amqp_maybe_release_buffers(link->state);
}

static void queues(int argc, char **argv) {
  struct link link = connect_link(argc, argv);
  long count = number_option(argc, argv, "count", 1000);
  double began = now_seconds();
  for (long i = 0; i < count; i++) {
    char name[32];
    snprintf(name, sizeof name, "many.%ld", i);
    declare_queue(&link, name, number_option(argc, argv, "durable", 0), "");
  }
  printf("{\"count\": %ld, \"seconds\": %.3f}\n", count, now_seconds() - began);
  close_link(&link);
}

static void declare(int argc, char **argv) {
  struct link link = connect_link(argc, argv);
  declare_queue(&link, link.queue, number_option(argc, argv, "durable", 0), option(argc, argv, "type", ""));
  printf("{}\n");
  close_link(&link);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(int, char **);
  } commands[] = {{"declare", declare}, {"flow", flow}, {"fill", fill}, {"drain", drain}, {"paced", paced}, {"flood", flood},
                  {"connections", connections}, {"queues", queues}};
  alarm((unsigned)number_option(argc, argv, "limit", 120));
  for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
    if (strcmp(argv[1], commands[i].name) != 0) continue;
    commands[i].run(argc, argv);
    return 0;
  }
  fprintf(stderr, "usage: amqp_bench declare|flow|fill|drain|paced|flood|connections|queues [options]\n");
  return 2;
}
