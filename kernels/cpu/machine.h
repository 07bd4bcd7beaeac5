// Cache sizes of this machine, from which the kernels choose their tiles.
#pragma once

#include <unistd.h>

#include <cstdint>

namespace dynadiag {

inline int64_t cache_bytes(int name, int64_t fallback) {
  const long size = sysconf(name);
  return size > 0 ? size : fallback;
}

inline int64_t l1_bytes() {
#ifdef _SC_LEVEL1_DCACHE_SIZE
  static const int64_t size = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  return size;
#else
  return 32 << 10;
#endif
}

inline int64_t l2_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t size = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 512 << 10);
  return size;
#else
  return 512 << 10;
#endif
}

}  // namespace dynadiag
