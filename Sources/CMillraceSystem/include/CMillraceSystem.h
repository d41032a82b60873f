// The Linux calls that Swift cannot make itself (macros, variadic functions, intrinsics), one thin wrapper each.
// Every wrapper returns what the call returns, or -errno on failure, so that no caller reads a thread-local errno.
#ifndef C_MILLRACE_SYSTEM_H
#define C_MILLRACE_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

// CRC-32C (Castagnoli), as in RFC 3720: start with 0, feed the previous result to continue.
uint32_t mr_crc32c(uint32_t crc, const void *data, size_t length);
// The portable table version, kept callable so that tests can compare the two.
uint32_t mr_crc32c_table(uint32_t crc, const void *data, size_t length);

// The CRC-32C of two runs of bytes one behind the other, from the CRC of each and the length of the second.
uint32_t mr_crc32c_combine(uint32_t first, uint32_t second, size_t second_length);

// Clocks, in nanoseconds.
int64_t mr_monotonic_ns(void);
int64_t mr_realtime_ns(void);
int64_t mr_thread_cpu_ns(void);

// Tells the processor that the thread looks again and again for what another one writes.
static inline void mr_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// epoll
struct mr_event {
  uint64_t token;
  uint32_t flags;
};
// MR_PEER_ENDED: the peer has shut its sending side, though input may still be unread. Reported to those who watch for it
// or for MR_READABLE; MR_HANGUP is reported to everybody.
enum { MR_READABLE = 1, MR_WRITABLE = 2, MR_HANGUP = 4, MR_PEER_ENDED = 8 };
int mr_epoll_create(void);
int mr_epoll_add(int epoll, int fd, uint64_t token, uint32_t flags);
int mr_epoll_modify(int epoll, int fd, uint64_t token, uint32_t flags);
int mr_epoll_remove(int epoll, int fd);
// Waits at most timeout_ns (negative: for ever); returns the number of events filled in.
int mr_epoll_wait(int epoll, struct mr_event *events, int capacity, int64_t timeout_ns);
int mr_eventfd(void);
void mr_eventfd_signal(int fd);
void mr_eventfd_drain(int fd);

// Sockets: non-blocking, close-on-exec, TCP_NODELAY; accepted ones with SO_KEEPALIVE.
struct mr_address {
  uint8_t family;  // 4 or 6
  uint8_t bytes[16];
  uint16_t port;   // host order
};
int mr_listen(const struct mr_address *address, int backlog);
int mr_accept(int listener, struct mr_address *peer);
int mr_connect_blocking(const struct mr_address *address, int timeout_ms);
// Sockets of the Unix domain that stand as `name` in a directory, however long its path is. Listening makes the socket anew,
// for its owner alone (mode 0600); what stands under the name and is no socket is left alone (-EEXIST).
int mr_listen_unix(const char *directory, const char *name, int backlog);
int mr_connect_unix_blocking(const char *directory, const char *name, int timeout_ms);
int mr_local_address(int fd, struct mr_address *out);
int mr_parse_address(const char *text, struct mr_address *out);
int mr_format_address(const struct mr_address *address, char *out, size_t capacity);
long mr_receive(int fd, void *buffer, size_t length);
struct mr_piece {
  const void *base;
  size_t length;
};
long mr_send_pieces(int fd, const struct mr_piece *pieces, int count);
int mr_set_receive_timeout(int fd, int timeout_ms);
// Readable from so many unread bytes on, or at the end of input.
int mr_set_receive_low_water(int fd, int bytes);
int mr_shutdown_write(int fd);
int mr_socket_pair(int out[2]);

// Files
enum {
  MR_OPEN_READ = 1,
  MR_OPEN_WRITE = 2,
  MR_OPEN_CREATE = 4,
  MR_OPEN_DIRECT = 8,     // O_DIRECT: bypasses the page cache, wants 4 KiB alignment
  MR_OPEN_DATA_SYNC = 16, // O_DSYNC: a write returns when it is durable
  MR_OPEN_TRUNCATE = 32,
  MR_OPEN_EXCLUSIVE = 64,
};
int mr_open(const char *path, int options, int mode);
int mr_close(int fd);
long mr_pread(int fd, void *buffer, size_t length, int64_t offset);
long mr_pwrite(int fd, const void *buffer, size_t length, int64_t offset);
long mr_read(int fd, void *buffer, size_t length);
long mr_write(int fd, const void *buffer, size_t length);
int mr_fdatasync(int fd);
int mr_sync_directory(const char *path);
int64_t mr_file_size(int fd);
int mr_truncate(int fd, int64_t size);
int mr_lock_exclusive(int fd);
int64_t mr_available_bytes(const char *path);
int64_t mr_total_bytes(const char *path);
int mr_mkdir(const char *path, int mode);
int mr_rename(const char *from, const char *to);
int mr_unlink(const char *path);
int mr_path_kind(const char *path); // 0 nothing there, 1 file, 2 directory, 3 other, or -errno
int mr_file_mode(const char *path); // permission bits, or -errno
// Names in a directory without "." and "..", NUL-separated, in malloc'd memory that the caller frees; -errno on failure.
long mr_list_directory(const char *path, char **out);

// The file a name leads to, through symbolic links: what is equal is very likely the same file with the same contents.
struct mr_file_identity {
  uint64_t device;
  uint64_t inode;
  int64_t size;
  int64_t modified_ns;
  int64_t changed_ns;
  uint32_t mode; // kind and permissions, as stat has them
  uint32_t owner;
};
int mr_file_identity(const char *path, struct mr_file_identity *out);
// statfs' magic number of the file system that holds path.
int64_t mr_file_system_type(const char *path);

// The kernel's clock as adjtimex knows it.
struct mr_clock_state {
  int is_synchronised;
  int64_t offset_ns;
  int64_t largest_error_us;
};
int mr_clock_state(struct mr_clock_state *out);

// io_uring: writes that an event loop need not wait for. One thread makes all calls on a ring.
struct mr_ring;
struct mr_completion {
  uint64_t token;
  int32_t result; // bytes written, or -errno
};
static const uint64_t MR_RING_NOTHING = UINT64_MAX;
// NULL where the system has no io_uring or forbids it; then *error is -errno.
struct mr_ring *mr_ring_create(unsigned entries, int *error);
void mr_ring_destroy(struct mr_ring *ring);
// Readable while completions wait.
int mr_ring_descriptor(const struct mr_ring *ring);
// Starts a write; the buffer must stay as it is until the completion with `token` was reaped. On failure nothing was
// started, and a completion with the token MR_RING_NOTHING, which means nothing, may come later.
int mr_ring_write(struct mr_ring *ring, int fd, const void *buffer, size_t length, int64_t offset, uint64_t token);
// Takes completions, waiting for one if asked to; returns how many.
int mr_ring_reap(struct mr_ring *ring, struct mr_completion *out, int capacity, int wait);

// Memory and threads
void *mr_allocate_pages(size_t length);
// Pages of mr_allocate_pages with more behind them, somewhere else: what was there is moved, not copied, and what is new is 0.
// NULL when there is no room; then nothing has changed.
void *mr_grow_pages(void *address, size_t length, size_t larger);
void mr_free_pages(void *address, size_t length);
void mr_name_thread(const char *name);
int64_t mr_resident_bytes(void);
int64_t mr_peak_resident_bytes(void);
// Gives memory that is not in use back to the system.
void mr_trim_memory(void);
int mr_random_bytes(void *out, size_t length);
const char *mr_error_text(int error, char *buffer, size_t capacity);

// Signals: blocks SIGINT and SIGTERM for the calling thread and those it starts, and returns a descriptor that becomes
// readable when one arrives.
int mr_signal_descriptor(void);
int mr_signal_read(int fd);
void mr_ignore_sigpipe(void);
int mr_is_terminal(int fd);
int mr_terminal_size(int fd, int *columns, int *rows);
int mr_poll_readable(int fd, int timeout_ms);

#endif
