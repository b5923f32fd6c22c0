// What both files of kernels begin with: how threads share elements, rows, blocks and updates.

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned char u8;

#define KERNEL extern "C" __global__ void

// Element by element: thread k of all takes the elements k, k + threads, ... whatever the grid is.
#define THREADS (gridDim.x * (i64)blockDim.x)
#define EACH(i, n) i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < n; i += THREADS

// Row by row: warp k of all takes the rows k, k + warps, ..., its 32 lanes share the columns.
#define WARP 32
#define EACH_ROW(i, rows)                                                   \
    i64 i = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / WARP; i < rows; \
    i += THREADS / WARP
#define EACH_COLUMN(j, columns) i64 j = threadIdx.x % WARP; j < columns; j += WARP

// Block by block: block k of all takes the items k, k + blocks, ..., its threads share the rest.
#define EACH_BLOCK(i, n) i64 i = blockIdx.x; i < n; i += gridDim.x
#define EACH_OF_BLOCK(j, n) i64 j = threadIdx.x; j < n; j += blockDim.x

// ---- updates: step(g, p, ...) changes the element of each array but the first -------------------

// What a thread reads or writes at once
template <class Real, int size>
struct alignas(size * sizeof(Real)) Pack {
    Real of[size];
};

// The step for each element of a pack: all packs are read, and then all are written.
template <class Step, class Real, int size, class... Packs>
__device__ void update_pack(Step step, Pack<Real, size> g, Packs&... state)
{
    auto on_copies = [&](Packs... now) {
        for (int k = 0; k < size; k++) step(g.of[k], now.of[k]...);
        ((state = now), ...);
    };
    on_copies(state...);
}

// The step for n packs of each array
template <int size, class Step, class Real, class... Reals>
__device__ void update_packs(Step step, i64 n, const Real* g, Reals*... state)
{
    using P = Pack<Real, size>;
    for (EACH(i, n)) update_pack(step, ((const P*)g)[i], ((P*)state)[i]...);
}

// The step for n elements of each array. Where there are more elements than threads, and all arrays
// begin at a multiple of 16 bytes, a thread takes 16 bytes at once; the rest goes one by one.
template <class Step, class Real, class... Reals>
__device__ void update(Step step, i64 n, const Real* g, Reals*... state)
{
    constexpr int size = 16 / sizeof(Real);
    bool aligned = ((u64)g | ... | (u64)state) % 16 == 0;
    i64 packs = n > THREADS && aligned ? n / size : 0, first = packs * size;
    update_packs<size>(step, packs, g, state...);
    update_packs<1>(step, n - first, g + first, (state + first)...);
}
