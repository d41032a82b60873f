// flush_probe: how long one small flush takes on a file system: the floor under every acknowledgement.
//
//   flush_probe --file PATH [--mode direct|fdatasync] [--size 4096] [--count 2000] [--megabytes 16]
//
// Overwrites a pre-written file block after block. `direct`: O_DIRECT|O_DSYNC; `fdatasync`: pwrite, then fdatasync.
#include "measure.h"

#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv) {
  const char *path = option(argc, argv, "file", NULL);
  const char *mode = option(argc, argv, "mode", "fdatasync");
  size_t size = (size_t)number_option(argc, argv, "size", 4096);
  long count = number_option(argc, argv, "count", 2000);
  off_t length = (off_t)number_option(argc, argv, "megabytes", 16) << 20;
  if (path == NULL) die("usage", "flush_probe --file PATH [--mode direct|fdatasync] [--size N] [--count N]");
  int direct = strcmp(mode, "direct") == 0;

  char *block;
  if (posix_memalign((void **)&block, 4096, size) != 0) die("memory", "none");
  memset(block, 'x', size);
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) die(path, strerror(errno));
  for (off_t at = 0; at < length; at += (off_t)size)
    if (pwrite(fd, block, size, at) != (ssize_t)size) die(path, strerror(errno));
  if (fsync(fd) != 0) die("fsync", strerror(errno));
  if (direct) {
    close(fd);
    fd = open(path, O_RDWR | O_DIRECT | O_DSYNC);
    if (fd < 0) die("O_DIRECT", strerror(errno));
  }

  double *took = calloc((size_t)count, sizeof *took);
  double began = now_seconds();
  for (long i = 0; i < count; i++) {
    memcpy(block, &i, sizeof i);
    double start = now_seconds();
    if (pwrite(fd, block, size, (off_t)((size_t)i * size % (size_t)length)) != (ssize_t)size) die(path, strerror(errno));
    if (!direct && fdatasync(fd) != 0) die("fdatasync", strerror(errno));
    took[i] = now_seconds() - start;
  }
  double seconds = now_seconds() - began;
  printf("{\"mode\": \"%s\", \"size\": %zu, \"per_second\": %.1f, ", mode, size, (double)count / seconds);
  print_latency(took, (size_t)count);
  printf("}\n");
  close(fd);
  unlink(path);
  return 0;
}
