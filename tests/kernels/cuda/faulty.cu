// Kernels that break one rule each, and the sound ones they come from (see test_shim.py).

namespace faulty {

// Each thread passes its number to the next one through shared memory.
template <bool sound>
__global__ void neighbour(int* out) {
  DYNADIAG_SHARED(memory);
  int* const numbers = reinterpret_cast<int*>(memory);
  numbers[threadIdx.x] = threadIdx.x;
  if (sound) __syncthreads();
  out[threadIdx.x] = numbers[(threadIdx.x + 1) % blockDim.x];
}

// The same twice over: the second round may overwrite what the first has yet to read.
template <bool sound>
__global__ void twice(int* out) {
  DYNADIAG_SHARED(memory);
  int* const numbers = reinterpret_cast<int*>(memory);
  int sum = 0;
  for (int round = 0; round < 2; ++round) {
    if (sound) __syncthreads();
    numbers[threadIdx.x] = threadIdx.x + 1000 * round;
    __syncthreads();
    sum += numbers[(threadIdx.x + 32) % blockDim.x];
  }
  out[threadIdx.x] = sum;
}

// Lanes of one warp exchange numbers through shared memory.
template <bool sound>
__global__ void within_warp(int* out) {
  DYNADIAG_SHARED(memory);
  int* const numbers = reinterpret_cast<int*>(memory);
  numbers[threadIdx.x] = threadIdx.x;
  if (sound) __syncwarp();
  out[threadIdx.x] = numbers[threadIdx.x ^ 1];
}

__global__ void some_leave(int* out) {
  if (threadIdx.x >= 32) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void two_barriers(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

__global__ void lane_returns(int* out) {
  if (threadIdx.x == 5) return;
  out[threadIdx.x] = __shfl_sync(0xffffffffu, int(threadIdx.x), 0);
}

__global__ void lane_at_barrier(int* out) {
  if (threadIdx.x == 5) __syncthreads();
  out[threadIdx.x] = __shfl_sync(0xffffffffu, int(threadIdx.x), 0);
}

__global__ void masks_differ(int* out) {
  const unsigned mask = threadIdx.x == 0 ? 0x3u : 0xffffffffu;
  out[threadIdx.x] = __ballot_sync(mask, 1);
}

__global__ void outside_own_mask(int* out) { out[threadIdx.x] = __ballot_sync(0xfffffffeu, 1); }

__global__ void reads_absent_lane(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, int(threadIdx.x), 20);
}

// Each half of a warp on its own, then all of it.
__global__ void warp(const int* in, int* out) {
  const unsigned half = threadIdx.x < 16 ? 0xffffu : 0xffff0000u;
  const int mine = in[threadIdx.x];
  int votes = 0;
  if (threadIdx.x < 16)
    votes = __ballot_sync(half, mine > 0);
  else
    votes = __ballot_sync(half, mine > 0);
  out[threadIdx.x] = __shfl_sync(0xffffffffu, votes, (threadIdx.x + 1) % 32);
}

__global__ void copy(const float* in, float* out, int count, int shift) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = in[i + shift];
}

__global__ void store(float* out, int count, int shift) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i + shift] = 1;
}

__global__ void store_byte(unsigned char* out, int index) { out[index] = 1; }

__global__ void write_input(const float* in, float* out) {
  const_cast<float*>(in)[threadIdx.x] = 1;
  out[threadIdx.x] = 1;
}

__global__ void sum_shared(float* out, int first, int count) {
  DYNADIAG_SHARED(memory);
  float* const numbers = reinterpret_cast<float*>(memory);
  numbers[threadIdx.x] = 1;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < count; ++i) sum += numbers[first + i];
  out[threadIdx.x] = sum;
}

struct alignas(16) Four {
  float numbers[4];
};

__global__ void copy_four(const float* in, float* out, int shift) {
  *reinterpret_cast<Four*>(out) = *reinterpret_cast<const Four*>(in + shift);
}

__global__ void overflow(int* out, int factor) { out[0] = factor * factor; }

__global__ void deep(int* out, int levels) {
  struct Recursion {
    static int sum(int level) {
      volatile int numbers[64];
      numbers[level % 64] = level;
      return level == 0 ? 0 : sum(level - 1) + numbers[level % 64];
    }
  };
  out[0] = Recursion::sum(levels);
}

// When each thread had its turn; `clock` begins anywhere.
__global__ void turns(int* out, int* clock) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = clock[0]++;
}

}  // namespace faulty
