// CFuzzSupport: counts the memory that an input makes the program hold, and the processor time it takes.
#pragma once

#include <stdint.h>

// Begins to count at 0.
void fuzz_begin(void);
// The most bytes held at once since then, beyond what was held at the beginning.
int64_t fuzz_peak_bytes(void);
// Processor time of this thread since then, in microseconds.
int64_t fuzz_cpu_microseconds(void);
// Ends the program as a crash does, with a message.
_Noreturn void fuzz_fail(const char *message);
