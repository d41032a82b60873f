// What the kernel says of the machine, for those who advise its owner.
#include "CMillraceSystem.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/vfs.h>

int mr_clock_state(struct mr_clock_state *out) {
  struct timex state = {0};
  int result = adjtimex(&state);
  if (result < 0) return -errno;
  out->is_synchronised = result != TIME_ERROR && !(state.status & STA_UNSYNC);
  out->offset_ns = state.status & STA_NANO ? state.offset : state.offset * 1000;
  out->largest_error_us = state.maxerror;
  return 0;
}

int64_t mr_file_system_type(const char *path) {
  struct statfs state;
  if (statfs(path, &state) < 0) return -errno;
  return (int64_t)(uint32_t)state.f_type;
}

int mr_file_identity(const char *path, struct mr_file_identity *out) {
  struct stat state;
  if (stat(path, &state) < 0) return -errno;
  out->device = state.st_dev;
  out->inode = state.st_ino;
  out->size = state.st_size;
  out->modified_ns = state.st_mtim.tv_sec * 1000000000ll + state.st_mtim.tv_nsec;
  out->changed_ns = state.st_ctim.tv_sec * 1000000000ll + state.st_ctim.tv_nsec;
  out->mode = state.st_mode;
  out->owner = state.st_uid;
  return 0;
}
