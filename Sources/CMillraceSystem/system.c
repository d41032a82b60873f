// Clocks, epoll, sockets, memory, threads and signals.
#define _GNU_SOURCE
#include "CMillraceSystem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int64_t clock_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
int64_t mr_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
int64_t mr_realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }
int64_t mr_thread_cpu_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }

static uint32_t epoll_flags(uint32_t flags) {
  uint32_t out = 0;
  if (flags & MR_READABLE) out |= EPOLLIN | EPOLLRDHUP;
  if (flags & MR_WRITABLE) out |= EPOLLOUT;
  if (flags & MR_PEER_ENDED) out |= EPOLLRDHUP;
  return out;
}
int mr_epoll_create(void) {
  int fd = epoll_create1(EPOLL_CLOEXEC);
  return fd < 0 ? -errno : fd;
}
int mr_epoll_add(int epoll, int fd, uint64_t token, uint32_t flags) {
  struct epoll_event event = {.events = epoll_flags(flags), .data.u64 = token};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}
int mr_epoll_modify(int epoll, int fd, uint64_t token, uint32_t flags) {
  struct epoll_event event = {.events = epoll_flags(flags), .data.u64 = token};
  return epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
}
int mr_epoll_remove(int epoll, int fd) { return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0; }
int mr_epoll_wait(int epoll, struct mr_event *events, int capacity, int64_t timeout_ns) {
  struct epoll_event raw[256];
  if (capacity > 256) capacity = 256;
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  int count = (int)syscall(SYS_epoll_pwait2, epoll, raw, capacity, timeout_ns < 0 ? NULL : &timeout, NULL, 0);
  if (count < 0 && errno == ENOSYS) {
    // Before Linux 5.11: whole milliseconds, rounded up so that a timer never fires early.
    int ms = timeout_ns < 0 ? -1 : (int)((timeout_ns + 999999) / 1000000);
    count = epoll_wait(epoll, raw, capacity, ms);
  }
  if (count < 0) return errno == EINTR ? 0 : -errno;
  for (int i = 0; i < count; i++) {
    uint32_t got = raw[i].events, flags = 0;
    if (got & EPOLLIN) flags |= MR_READABLE;
    if (got & EPOLLRDHUP) flags |= MR_PEER_ENDED;
    if (got & EPOLLOUT) flags |= MR_WRITABLE;
    if (got & (EPOLLERR | EPOLLHUP)) flags |= MR_HANGUP;
    events[i].token = raw[i].data.u64;
    events[i].flags = flags;
  }
  return count;
}
int mr_eventfd(void) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}
void mr_eventfd_signal(int fd) {
  uint64_t one = 1;
  // The only failure is a full counter, which means that the reader is signalled already.
  if (write(fd, &one, 8) < 0) return;
}
void mr_eventfd_drain(int fd) {
  uint64_t value;
  if (read(fd, &value, 8) < 0) return;
}

static socklen_t to_native(const struct mr_address *address, struct sockaddr_storage *out) {
  memset(out, 0, sizeof *out);
  if (address->family == 4) {
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons(address->port);
    memcpy(&in->sin_addr, address->bytes, 4);
    return sizeof *in;
  }
  struct sockaddr_in6 *in = (struct sockaddr_in6 *)out;
  in->sin6_family = AF_INET6;
  in->sin6_port = htons(address->port);
  memcpy(&in->sin6_addr, address->bytes, 16);
  return sizeof *in;
}
static void from_native(const struct sockaddr_storage *native, struct mr_address *out) {
  memset(out, 0, sizeof *out);
  if (native->ss_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)native;
    out->family = 4;
    out->port = ntohs(in->sin_port);
    memcpy(out->bytes, &in->sin_addr, 4);
  } else if (native->ss_family == AF_INET6) {
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)native;
    out->family = 6;
    out->port = ntohs(in->sin6_port);
    memcpy(out->bytes, &in->sin6_addr, 16);
  }
}
int mr_listen(const struct mr_address *address, int backlog) {
  struct sockaddr_storage native;
  socklen_t length = to_native(address, &native);
  int fd = socket(native.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (native.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&native, length) < 0 || listen(fd, backlog) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}
int mr_accept(int listener, struct mr_address *peer) {
  struct sockaddr_storage native;
  socklen_t length = sizeof native;
  int fd = accept4(listener, (struct sockaddr *)&native, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return -errno;
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // A peer whose machine is gone sends no end: without this a connection that only waits would stay for good.
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  from_native(&native, peer);
  return fd;
}
int mr_connect_blocking(const struct mr_address *address, int timeout_ms) {
  struct sockaddr_storage native;
  socklen_t length = to_native(address, &native);
  int fd = socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct timeval timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (connect(fd, (struct sockaddr *)&native, length) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}
// An address has room for 107 bytes. A longer path goes through the directory's descriptor, which is returned and must be
// closed when the address is done with; -1 when none was needed.
static int unix_address(const char *directory, const char *name, struct sockaddr_un *out, int *opened) {
  memset(out, 0, sizeof *out);
  out->sun_family = AF_UNIX;
  *opened = -1;
  int length = snprintf(out->sun_path, sizeof out->sun_path, "%s/%s", directory, name);
  if (length > 0 && (size_t)length < sizeof out->sun_path) return 0;
  int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  length = snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/%s", fd, name);
  if (length > 0 && (size_t)length < sizeof out->sun_path) {
    *opened = fd;
    return 0;
  }
  close(fd);
  return -ENAMETOOLONG;
}
static int listen_at(const struct sockaddr_un *address, int backlog) {
  struct stat found;
  if (lstat(address->sun_path, &found) == 0) {
    if (!S_ISSOCK(found.st_mode)) return -EEXIST;
    if (unlink(address->sun_path) < 0) return -errno;
  }
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  // Nobody can connect before it listens, so that nobody slips in before the mode is set.
  if (bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 || chmod(address->sun_path, 0600) < 0 ||
      listen(fd, backlog) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}
int mr_listen_unix(const char *directory, const char *name, int backlog) {
  struct sockaddr_un address;
  int opened;
  int error = unix_address(directory, name, &address, &opened);
  if (error < 0) return error;
  int fd = listen_at(&address, backlog);
  if (opened >= 0) close(opened);
  return fd;
}
int mr_connect_unix_blocking(const char *directory, const char *name, int timeout_ms) {
  struct sockaddr_un address;
  int opened;
  int error = unix_address(directory, name, &address, &opened);
  if (error < 0) return error;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) error = -errno;
  struct timeval timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
  if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    error = -errno;
    close(fd);
  }
  if (opened >= 0) close(opened);
  return error < 0 ? error : fd;
}
int mr_local_address(int fd, struct mr_address *out) {
  struct sockaddr_storage native;
  socklen_t length = sizeof native;
  if (getsockname(fd, (struct sockaddr *)&native, &length) < 0) return -errno;
  from_native(&native, out);
  return 0;
}
int mr_parse_address(const char *text, struct mr_address *out) {
  memset(out, 0, sizeof *out);
  if (inet_pton(AF_INET, text, out->bytes) == 1) {
    out->family = 4;
    return 0;
  }
  if (inet_pton(AF_INET6, text, out->bytes) == 1) {
    out->family = 6;
    return 0;
  }
  return -EINVAL;
}
int mr_format_address(const struct mr_address *address, char *out, size_t capacity) {
  int family = address->family == 4 ? AF_INET : AF_INET6;
  return inet_ntop(family, address->bytes, out, (socklen_t)capacity) ? 0 : -errno;
}
long mr_receive(int fd, void *buffer, size_t length) {
  ssize_t count;
  do count = recv(fd, buffer, length, 0);
  while (count < 0 && errno == EINTR);
  return count < 0 ? -errno : count;
}
long mr_send_pieces(int fd, const struct mr_piece *pieces, int count) {
  struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
  _Static_assert(sizeof(struct mr_piece) == sizeof(struct iovec), "mr_piece mirrors iovec");
  ssize_t sent;
  do sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}
int mr_set_receive_timeout(int fd, int timeout_ms) {
  struct timeval timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
  return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0 ? -errno : 0;
}
int mr_set_receive_low_water(int fd, int bytes) {
  return setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) < 0 ? -errno : 0;
}
int mr_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) < 0 ? -errno : 0; }
int mr_socket_pair(int out[2]) {
  return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, out) < 0 ? -errno : 0;
}

// From this size on memory is aligned to huge pages and asks for them: pinning 512 small pages for each 2 MiB that go to
// or come from the disk took a tenth of the time of reading a topic.
enum { MR_HUGE_PAGE = 2 << 20 };
void *mr_allocate_pages(size_t length) {
  size_t slack = length >= MR_HUGE_PAGE ? MR_HUGE_PAGE : 0;
  char *address = mmap(NULL, length + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return NULL;
  if (!slack) return address;
  size_t before = (size_t)(-(uintptr_t)address & (MR_HUGE_PAGE - 1));
  if (before > 0) munmap(address, before);
  if (slack > before) munmap(address + before + length, slack - before);
  // Where there are no huge pages the memory is as good as any other.
  madvise(address + before, length, MADV_HUGEPAGE);
  return address + before;
}
void *mr_grow_pages(void *address, size_t length, size_t larger) {
  void *wider = mr_allocate_pages(larger);
  if (!wider) return NULL;
  // Takes the place of the first pages of the new ones.
  if (mremap(address, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, wider) == MAP_FAILED) {
    munmap(wider, larger);
    return NULL;
  }
  return wider;
}
void mr_free_pages(void *address, size_t length) { munmap(address, length); }
void mr_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
int64_t mr_resident_bytes(void) {
  FILE *file = fopen("/proc/self/statm", "re");
  if (!file) return -errno;
  long size = 0, resident = 0;
  int got = fscanf(file, "%ld %ld", &size, &resident);
  fclose(file);
  return got == 2 ? (int64_t)resident * sysconf(_SC_PAGESIZE) : -EIO;
}
int64_t mr_peak_resident_bytes(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) < 0 ? -errno : (int64_t)usage.ru_maxrss * 1024;
}
void mr_trim_memory(void) { malloc_trim(0); }
int mr_random_bytes(void *out, size_t length) {
  uint8_t *next = out;
  while (length) {
    ssize_t got = getrandom(next, length, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    next += got;
    length -= (size_t)got;
  }
  return 0;
}
const char *mr_error_text(int error, char *buffer, size_t capacity) { return strerror_r(error, buffer, capacity); }

int mr_signal_descriptor(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
  if (error) return -error;
  int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}
int mr_signal_read(int fd) {
  struct signalfd_siginfo info;
  ssize_t got = read(fd, &info, sizeof info);
  if (got < 0) return -errno;
  return got == (ssize_t)sizeof info ? (int)info.ssi_signo : -EIO;
}
void mr_ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }
int mr_is_terminal(int fd) { return isatty(fd); }
int mr_terminal_size(int fd, int *columns, int *rows) {
  struct winsize size;
  if (ioctl(fd, TIOCGWINSZ, &size) < 0) return -errno;
  *columns = size.ws_col;
  *rows = size.ws_row;
  return 0;
}
int mr_poll_readable(int fd, int timeout_ms) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  int count = poll(&poll_fd, 1, timeout_ms);
  return count < 0 ? (errno == EINTR ? 0 : -errno) : count;
}
