// What differs between a GPU and its emulation in the tests: bits, 16-bit floats, shared memory.
#pragma once

#ifdef DYNADIAG_HOST
#include <cmath>
#include <cstring>
#endif

namespace dynadiag {

#ifdef DYNADIAG_HOST  // DYNADIAG_SHARED comes with the emulation

inline float as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline unsigned as_bits(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline int opaque(int x) { return x; }

inline unsigned short bfloat16_bits(float x) {
  const unsigned bits = as_bits(x);
  return x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float float16_value(unsigned short bits) {
  const float magnitude = as_float((bits & 0x7fffu) << 13) * 0x1p112f;  // subnormals too
  const unsigned special = (bits & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
  return as_float(as_bits(magnitude) | special | (bits & 0x8000u) << 16);
}

inline unsigned short float16_bits(float x) {
  const unsigned sign = as_bits(x) >> 16 & 0x8000, size = as_bits(x) & 0x7fffffff;
  if (x != x) return sign | 0x7fff;
  if (size >= as_bits(65520.0f)) return sign | 0x7c00;
  // Added to a power of two whose last place is that of the half, it rounds as the half does.
  const unsigned exponent = size >> 23 > 113 ? size >> 23 : 113;
  const float anchor = as_float((exponent + 13) << 23);
  const unsigned steps = as_bits(as_float(size) + anchor) - as_bits(anchor);
  return sign | (((exponent - 113) << 10) + steps);
}

#else

#define DYNADIAG_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

__device__ inline float as_float(unsigned bits) { return __uint_as_float(bits); }

// x, about which the compiler knows nothing: it is kept in a register, not split into its terms.
__device__ inline int opaque(int x) {
  asm("" : "+r"(x));
  return x;
}

__device__ inline unsigned short bfloat16_bits(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

__device__ inline float float16_value(unsigned short bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}

__device__ inline unsigned short float16_bits(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

#endif

}  // namespace dynadiag
