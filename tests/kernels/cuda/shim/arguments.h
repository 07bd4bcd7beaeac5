// The arguments of a launch as a kernel sees them: typed by its signature, buffers between guards.
#pragma once

#include <cstring>
#include <deque>
#include <type_traits>
#include <utility>
#include <vector>

#include "memory.h"

namespace shim {

struct Argument {
  long long value;  // an integer, or the address of a buffer
  long long bytes;  // of the buffer; -1: an integer, or a null pointer
};

struct Parameter {
  bool pointer, output;
  std::size_t alignment;
  bool (*holds)(long long);
};

constexpr int vector_bytes = 16;  // of the widest access

inline std::vector<long long> values;  // what the threads of the running kernel are called with

template <class P>
Parameter parameter() {
  if constexpr (std::is_pointer_v<P>) {
    using Pointee = std::remove_pointer_t<P>;
    return {true, !std::is_const_v<Pointee>, sizeof(Pointee), nullptr};
  } else {
    return {false, false, 0, [](long long value) { return static_cast<P>(value) == value; }};
  }
}

template <class P>
P convert(long long value) {
  if constexpr (std::is_pointer_v<P>)
    return reinterpret_cast<P>(value);
  else
    return static_cast<P>(value);
}

struct Kernel {
  const char* expression;
  void (*body)();  // one thread
  std::vector<Parameter> parameters;
};

template <auto kernel>
struct Instance;

template <class... P, void (*kernel)(P...)>
struct Instance<kernel> {
  template <std::size_t... I>
  static void call(std::index_sequence<I...>) {
    kernel(convert<P>(values[I])...);
  }
  static void body() { call(std::index_sequence_for<P...>{}); }
  static Kernel named(const char* expression) { return {expression, body, {parameter<P>()...}}; }
};

// Inputs that cannot be written to, and outputs full of NaN until a thread writes them.
class Buffers {
 public:
  void add(const std::vector<Parameter>& parameters, const Argument* arguments,
           Placement placement) {
    values.clear();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const std::string name = "argument " + std::to_string(i);
      values.push_back(add(name, parameters[i], arguments[i], placement));
    }
  }

  Region& add_shared(std::size_t bytes, Placement placement) {
    return regions_.emplace_back("the shared memory", bytes, vector_bytes, placement);
  }

  std::string describe(const unsigned char* address) const {
    for (const Region& region : regions_)
      if (const std::string found = region.describe(address); !found.empty()) return found;
    return "accesses memory that is no argument";
  }

  void check() const {
    for (const Region& region : regions_)
      if (const std::string found = region.damage(); !found.empty()) fail(found);
  }

  void copy_outputs() const {
    for (const Output& output : outputs_) std::memcpy(output.to, output.from, output.bytes);
  }

 private:
  struct Output {
    void* to;
    const void* from;
    std::size_t bytes;
  };

  long long add(const std::string& name, const Parameter& parameter, const Argument& argument,
                Placement placement) {
    const bool buffer = argument.bytes >= 0;
    if (!parameter.pointer && buffer) fail(name + " is an integer, but got a buffer");
    if (parameter.pointer && !buffer && argument.value != 0)
      fail(name + " is a buffer, but got an integer");
    if (!parameter.pointer && !parameter.holds(argument.value))
      fail(name + " is " + std::to_string(argument.value) + ", which its type does not hold");
    if (argument.bytes < 0) return argument.value;
    Region& region = regions_.emplace_back(name, argument.bytes, parameter.alignment, placement,
                                           argument.value % vector_bytes);
    auto* const given = reinterpret_cast<unsigned char*>(argument.value);
    if (parameter.output) {
      outputs_.push_back({given, region.data(), std::size_t(argument.bytes)});
    } else {
      std::memcpy(region.data(), given, argument.bytes);
      region.forbid_writing();
    }
    return reinterpret_cast<long long>(region.data());
  }

  std::deque<Region> regions_;
  std::vector<Output> outputs_;
};

}  // namespace shim
