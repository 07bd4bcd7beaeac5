// Running a grid, block after block, and turning whatever goes wrong into a message.
#pragma once

#include <signal.h>

#include <cstdio>
#include <cstring>

#include "arguments.h"
#include "cuda.h"

namespace shim {

struct Launch {
  const char* expression;
  unsigned grid[3];
  unsigned block;
  unsigned shared_bytes;
  int order;      // Order
  int placement;  // Placement
  int count;
  const Argument* arguments;
};

struct Fault {
  int signal;
  const unsigned char* address;
};

inline Fault fault;

inline void on_fault(int signal, siginfo_t* info, void*) {
  if (current == nullptr) {  // not a kernel's: let it crash
    ::signal(signal, SIG_DFL);
    return;
  }
  fault = {signal, static_cast<const unsigned char*>(info->si_addr)};
  siglongjmp(escape, 2);
}

// Catches faults of the kernel on a stack of its own, as long as it lives.
class Catcher {
 public:
  Catcher() {
    const stack_t mine = {stack_, 0, sizeof stack_};
    sigaltstack(&mine, &stack_before_);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < count; ++i) sigaction(signals[i], &action, &before_[i]);
  }
  Catcher(const Catcher&) = delete;
  ~Catcher() {
    for (int i = 0; i < count; ++i) sigaction(signals[i], &before_[i], nullptr);
    sigaltstack(&stack_before_, nullptr);
  }

 private:
  static constexpr int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
  static constexpr int count = sizeof signals / sizeof *signals;

  char stack_[64 << 10];
  stack_t stack_before_;
  struct sigaction before_[count];
};

// The kernels the including unit has compiled.
const std::vector<Kernel>& kernels();

inline const Kernel& find(const char* expression) {
  for (const Kernel& kernel : kernels())
    if (std::strcmp(kernel.expression, expression) == 0) return kernel;
  fail("is not among the compiled kernels");
}

inline void run(const Launch& launch, Buffers& buffers) {
  const Kernel& kernel = find(launch.expression);
  if (kernel.parameters.size() != std::size_t(launch.count))
    fail("takes " + std::to_string(kernel.parameters.size()) + " arguments, but got " +
         std::to_string(launch.count));
  const auto order = static_cast<Order>(launch.order);
  const auto placement = static_cast<Placement>(launch.placement);
  buffers.add(kernel.parameters, launch.arguments, placement);
  Region& block_memory = buffers.add_shared(launch.shared_bytes, placement);
  shared = block_memory.data();
  body = kernel.body;
  gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
  blockDim = {launch.block, 1, 1};
  unsigned seed = 1;
  for (const unsigned block : ordered(gridDim.x * gridDim.y * gridDim.z, order, seed)) {
    blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y};
    block_memory.poison_data();
    run_block(order, seed);
  }
  buffers.check();
  buffers.copy_outputs();
}

inline std::string where() {
  if (current == nullptr) return "";
  const auto index = [](unsigned i) { return std::to_string(i); };
  return ", block (" + index(blockIdx.x) + ", " + index(blockIdx.y) + ", " + index(blockIdx.z) +
         "), thread " + index(current->thread);
}

inline std::string describe_fault(const Buffers& buffers) {
  if (fault.signal == SIGFPE) return "divides by zero";
  if (fault.signal == SIGILL || fault.signal == SIGTRAP)
    return "misaligned access, index outside a local array, or overflow of a signed integer";
  const char* stack = current->stack;
  const auto* address = reinterpret_cast<const char*>(fault.address);
  if (address < stack && address >= stack - sysconf(_SC_PAGESIZE))
    return "needs more stack than the " + std::to_string(stack_bytes) + " bytes it has";
  return buffers.describe(fault.address);
}

}  // namespace shim

// Returns 0, or another number and a message.
extern "C" __attribute__((visibility("default"))) int shim_launch(const shim::Launch* launch,
                                                                  char* message, std::size_t size) {
  shim::Buffers buffers;
  const shim::Catcher catcher;
  const int failed = sigsetjmp(shim::escape, 1);
  if (failed == 0) {
    shim::run(*launch, buffers);
    return 0;
  }
  const std::string what = failed == 2 ? shim::describe_fault(buffers) : shim::error;
  std::snprintf(message, size, "%s%s: %s", launch->expression, shim::where().c_str(), what.c_str());
  shim::abandon_fibers();
  return failed;
}
