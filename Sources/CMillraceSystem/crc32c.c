// CRC-32C: three interleaved hardware streams where the processor has the instruction, a table elsewhere.
//
// The crc32 instruction has a latency of three cycles and a throughput of one a cycle, so three independent streams keep
// it busy. The streams are joined by multiplying with x^(8*length) modulo the polynomial, done by table (one shift
// operator for each of the two block sizes).
#include "CMillraceSystem.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u
#define LONG_BLOCK 8192
#define SHORT_BLOCK 256

static uint32_t table[8][256];
static uint32_t long_shift[4][256];
static uint32_t short_shift[4][256];
static int has_hardware;
// x^(2^n) modulo the polynomial, for n from 0 to 31.
static uint32_t powers[32];

// Multiplies two polynomials modulo the polynomial; bits are reflected, so that x^0 is the highest bit.
static uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
    if (a & bit) product ^= b;
    b = b & 1 ? (b >> 1) ^ POLYNOMIAL : b >> 1;
  }
  return product;
}

// Multiplies a GF(2) 32x32 matrix with a vector.
static uint32_t matrix_times(const uint32_t *matrix, uint32_t vector) {
  uint32_t sum = 0;
  while (vector) {
    if (vector & 1) sum ^= *matrix;
    vector >>= 1;
    matrix++;
  }
  return sum;
}

static void matrix_square(uint32_t *square, const uint32_t *matrix) {
  for (int n = 0; n < 32; n++) square[n] = matrix_times(matrix, matrix[n]);
}

// Fills operators so that applying them to a crc appends `length` zero bytes (length a power of two).
static void make_shift(uint32_t out[4][256], size_t length) {
  uint32_t even[32], odd[32];
  odd[0] = POLYNOMIAL;
  for (int n = 1; n < 32; n++) odd[n] = 1u << (n - 1);
  matrix_square(even, odd);  // two zero bits
  matrix_square(odd, even);  // four zero bits
  uint32_t *from = odd, *to = even;
  for (size_t bits = length; bits; bits >>= 1) {
    matrix_square(to, from);
    uint32_t *swap = from;
    from = to;
    to = swap;
  }
  // `from` now appends 8*length zero bits: one squaring for bits==1 gives 8 bits, each further one doubles.
  for (uint32_t n = 0; n < 256; n++) {
    out[0][n] = matrix_times(from, n);
    out[1][n] = matrix_times(from, n << 8);
    out[2][n] = matrix_times(from, n << 16);
    out[3][n] = matrix_times(from, n << 24);
  }
}

static inline uint32_t shift(uint32_t operators[4][256], uint32_t crc) {
  return operators[0][crc & 0xff] ^ operators[1][(crc >> 8) & 0xff] ^ operators[2][(crc >> 16) & 0xff] ^
         operators[3][crc >> 24];
}

__attribute__((constructor)) static void prepare(void) {
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t crc = n;
    for (int k = 0; k < 8; k++) crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
    table[0][n] = crc;
  }
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t crc = table[0][n];
    for (int k = 1; k < 8; k++) {
      crc = table[0][crc & 0xff] ^ (crc >> 8);
      table[k][n] = crc;
    }
  }
  make_shift(long_shift, LONG_BLOCK);
  make_shift(short_shift, SHORT_BLOCK);
  powers[0] = 1u << 30;
  for (int n = 1; n < 32; n++) powers[n] = multiply(powers[n - 1], powers[n - 1]);
#if defined(__x86_64__)
  __builtin_cpu_init();
  has_hardware = __builtin_cpu_supports("sse4.2");
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
  has_hardware = 1;
#endif
}

uint32_t mr_crc32c_table(uint32_t crc, const void *data, size_t length) {
  const uint8_t *next = data;
  uint64_t state = crc ^ 0xffffffffu;
  while (length >= 8) {
    uint64_t word;
    memcpy(&word, next, 8);
    word ^= state;
    state = table[7][word & 0xff] ^ table[6][(word >> 8) & 0xff] ^ table[5][(word >> 16) & 0xff] ^
            table[4][(word >> 24) & 0xff] ^ table[3][(word >> 32) & 0xff] ^ table[2][(word >> 40) & 0xff] ^
            table[1][(word >> 48) & 0xff] ^ table[0][word >> 56];
    next += 8;
    length -= 8;
  }
  while (length--) state = table[0][(state ^ *next++) & 0xff] ^ (state >> 8);
  return (uint32_t)state ^ 0xffffffffu;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#define TARGET __attribute__((target("sse4.2")))
#define STEP8(crc, byte) _mm_crc32_u8((uint32_t)(crc), (byte))
#define STEP64(crc, word) _mm_crc32_u64((crc), (word))
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define TARGET
#define STEP8(crc, byte) __crc32cb((uint32_t)(crc), (byte))
#define STEP64(crc, word) __crc32cd((uint32_t)(crc), (word))
#endif

#if defined(TARGET)
static inline uint64_t load(const uint8_t *from) {
  uint64_t word;
  memcpy(&word, from, 8);
  return word;
}

TARGET static uint64_t three_streams(
    uint64_t first, const uint8_t *next, size_t block, uint32_t operators[4][256]) {
  uint64_t second = 0, third = 0;
  const uint8_t *end = next + block;
  do {
    first = STEP64(first, load(next));
    second = STEP64(second, load(next + block));
    third = STEP64(third, load(next + 2 * block));
    next += 8;
  } while (next < end);
  first = shift(operators, (uint32_t)first) ^ (uint32_t)second;
  return shift(operators, (uint32_t)first) ^ (uint32_t)third;
}

TARGET static uint32_t hardware(uint32_t crc, const uint8_t *next, size_t length) {
  uint64_t state = crc ^ 0xffffffffu;
  while (length >= 3 * LONG_BLOCK) {
    state = three_streams(state, next, LONG_BLOCK, long_shift);
    next += 3 * LONG_BLOCK;
    length -= 3 * LONG_BLOCK;
  }
  while (length >= 3 * SHORT_BLOCK) {
    state = three_streams(state, next, SHORT_BLOCK, short_shift);
    next += 3 * SHORT_BLOCK;
    length -= 3 * SHORT_BLOCK;
  }
  while (length >= 8) {
    state = STEP64(state, load(next));
    next += 8;
    length -= 8;
  }
  while (length--) state = STEP8(state, *next++);
  return (uint32_t)state ^ 0xffffffffu;
}
#endif

uint32_t mr_crc32c(uint32_t crc, const void *data, size_t length) {
#if defined(TARGET)
  if (has_hardware) return hardware(crc, data, length);
#endif
  return mr_crc32c_table(crc, data, length);
}

// Appending n zero bytes multiplies a CRC by x^(8n), so the first run's CRC is moved by the second's length and added.
uint32_t mr_crc32c_combine(uint32_t first, uint32_t second, size_t second_length) {
  uint32_t shift = 1u << 31;
  for (int n = 3; second_length; second_length >>= 1, n++)
    if (second_length & 1) shift = multiply(powers[n & 31], shift);
  return multiply(shift, first) ^ second;
}
