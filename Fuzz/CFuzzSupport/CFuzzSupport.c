// The sanitizer tells of every malloc and free; mapped memory is seen because the linker wraps the two calls that map it.
// Mapped memory that the program keeps to use it again counts once, when it is mapped.
#include "CFuzzSupport.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int __sanitizer_install_malloc_and_free_hooks(
    void (*on_malloc)(const volatile void *, size_t), void (*on_free)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *);

void *__real_mr_allocate_pages(size_t size);
void *__real_mr_grow_pages(void *base, size_t size, size_t larger);
void __real_mr_free_pages(void *base, size_t size);

static int64_t held, peak;
static int64_t begun;

static void add(int64_t bytes) {
  held += bytes;
  if (held > peak) peak = held;
}

static void on_malloc(const volatile void *memory, size_t size) {
  if (memory) add((int64_t)size);
}

static void on_free(const volatile void *memory) {
  if (memory) held -= (int64_t)__sanitizer_get_allocated_size(memory);
}

void *__wrap_mr_allocate_pages(size_t size) {
  void *base = __real_mr_allocate_pages(size);
  if (base) add((int64_t)size);
  return base;
}

void *__wrap_mr_grow_pages(void *base, size_t size, size_t larger) {
  void *grown = __real_mr_grow_pages(base, size, larger);
  if (grown) add((int64_t)(larger - size));
  return grown;
}

void __wrap_mr_free_pages(void *base, size_t size) {
  held -= (int64_t)size;
  __real_mr_free_pages(base, size);
}

static int64_t cpu_time(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

void fuzz_begin(void) {
  static int installed;
  if (!installed) installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
  held = peak = 0;
  begun = cpu_time();
}

int64_t fuzz_peak_bytes(void) { return peak; }

int64_t fuzz_cpu_microseconds(void) { return cpu_time() - begun; }

void fuzz_fail(const char *message) {
  fprintf(stderr, "fuzz: %s\n", message);
  abort();
}
