// Enough of CUDA to run kernels.cu on the host. The threads of a block take turns: each runs until
// it waits for the others of its warp or ends, and the blocks run one after the other. A thread
// that waits for one which has ended or waits elsewhere is a bug that a GPU would not report; here
// it is reported.

#include <cmath>
#include <csetjmp>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include <ucontext.h>

#define __global__
#define __launch_bounds__(threads)
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

// A thread lives on from block to block. It is started once with makecontext, and from then on
// switched to and from with _setjmp and _longjmp, which, unlike swapcontext, call no system.
struct Thread {
    ucontext_t context;
    std::jmp_buf here, end;
    std::unique_ptr<char[]> stack{new char[1 << 16]};
    bool ended;
    int waits;       // how often it has waited for others so far
    char value[8];   // what it gives to the others
};
static std::deque<Thread> threads;
static std::jmp_buf scheduler;
static std::function<void()> kernel;
static const char* failure;

static void wait()
{
    if (!_setjmp(threads[threadIdx.x].here)) _longjmp(scheduler, 1);
}

static void live()
{
    for (;;) {
        if (!_setjmp(threads[threadIdx.x].end)) kernel();
        threads[threadIdx.x].ended = true;
        wait();
    }
}

static void add_thread()
{
    Thread& thread = threads.emplace_back();
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = 1 << 16;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, live, 0);
}

static void go_on(Thread& thread, bool first)
{
    if (_setjmp(scheduler)) return;
    if (first) setcontext(&thread.context);
    _longjmp(thread.here, 1);
}

// Which thread is the i-th to take its turn
static unsigned turn(unsigned i)
{
#ifdef BACKWARDS
    return blockDim.x - 1 - i;
#else
    return i;
#endif
}

static void run_block()
{
    unsigned there = threads.size();
    while (threads.size() < blockDim.x) add_thread();
    for (unsigned i = 0; i < blockDim.x; i++) {
        threads[i].ended = false;
        threads[i].waits = 0;
    }
    bool first = true;
    for (bool busy = true; busy; first = false) {
        busy = false;
        for (unsigned i = 0; i < blockDim.x; i++) {
            threadIdx.x = turn(i);
            Thread& thread = threads[threadIdx.x];
            if (thread.ended) continue;
            go_on(thread, first && threadIdx.x >= there);
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

// What g++ calls with -fsanitize=alignment before it reads or writes a number or a pack at an address
// where none may begin. A GPU stops there. Here the thread ends: the host might stop, too.
extern "C" void __ubsan_handle_type_mismatch_v1(void*, void*)
{
    host::failure = "an access that is not aligned";
    _longjmp(host::threads[threadIdx.x].end, 1);
}

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
    for (unsigned i = 0; i < blockDim.x; i++)
        if (host::threads[i].ended || host::threads[i].waits != waits)
            host::failure = "a barrier with an absent thread";
    host::wait();
}
