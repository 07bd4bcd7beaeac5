// Element types, kept as bits and computed as float32, and aligned packs of them.
#pragma once

#include "platform.cuh"

namespace dynadiag {

using float32 = float;
struct bfloat16 {
  unsigned short bits;
};
struct float16 {
  unsigned short bits;
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bfloat16 x) { return as_float(unsigned(x.bits) << 16); }
__device__ inline float to_float(float16 x) { return float16_value(x.bits); }

// Reads from global memory, whatever the compiler knows of the pointer.
__device__ inline float fetch(const float* from) { return __ldg(from); }
template <class T>
__device__ inline T fetch(const T* from) { return {__ldg(&from->bits)}; }

// Element `half` of the two in a word, or the only one: one instruction, where shifting 16 bits out
// and widening them would be two.
template <class T>
__device__ float part(unsigned word, int half);
template <>
__device__ inline float part<float>(unsigned word, int) { return as_float(word); }
template <>
__device__ inline float part<bfloat16>(unsigned word, int half) {
  return as_float(half ? word & 0xffff0000u : word << 16);
}
template <>
__device__ inline float part<float16>(unsigned word, int half) {
  return float16_value(half ? word >> 16 : word);
}

// Rounds to nearest, ties to even.
template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float(float x) { return x; }
template <>
__device__ inline bfloat16 from_float(float x) { return {bfloat16_bits(x)}; }
template <>
__device__ inline float16 from_float(float x) { return {float16_bits(x)}; }

// N elements that one instruction moves: N * sizeof(T) is 2, 4, 8 or 16 bytes.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T at[N];
};

// The same as words: 16-bit members would be moved and widened one by one.
template <int BYTES>
struct alignas(BYTES) Words {
  unsigned at[BYTES / 4];
};
template <>
struct Words<2> {
  unsigned short at[1];
};

template <class T, int N>
__device__ inline Words<N * sizeof(T)> load_words(const Pack<T, N>* from) {
  return *reinterpret_cast<const Words<N * sizeof(T)>*>(from);
}

template <class T, int BYTES>
__device__ inline float element(const Words<BYTES>& words, int i) {
  return part<T>(words.at[i * sizeof(T) / 4], i * sizeof(T) % 4 / 2);
}

template <class T, int N>
__device__ inline Pack<T, N> load(const void* from) {
  const auto words = load_words(static_cast<const Pack<T, N>*>(from));
  Pack<T, N> pack;
  memcpy(&pack, &words, sizeof pack);
  return pack;
}

template <class T, int N>
__device__ inline void store(void* to, const Pack<T, N>& pack) {
  Words<N * sizeof(T)> words;
  memcpy(&words, &pack, sizeof pack);
  *static_cast<Words<N * sizeof(T)>*>(to) = words;
}

template <class T>
__device__ inline void exchange(T& a, T& b) {
  const T old = a;
  a = b;
  b = old;
}

}  // namespace dynadiag
