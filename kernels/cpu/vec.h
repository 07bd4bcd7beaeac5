// Vectors of the widest registers the compiler may use, and conversions to and from float.
//
// GCC and Clang vector extensions: the same source serves AVX-512, AVX2, SSE and NEON.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>
#include <cstring>

namespace dynadiag {

#if defined(DYNADIAG_LANES)
constexpr int LANES = DYNADIAG_LANES;  // tests run the wide code on narrow machines
#elif defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

using Vec = float __attribute__((vector_size(LANES * 4)));
using UnalignedVec = float __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }

// 16-bit storage is widened on load; all arithmetic is in float.
inline Vec load(const c10::BFloat16* p) {
  using Bits16 = uint16_t __attribute__((vector_size(LANES * 2)));
  using Bits32 = uint32_t __attribute__((vector_size(LANES * 4)));
  Bits16 bits;
  std::memcpy(&bits, p, sizeof bits);
  return reinterpret_cast<Vec>(__builtin_convertvector(bits, Bits32) << 16);
}

inline Vec load(const c10::Half* p) {
  Vec v;
  for (int i = 0; i < LANES; ++i) v[i] = static_cast<float>(p[i]);
  return v;
}

template <typename T>
inline void store(T* p, Vec v) {
  for (int i = 0; i < LANES; ++i) p[i] = static_cast<T>(v[i]);
}

}  // namespace dynadiag
