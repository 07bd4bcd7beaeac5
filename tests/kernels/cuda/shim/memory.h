// Copies of buffers beside pages that fault: what is read or written out of bounds is noticed.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "fibers.h"

namespace shim {

enum class Placement { begin, end };  // which end of a buffer touches the pages that fault

// Far enough for an index that misses by a row or more; it costs address space only.
constexpr std::size_t guard_bytes = std::size_t(64) << 20;
constexpr unsigned char poison = 0xff;  // NaN in every floating-point type, -1 in integers

class Region {
 public:
  // At the end the first byte is aligned to `alignment`, at the beginning to a page, past which it
  // stands by `skew`; what is left of the pages stays poisoned.
  Region(std::string name, std::size_t bytes, std::size_t alignment, Placement placement,
         std::size_t skew = 0)
      : name_(std::move(name)), bytes_(bytes) {
    const std::size_t page = sysconf(_SC_PAGESIZE);
    inside_bytes_ = (bytes + skew + page - 1) / page * page;
    whole_bytes_ = inside_bytes_ + 2 * guard_bytes;
    void* memory =
        mmap(nullptr, whole_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for " + name_);
    inside_ = static_cast<unsigned char*>(memory) + guard_bytes;
    protect(PROT_READ | PROT_WRITE);
    const std::size_t spare = (inside_bytes_ - bytes) / alignment * alignment;
    data_ = inside_ + (placement == Placement::end ? spare : skew);
    std::memset(inside_, poison, inside_bytes_);
  }
  Region(const Region&) = delete;
  ~Region() { munmap(inside_ - guard_bytes, whole_bytes_); }

  unsigned char* data() const { return data_; }
  void poison_data() { std::memset(data_, poison, bytes_); }
  void forbid_writing() { protect(PROT_READ); }

  // What an access to this address is to the buffer; empty if it lies elsewhere.
  std::string describe(const unsigned char* address) const {
    if (address < inside_ - guard_bytes || address >= inside_ + inside_bytes_ + guard_bytes)
      return "";
    const std::ptrdiff_t byte = address - data_;
    if (byte >= 0 && byte < std::ptrdiff_t(bytes_)) return "writes to " + name_ + ", an input";
    return "accesses byte " + std::to_string(byte) + " of " + name_ + ", which has " +
           std::to_string(bytes_);
  }

  // Writes that missed the buffer, but not by so much that they met a page that faults.
  std::string damage() const {
    for (const unsigned char* at = inside_; at < inside_ + inside_bytes_; ++at) {
      if (at == data_) at += bytes_;
      if (at < inside_ + inside_bytes_ && *at != poison)
        return "a thread wrote byte " + std::to_string(at - data_) + " of " + name_ +
               ", which has " + std::to_string(bytes_);
    }
    return "";
  }

 private:
  void protect(int rights) { mprotect(inside_, inside_bytes_, rights); }

  std::string name_;
  std::size_t bytes_, inside_bytes_, whole_bytes_;
  unsigned char *inside_, *data_;
};

}  // namespace shim
