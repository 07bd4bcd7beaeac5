// The threads of one block as fibers: each runs until it must wait for its warp or at a barrier.
//
// A fiber is entered once through ucontext and from then on switched by _setjmp and _longjmp, which
// unlike swapcontext make no system call.
#pragma once

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

struct uint3 {
  unsigned x, y, z;
};

inline uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace shim {

constexpr unsigned warp_size = 32;
constexpr std::size_t stack_bytes = 64 << 10;

// Computes what the lanes of `mask` get from what they bring: operands[lane] is both.
using Meeting = void (*)(unsigned mask, void* const* operands);

enum class Wait { none, barrier, warp, finished };
enum class Order { forward, reverse, shuffled };

struct Place {
  const char* file;
  int line;
  bool operator==(const Place& other) const { return file == other.file && line == other.line; }
};

struct Fiber {
  explicit Fiber(unsigned thread) : thread(thread) {}

  const unsigned thread;
  ucontext_t entry;
  jmp_buf state;
  bool entered = false;
  char* stack = nullptr;  // stack_bytes above a page that faults
  Wait wait = Wait::none;
  Place place = {};
  unsigned mask = 0;
  Meeting meeting = nullptr;
  void* operand = nullptr;
};

inline std::vector<std::unique_ptr<Fiber>> fibers;
inline Fiber* current = nullptr;  // null: the scheduler runs
inline jmp_buf scheduler;
inline sigjmp_buf escape;  // where an error leaves the launch
inline std::string error;
inline void (*body)() = nullptr;  // one thread of the kernel

[[noreturn]] inline void fail(std::string what) {
  error = std::move(what);
  siglongjmp(escape, 1);
}

inline std::string text(const Place& place) {
  const std::string file = place.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(place.line);
}

__attribute__((noinline)) inline void pause() {
  if (_setjmp(current->state) == 0) _longjmp(scheduler, 1);
}

inline void fiber_main() {
  for (;;) {
    body();
    current->wait = Wait::finished;
    pause();
  }
}

inline void prepare(Fiber& fiber) {
  const std::size_t page = sysconf(_SC_PAGESIZE);
  if (fiber.stack == nullptr) {
    void* memory = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for the stack of a thread");
    mprotect(memory, page, PROT_NONE);
    fiber.stack = static_cast<char*>(memory) + page;
  }
  getcontext(&fiber.entry);
  fiber.entry.uc_stack.ss_sp = fiber.stack;
  fiber.entry.uc_stack.ss_size = stack_bytes;
  makecontext(&fiber.entry, fiber_main, 0);
}

__attribute__((noinline)) inline void resume(Fiber& fiber) {
  current = &fiber;
  threadIdx = {fiber.thread, 0, 0};
  if (_setjmp(scheduler) == 0) {
    if (fiber.entered) _longjmp(fiber.state, 1);
    fiber.entered = true;
    setcontext(&fiber.entry);
  }
  current = nullptr;
}

inline void barrier(Place place) {
  current->wait = Wait::barrier;
  current->place = place;
  pause();
}

inline unsigned lane_of(const Fiber& fiber) { return fiber.thread % warp_size; }

// The one way in which the lanes of a warp meet: the last of `mask` to arrive computes for all.
inline void rendezvous(unsigned mask, Meeting meeting, void* operand, Place place) {
  Fiber& self = *current;
  if ((mask >> lane_of(self) & 1) == 0) fail("is not in the mask it passes at " + text(place));
  self.wait = Wait::warp;
  self.place = place;
  self.mask = mask;
  self.meeting = meeting;
  self.operand = operand;
  const unsigned first = self.thread - lane_of(self);
  void* operands[warp_size] = {};
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    if (first + lane >= blockDim.x)
      fail("waits at " + text(place) + " for lane " + std::to_string(lane) +
           ", which the block does not have");
    const Fiber& other = *fibers[first + lane];
    if (other.wait != Wait::warp) return pause();
    if (other.mask != mask || other.meeting != meeting || !(other.place == place))
      fail("is at " + text(place) + " while lane " + std::to_string(lane) +
           " waits with another mask or function at " + text(other.place));
    operands[lane] = other.operand;
  }
  meeting(mask, operands);
  for (unsigned lane = 0; lane < warp_size; ++lane)
    if (mask >> lane & 1) fibers[first + lane]->wait = Wait::none;
}

// 0 .. count-1 in the order asked for.
inline std::vector<unsigned> ordered(unsigned count, Order order, unsigned& seed) {
  std::vector<unsigned> list(count);
  std::iota(list.begin(), list.end(), 0u);
  if (order == Order::reverse) return {list.rbegin(), list.rend()};
  if (order == Order::shuffled)
    for (unsigned i = count; i > 1; --i) {
      seed = seed * 1664525u + 1013904223u;
      std::swap(list[i - 1], list[(seed >> 8) % i]);
    }
  return list;
}

inline void report_missing_lane(const Fiber& waiting) {
  const unsigned first = waiting.thread - lane_of(waiting);
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if ((waiting.mask >> lane & 1) == 0) continue;
    const Fiber& other = *fibers[first + lane];
    if (other.wait == Wait::warp) continue;
    const bool left = other.wait == Wait::finished;
    fail("waits at " + text(waiting.place) + " for lane " + std::to_string(lane) + ", which " +
         (left ? "has returned" : "waits at the barrier of " + text(other.place)));
  }
}

// Runs the lanes of a warp as far as they get without the other warps.
inline void run_warp(unsigned warp, const std::vector<unsigned>& lanes) {
  const unsigned first = warp * warp_size;
  for (bool progress = true; progress;) {
    progress = false;
    for (const unsigned lane : lanes) {
      if (first + lane >= blockDim.x || fibers[first + lane]->wait != Wait::none) continue;
      resume(*fibers[first + lane]);
      progress = true;
    }
  }
  for (unsigned thread = first; thread < std::min(first + warp_size, blockDim.x); ++thread)
    if (fibers[thread]->wait == Wait::warp) {
      current = fibers[thread].get();
      report_missing_lane(*current);
    }
}

// Returns whether all threads have returned; releases them where all wait at one barrier.
inline bool pass_barrier() {
  const Fiber& first = *fibers[0];
  for (unsigned thread = 1; thread < blockDim.x; ++thread) {
    const Fiber& other = *fibers[thread];
    const bool both_wait = first.wait == Wait::barrier && other.wait == Wait::barrier;
    if (first.wait == other.wait && (!both_wait || first.place == other.place)) continue;
    current = fibers[thread].get();
    const auto whereabouts = [](const Fiber& fiber) {
      return fiber.wait == Wait::finished ? "has returned" : "waits at " + text(fiber.place);
    };
    fail("divergent barrier: it " + whereabouts(other) + ", but thread 0 " + whereabouts(first));
  }
  if (first.wait == Wait::finished) return true;
  for (unsigned thread = 0; thread < blockDim.x; ++thread) fibers[thread]->wait = Wait::none;
  return false;
}

inline void run_block(Order order, unsigned& seed) {
  const auto warps = ordered((blockDim.x + warp_size - 1) / warp_size, order, seed);
  const auto lanes = ordered(warp_size, order, seed);
  while (fibers.size() < blockDim.x) fibers.push_back(std::make_unique<Fiber>(fibers.size()));
  for (unsigned thread = 0; thread < blockDim.x; ++thread) {
    if (!fibers[thread]->entered) prepare(*fibers[thread]);
    fibers[thread]->wait = Wait::none;
  }
  do {
    for (const unsigned warp : warps) run_warp(warp, lanes);
  } while (!pass_barrier());
}

// After an error the fibers stand somewhere in a kernel: they must be entered anew.
inline void abandon_fibers() {
  current = nullptr;
  for (auto& fiber : fibers) fiber->entered = false;
}

}  // namespace shim
