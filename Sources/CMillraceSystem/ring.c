// io_uring, for small durable writes from an event loop; see FileWriter.swift for when it is used.
#define _GNU_SOURCE
#include "CMillraceSystem.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

struct mr_ring {
  struct io_uring ring;
};

struct mr_ring *mr_ring_create(unsigned entries, int *error) {
  // No interrupt of the thread for a completion that it will look for anyway; refused with EINVAL before Linux 5.19.
  static const unsigned choices[] = {IORING_SETUP_COOP_TASKRUN, 0};
  struct mr_ring *made = calloc(1, sizeof *made);
  if (!made) {
    *error = -ENOMEM;
    return NULL;
  }
  for (unsigned i = 0; i < sizeof choices / sizeof *choices; i++) {
    *error = io_uring_queue_init(entries, &made->ring, choices[i]);
    if (*error == 0) return made;
    if (*error != -EINVAL) break;
  }
  free(made);
  return NULL;
}
void mr_ring_destroy(struct mr_ring *ring) {
  io_uring_queue_exit(&ring->ring);
  free(ring);
}
int mr_ring_descriptor(const struct mr_ring *ring) { return ring->ring.ring_fd; }
int mr_ring_write(struct mr_ring *ring, int fd, const void *buffer, size_t length, int64_t offset, uint64_t token) {
  struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
  if (!entry) return -EBUSY;
  io_uring_prep_write(entry, fd, buffer, (unsigned)length, (uint64_t)offset);
  io_uring_sqe_set_data64(entry, token);
  int result;
  // An earlier entry that could not be submitted goes first, so that one call may not be enough.
  do result = io_uring_submit(&ring->ring);
  while (result == -EINTR || (result > 0 && io_uring_sq_ready(&ring->ring) > 0));
  if (result >= 0 && io_uring_sq_ready(&ring->ring) == 0) return 0;
  if (result >= 0) result = -EAGAIN;
  // The entry stays queued and must not be carried out later, when the caller has gone another way.
  io_uring_prep_nop(entry);
  io_uring_sqe_set_data64(entry, MR_RING_NOTHING);
  return result;
}
int mr_ring_reap(struct mr_ring *ring, struct mr_completion *out, int capacity, int wait) {
  struct io_uring_cqe *entry;
  int count = 0;
  while (count < capacity) {
    int result = wait && count == 0 ? io_uring_wait_cqe(&ring->ring, &entry) : io_uring_peek_cqe(&ring->ring, &entry);
    if (result == -EINTR) continue;
    if (result == -EAGAIN) break;
    if (result < 0) return count > 0 ? count : result;
    out[count].token = io_uring_cqe_get_data64(entry);
    out[count].result = entry->res;
    io_uring_cqe_seen(&ring->ring, entry);
    count++;
  }
  return count;
}
