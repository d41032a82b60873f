// measure: clocks, processor time, percentiles and command-line options that the drivers share.
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static inline double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// User and system time of this process so far.
static inline double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static inline void sleep_until(double when) {
  struct timespec t = {.tv_sec = (time_t)when, .tv_nsec = (long)((when - (double)(time_t)when) * 1e9)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
  }
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// The p-th percentile (0..100) of sorted values: the smallest value that p percent do not exceed.
static inline double percentile(const double *sorted, size_t count, double p) {
  if (count == 0) return 0;
  size_t rank = (size_t)((p / 100.0) * (double)count + 0.9999999);
  return sorted[rank == 0 ? 0 : (rank > count ? count : rank) - 1];
}

// `"p50_ms": …, "p99_ms": …, "max_ms": …` of values in seconds, which are sorted by the call.
static inline void print_latency(double *values, size_t count) {
  qsort(values, count, sizeof *values, compare_doubles);
  printf("\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"p999_ms\": %.4f, \"max_ms\": %.4f", percentile(values, count, 50) * 1e3,
         percentile(values, count, 99) * 1e3, percentile(values, count, 99.9) * 1e3, percentile(values, count, 100) * 1e3);
}

static inline void die(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

// The value of `--name VALUE`, or `otherwise`.
static inline const char *option(int argc, char **argv, const char *name, const char *otherwise) {
  for (int i = 1; i < argc; i++) {
    if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, name) == 0) {
      if (i + 1 == argc) die(argv[i], "a value is missing");
      return argv[i + 1];
    }
  }
  return otherwise;
}

static inline long number_option(int argc, char **argv, const char *name, long otherwise) {
  const char *text = option(argc, argv, name, NULL);
  if (text == NULL) return otherwise;
  char *end;
  long value = strtol(text, &end, 10);
  if (*text == 0 || *end != 0) die(name, "expected a number");
  return value;
}
