// Working memory of a thread, kept between calls and never larger than the caches asked for it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace dynadiag {

// At least `floats` floats, aligned to a cache line; valid until the thread's next call.
inline float* scratch(int64_t floats) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<float, Free> memory;
  thread_local int64_t capacity = 0;
  if (floats > capacity) {
    const std::size_t bytes = (floats * sizeof(float) + 63) / 64 * 64;
    memory.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    capacity = memory ? floats : 0;
    if (!memory) throw std::bad_alloc();
  }
  return memory.get();
}

}  // namespace dynadiag
