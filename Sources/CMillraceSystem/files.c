// Files and directories. Reads and writes transfer everything asked for unless the file ends or an error occurs.
#define _GNU_SOURCE
#include "CMillraceSystem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int mr_open(const char *path, int options, int mode) {
  int flags = O_CLOEXEC;
  if ((options & MR_OPEN_READ) && (options & MR_OPEN_WRITE)) flags |= O_RDWR;
  else if (options & MR_OPEN_WRITE) flags |= O_WRONLY;
  else flags |= O_RDONLY;
  if (options & MR_OPEN_CREATE) flags |= O_CREAT;
  if (options & MR_OPEN_TRUNCATE) flags |= O_TRUNC;
  if (options & MR_OPEN_EXCLUSIVE) flags |= O_EXCL;
  if (options & MR_OPEN_DIRECT) flags |= O_DIRECT;
  if (options & MR_OPEN_DATA_SYNC) flags |= O_DSYNC;
  int fd;
  do fd = open(path, flags, mode);
  while (fd < 0 && errno == EINTR);
  return fd < 0 ? -errno : fd;
}
int mr_close(int fd) { return close(fd) < 0 ? -errno : 0; }
long mr_pread(int fd, void *buffer, size_t length, int64_t offset) {
  size_t done = 0;
  while (done < length) {
    ssize_t got = pread(fd, (char *)buffer + done, length - done, offset + (int64_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) break;
    done += (size_t)got;
  }
  return (long)done;
}
long mr_pwrite(int fd, const void *buffer, size_t length, int64_t offset) {
  size_t done = 0;
  while (done < length) {
    ssize_t put = pwrite(fd, (const char *)buffer + done, length - done, offset + (int64_t)done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -errno;
    if (put == 0) return -EIO;
    done += (size_t)put;
  }
  return (long)done;
}
long mr_read(int fd, void *buffer, size_t length) {
  ssize_t got;
  do got = read(fd, buffer, length);
  while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}
long mr_write(int fd, const void *buffer, size_t length) {
  size_t done = 0;
  while (done < length) {
    ssize_t put = write(fd, (const char *)buffer + done, length - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -errno;
    done += (size_t)put;
  }
  return (long)done;
}
int mr_fdatasync(int fd) { return fdatasync(fd) < 0 ? -errno : 0; }
int mr_sync_directory(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = fsync(fd) < 0 ? -errno : 0;
  close(fd);
  return result;
}
int64_t mr_file_size(int fd) {
  struct stat info;
  return fstat(fd, &info) < 0 ? -errno : (int64_t)info.st_size;
}
int mr_truncate(int fd, int64_t size) { return ftruncate(fd, size) < 0 ? -errno : 0; }
int mr_lock_exclusive(int fd) { return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0; }
int64_t mr_total_bytes(const char *path) {
  struct statvfs info;
  return statvfs(path, &info) < 0 ? -errno : (int64_t)(info.f_blocks * info.f_frsize);
}

int64_t mr_available_bytes(const char *path) {
  struct statvfs info;
  return statvfs(path, &info) < 0 ? -errno : (int64_t)(info.f_bavail * info.f_frsize);
}
int mr_mkdir(const char *path, int mode) { return mkdir(path, (mode_t)mode) < 0 ? -errno : 0; }
int mr_rename(const char *from, const char *to) { return rename(from, to) < 0 ? -errno : 0; }
int mr_unlink(const char *path) { return unlink(path) < 0 ? -errno : 0; }
int mr_path_kind(const char *path) {
  struct stat info;
  if (stat(path, &info) < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
  if (S_ISREG(info.st_mode)) return 1;
  return S_ISDIR(info.st_mode) ? 2 : 3;
}
int mr_file_mode(const char *path) {
  struct stat info;
  if (stat(path, &info) < 0) return -errno;
  return (int)(info.st_mode & 07777);
}
long mr_list_directory(const char *path, char **out) {
  DIR *directory = opendir(path);
  if (!directory) return -errno;
  FILE *names = NULL;
  size_t length = 0;
  *out = NULL;
  names = open_memstream(out, &length);
  if (!names) {
    int error = errno;
    closedir(directory);
    return -error;
  }
  struct dirent *entry;
  while ((entry = readdir(directory)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
      fwrite(entry->d_name, 1, strlen(entry->d_name) + 1, names);
  closedir(directory);
  if (fclose(names) != 0) {
    free(*out);
    *out = NULL;
    return -ENOMEM;
  }
  return (long)length;
}
