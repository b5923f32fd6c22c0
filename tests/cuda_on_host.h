// Enough of CUDA to run kernels.cu on the host. The threads of a block take turns: each runs until
// it waits for the others of its warp or ends, and the blocks run one after the other. A thread
// that waits for one which has ended or waits elsewhere is a bug that a GPU would not report; here
// it is reported.

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <ucontext.h>

#define __global__
#define __device__ static inline
#define __shared__ static  // the blocks take turns, so one copy does

using std::exp;
using std::log;
using std::log1p;
using std::sqrt;
using std::tanh;

struct Index {
    unsigned x;
};
static Index gridDim, blockDim, blockIdx, threadIdx;

namespace host {

struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[1 << 16]};
    bool ended;
    int waits;       // how often it has waited for others so far
    char value[8];   // what it gives to the others
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static std::function<void()> kernel;
static const char* failure;

static inline void wait()
{
    swapcontext(&threads[threadIdx.x].context, &scheduler);
}

static void enter()
{
    kernel();
    threads[threadIdx.x].ended = true;
}

static inline void start(Thread& thread)
{
    thread.ended = false;
    thread.waits = 0;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = 1 << 16;
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, enter, 0);
}

static inline void run_block()
{
    for (Thread& thread : threads) start(thread);
    for (bool busy = true; busy;) {
        busy = false;
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) {
            Thread& thread = threads[threadIdx.x];
            if (thread.ended) continue;
            swapcontext(&scheduler, &thread.context);
            busy = true;
        }
    }
}

template <class... Parameters, std::size_t... I>
void call(void (*function)(Parameters...), void** args, std::index_sequence<I...>)
{
    function(*static_cast<Parameters*>(args[I])...);
}

// Like cuLaunchKernel: args[i] points at the value of parameter i, whose type the kernel knows.
template <class... Parameters>
const char* launch(void (*function)(Parameters...), unsigned blocks, unsigned size, void** args)
{
    failure = nullptr;
    gridDim.x = blocks;
    blockDim.x = size;
    threads.resize(size);
    kernel = [=] { call(function, args, std::index_sequence_for<Parameters...>{}); };
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) run_block();
    return failure;
}

// How many parameters a kernel has, which a launch on a GPU cannot check either.
template <class... Parameters>
int count(void (*)(Parameters...))
{
    return sizeof...(Parameters);
}

}  // namespace host

template <class Value>
Value __shfl_xor_sync(unsigned mask, Value value, int distance)
{
    host::Thread &mine = host::threads[threadIdx.x], &other = host::threads[threadIdx.x ^ distance];
    std::memcpy(mine.value, &value, sizeof value);
    mine.waits++;
    host::wait();
    if (mask != 0xffffffff) host::failure = "a shuffle leaves out lanes of its warp";
    if (distance >= 32) host::failure = "a shuffle reaches beyond its warp";
    if (other.ended || other.waits != mine.waits) host::failure = "a shuffle with an absent lane";
    std::memcpy(&value, other.value, sizeof value);
    host::wait();
    return value;
}

static inline void __syncthreads()
{
    int waits = ++host::threads[threadIdx.x].waits;
    host::wait();
    for (host::Thread& other : host::threads)
        if (other.ended || other.waits != waits) host::failure = "a barrier with an absent thread";
    host::wait();
}
