// The fused primitives of base.py as CUDA kernels, compiled once for each type: -DREAL=float and
// -DREAL=double. The line above a kernel is its meaning; the code does the operations of base.py
// in their order, and --fmad=false keeps the compiler from merging a product and a sum into one
// rounding. That costs nothing: these kernels wait for memory, not for arithmetic.
//
// Parameters: numbers that live on the device, then arrays that are read, then arrays that are
// written, then sizes, then numbers. All arrays are C-contiguous. There are no atomic operations and
// every sum has a fixed order, so the same call gives the same bits. Where a thread reads and writes
// several elements, __restrict__ lets it read the next before it has written the last.

#include "common.cuh"

typedef REAL T;

#define KERNEL_OF_COLUMNS extern "C" __global__ void __launch_bounds__(1024)

// ---- what the lanes of a warp do together: all get the same number ------------------------------

// Σ x over the warp
__device__ T warp_sum(T x)
{
    for (int k = WARP / 2; k > 0; k /= 2) x += __shfl_xor_sync(0xffffffff, x, k);
    return x;
}

// max x over a row; a NaN may be lost, but then Σ exp(x - max) is NaN and the whole row with it
__device__ T row_max(const T* x, i64 columns)
{
    T top = x[0];
    for (EACH_COLUMN(j, columns)) top = x[j] > top ? x[j] : top;
    for (int k = WARP / 2; k > 0; k /= 2) {
        T other = __shfl_xor_sync(0xffffffff, top, k);
        top = other > top ? other : top;
    }
    return top;
}

// y = exp(x - top) for a row, returns Σ y
__device__ T row_exp(const T* x, T* y, T top, i64 columns)
{
    T sum = 0;
    for (EACH_COLUMN(j, columns)) sum += y[j] = exp(x[j] - top);
    return warp_sum(sum);
}

// ---- sums ---------------------------------------------------------------------------------------

// outᵢ = Σⱼ Aᵢⱼ; the last row may be shorter, A ends after `size` elements
KERNEL sum_rows(const T* A, T* out, i64 rows, i64 columns, i64 size)
{
    for (EACH_ROW(i, rows)) {
        i64 rest = size - i * columns;
        T sum = 0;
        for (EACH_COLUMN(j, (rest < columns ? rest : columns))) sum += A[i * columns + j];
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) out[i] = sum;
    }
}

// outₚⱼ = Σᵢ term(i, j) over the p-th part of the rows, each of `share` rows
//
// A block takes 32 columns, one for each lane, so that neighbours read neighbours; its warps share
// the rows, and in the end each warp adds up what all have found for some of the columns.
template <class Term>
__device__ void column_sums(Term term, T* out, i64 rows, i64 columns, i64 share)
{
    __shared__ T found[WARP][WARP + 1];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    i64 groups = (columns + WARP - 1) / WARP, parts = rows > 0 ? (rows + share - 1) / share : 1;
    for (EACH_BLOCK(k, groups * parts)) {
        i64 part = k / groups, first = k % groups * WARP, j = first + lane;
        i64 end = (part + 1) * share < rows ? (part + 1) * share : rows;
        T sum = 0;
        if (j < columns)
            for (i64 i = part * share + warp; i < end; i += warps) sum += term(i * columns + j);
        found[warp][lane] = sum;
        __syncthreads();
        for (int c = warp; c < WARP; c += warps) {
            T total = warp_sum(lane < warps ? found[lane][c] : 0);
            if (lane == 0 && first + c < columns) out[part * columns + first + c] = total;
        }
        __syncthreads();
    }
}

// outₚⱼ = Σᵢ Aᵢⱼ over the p-th part of the rows
KERNEL_OF_COLUMNS sum_columns(const T* A, T* out, i64 rows, i64 columns, i64 share)
{
    column_sums([=](i64 k) { return A[k]; }, out, rows, columns, share);
}

// ---- activations --------------------------------------------------------------------------------

// y = x where x > 0, else slope·x, which is 0 for slope = 0 also where x = -∞
__device__ T relu_of(T x, T slope)
{
    return x > 0 ? x : slope == 0 && x == x ? 0 : slope * x;
}

// dx = dy where y > 0, else slope·dy
__device__ T relu_grad_of(T dy, T y, T slope)
{
    return y > 0 ? dy : slope * dy;
}

// y = 1 / (1 + exp(-x))
__device__ T sigmoid_of(T x)
{
    return 1 / (1 + exp(-x));
}

// dx = dy · y (1 - y)
__device__ T sigmoid_grad_of(T dy, T y)
{
    return dy * y * (1 - y);
}

// dx = dy · (1 - y²)
__device__ T tanh_grad_of(T dy, T y)
{
    return dy * (1 - y * y);
}

// Y = X where X > 0, else slope·X
KERNEL relu(const T* X, T* Y, i64 n, T slope)
{
    for (EACH(i, n)) Y[i] = relu_of(X[i], slope);
}

// dX = dY where Y > 0, else slope·dY
KERNEL relu_grad(const T* dY, const T* Y, T* dX, i64 n, T slope)
{
    for (EACH(i, n)) dX[i] = relu_grad_of(dY[i], Y[i], slope);
}

// Y = 1 / (1 + exp(-X))
KERNEL sigmoid(const T* X, T* Y, i64 n)
{
    for (EACH(i, n)) Y[i] = sigmoid_of(X[i]);
}

// dX = dY · Y (1 - Y)
KERNEL sigmoid_grad(const T* dY, const T* Y, T* dX, i64 n)
{
    for (EACH(i, n)) dX[i] = sigmoid_grad_of(dY[i], Y[i]);
}

// dX = dY · (1 - Y²)
KERNEL tanh_grad(const T* dY, const T* Y, T* dX, i64 n)
{
    for (EACH(i, n)) dX[i] = tanh_grad_of(dY[i], Y[i]);
}

// Yᵢⱼ = f(Yᵢⱼ + bⱼ): what is left of f(X W + b) after the product
template <class Function>
__device__ void bias_and(Function f, const T* b, T* Y, i64 rows, i64 columns)
{
    for (EACH_BLOCK(i, rows))
        for (EACH_OF_BLOCK(j, columns)) Y[i * columns + j] = f(Y[i * columns + j] + b[j]);
}

KERNEL bias(const T* b, T* Y, i64 rows, i64 columns)
{
    bias_and([](T z) { return z; }, b, Y, rows, columns);
}

KERNEL bias_relu(const T* b, T* Y, i64 rows, i64 columns)
{
    bias_and([](T z) { return relu_of(z, 0); }, b, Y, rows, columns);
}

KERNEL bias_sigmoid(const T* b, T* Y, i64 rows, i64 columns)
{
    bias_and([](T z) { return sigmoid_of(z); }, b, Y, rows, columns);
}

KERNEL bias_tanh(const T* b, T* Y, i64 rows, i64 columns)
{
    bias_and([](T z) { return tanh(z); }, b, Y, rows, columns);
}

// dZᵢⱼ = grad(dYᵢⱼ, Yᵢⱼ), and its sums over the parts of the rows, as in `sum_columns`
template <class Gradient>
__device__ void grad_and_sums(Gradient grad, const T* dY, const T* Y, T* dZ, T* sums, i64 rows,
                              i64 columns, i64 share)
{
    column_sums([=](i64 k) { return dZ[k] = grad(dY[k], Y[k]); }, sums, rows, columns, share);
}

KERNEL_OF_COLUMNS relu_grad_sums(const T* __restrict__ dY, const T* __restrict__ Y,
                                  T* __restrict__ dZ, T* sums, i64 rows, i64 columns, i64 share)
{
    grad_and_sums([](T dy, T y) { return relu_grad_of(dy, y, 0); }, dY, Y, dZ, sums, rows, columns,
                  share);
}

KERNEL_OF_COLUMNS sigmoid_grad_sums(const T* __restrict__ dY, const T* __restrict__ Y,
                                  T* __restrict__ dZ, T* sums, i64 rows, i64 columns, i64 share)
{
    grad_and_sums([](T dy, T y) { return sigmoid_grad_of(dy, y); }, dY, Y, dZ, sums, rows, columns,
                  share);
}

KERNEL_OF_COLUMNS tanh_grad_sums(const T* __restrict__ dY, const T* __restrict__ Y,
                                  T* __restrict__ dZ, T* sums, i64 rows, i64 columns, i64 share)
{
    grad_and_sums([](T dy, T y) { return tanh_grad_of(dy, y); }, dY, Y, dZ, sums, rows, columns,
                  share);
}

// t = tanh(√(2/π) (X + a X³)),  Y = X (1 + t) / 2
KERNEL gelu(const T* X, T* Y, T* t, i64 n, T c, T a)
{
    for (EACH(i, n)) {
        T x = X[i];
        t[i] = tanh(c * (x + a * x * x * x));
        Y[i] = T(0.5) * x * (1 + t[i]);
    }
}

// dX = dY · ((1 + t) + X (1 - t²) √(2/π) (1 + 3a X²)) / 2
KERNEL gelu_grad(const T* dY, const T* X, const T* t, T* dX, i64 n, T c, T a3, T end)
{
    for (EACH(i, n)) {
        T x = X[i];
        x = x < -end ? -end : x > end ? end : x;  // no infinity times 0
        T slope = (1 + t[i]) + x * (1 - t[i] * t[i]) * c * (1 + a3 * x * x);
        dX[i] = T(0.5) * dY[i] * slope;
    }
}

// P = Φ(X),  p = φ(X): see normal.py
KERNEL normal(const T* X, T* P, T* p, i64 n)
{
    constexpr T mills[] = {MILLS};
    for (EACH(i, n)) {
        T a = fabs(X[i]);
        a = a > T(END) ? T(END) : a;
        T q = (a - T(CENTRE)) / (a + T(CENTRE)), ratio = 0;
        for (T c : mills) ratio = ratio * q + c;
        p[i] = exp(T(-0.5) * a * a) * T(PEAK);
        T tail = ratio / (1 + a) * p[i];
        P[i] = X[i] > 0 ? 1 - tail : tail;
    }
}

// Y = log(1 + exp X) = max(X, 0) + log(1 + exp(-|X|))
KERNEL softplus(const T* X, T* Y, i64 n)
{
    for (EACH(i, n)) Y[i] = X[i] > 0 ? X[i] + log1p(exp(-X[i])) : log1p(exp(X[i]));
}

// Yᵢⱼ = exp(Xᵢⱼ - maxₖ Xᵢₖ) / Σₖ exp(Xᵢₖ - maxₖ Xᵢₖ)
KERNEL softmax(const T* X, T* Y, i64 rows, i64 columns)
{
    for (EACH_ROW(i, rows)) {
        const T* x = X + i * columns;
        T* y = Y + i * columns;
        T sum = row_exp(x, y, row_max(x, columns), columns);
        for (EACH_COLUMN(j, columns)) y[j] /= sum;
    }
}

// dXᵢⱼ = Yᵢⱼ (dYᵢⱼ - Σₖ dYᵢₖ Yᵢₖ)
KERNEL softmax_grad(const T* dY, const T* Y, T* dX, i64 rows, i64 columns)
{
    for (EACH_ROW(i, rows)) {
        const T *dy = dY + i * columns, *y = Y + i * columns;
        T dot = 0;
        for (EACH_COLUMN(j, columns)) dot += dy[j] * y[j];
        dot = warp_sum(dot);
        for (EACH_COLUMN(j, columns)) dX[i * columns + j] = y[j] * (dy[j] - dot);
    }
}

// ---- losses -------------------------------------------------------------------------------------

// outᵢⱼ = 1 where j = labelsᵢ, else 0
KERNEL one_hot(const i64* labels, T* out, i64 n, i64 columns)
{
    for (EACH(i, n)) out[i] = labels[i / columns] == i % columns;
}

// dZ = scale·(softmax(Z) - t),  lossesᵢ = -Σⱼ tᵢⱼ log Pᵢⱼ = Σⱼ tᵢⱼ (log Σₖ exp Sᵢₖ - Sᵢⱼ)
// with S = Z - max Z
template <class Target>
__device__ void cross_entropy(const T* Z, Target t, T* dZ, T* losses, i64 rows, i64 columns,
                              T scale)
{
    for (EACH_ROW(i, rows)) {
        const T* z = Z + i * columns;
        T *dz = dZ + i * columns, loss = 0;
        T top = row_max(z, columns), sum = row_exp(z, dz, top, columns), log_sum = log(sum);
        for (EACH_COLUMN(j, columns)) {
            T tj = t(i, j);
            dz[j] = (dz[j] / sum - tj) * scale;
            loss += tj * (log_sum - (z[j] - top));
        }
        loss = warp_sum(loss);
        if (threadIdx.x % WARP == 0) losses[i] = loss;
    }
}

KERNEL softmax_cross_entropy(const T* Z, const T* t, T* dZ, T* losses, i64 rows, i64 columns,
                             T scale)
{
    cross_entropy(Z, [=](i64 i, i64 j) { return t[i * columns + j]; }, dZ, losses, rows, columns,
                  scale);
}

// t is 1 where j is the label of row i, else 0
KERNEL softmax_cross_entropy_labels(const T* Z, const i64* labels, T* dZ, T* losses, i64 rows,
                                    i64 columns, T scale)
{
    cross_entropy(Z, [=](i64 i, i64 j) { return T(labels[i] == j); }, dZ, losses, rows, columns,
                  scale);
}

// ---- batches and masks --------------------------------------------------------------------------

// outᵢⱼ = value(data[order[position + i], j])
template <class In, class Out, class Value>
__device__ void gather_rows(Value value, const i64* position, const In* data, const i64* order,
                            Out* out, i64 rows, i64 columns)
{
    for (EACH_BLOCK(i, rows)) {
        const In* row = data + order[*position + i] * columns;
        for (EACH_OF_BLOCK(j, columns)) out[i * columns + j] = value(row[j]);
    }
}

KERNEL gather(const i64* __restrict__ position, const T* __restrict__ data,
       const i64* __restrict__ order, T* __restrict__ out, i64 rows, i64 columns)
{
    gather_rows([](T x) { return x; }, position, data, order, out, rows, columns);
}

// whole numbers such as labels
KERNEL gather_integers(const i64* __restrict__ position, const i64* __restrict__ data,
       const i64* __restrict__ order, i64* __restrict__ out, i64 rows, i64 columns)
{
    gather_rows([](i64 k) { return k; }, position, data, order, out, rows, columns);
}

// pixels that stay what they are
KERNEL gather_bytes(const i64* __restrict__ position, const u8* __restrict__ data,
       const i64* __restrict__ order, u8* __restrict__ out, i64 rows, i64 columns)
{
    gather_rows([](u8 k) { return k; }, position, data, order, out, rows, columns);
}

// k/255 for the pixel k
KERNEL gather_pixels(const i64* __restrict__ position, const u8* __restrict__ data,
       const i64* __restrict__ order, T* __restrict__ out, i64 rows, i64 columns)
{
    gather_rows([](u8 k) { return T(k) / 255; }, position, data, order, out, rows, columns);
}

// out[position] = value,  position = position + 1
KERNEL record(const T* value, T* out, i64* position)
{
    if (blockIdx.x == 0 && threadIdx.x == 0) out[(*position)++] = *value;
}

// the finaliser of splitmix64
__device__ u64 mix64(u64 z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

// outⱼ = scale where the upper 53 bits of mix(mix(key + mix(counter)) + (first + j) γ) < threshold,
// else 0
KERNEL dropout_mask(
    const u64* key, const u64* counter, T* out, i64 n, u64 threshold, u64 first, T scale)
{
    u64 start = mix64(*key + mix64(*counter)), gamma = 0x9E3779B97F4A7C15;
    for (EACH(j, n)) out[j] = mix64(start + (first + j) * gamma) >> 11 < threshold ? scale : 0;
}

// ---- optimizers ---------------------------------------------------------------------------------

// p = p - η g
KERNEL sgd(const double* rate, const T* __restrict__ g, T* __restrict__ p, i64 n)
{
    T eta = *rate;
    update([=](T g, T& p) { p = p - eta * g; }, n, g, p);
}

// v = μ v + g,  p = p - η v      (Nesterov: p = p - η (g + μ v))
KERNEL momentum(const double* rate, const T* __restrict__ g, T* __restrict__ p, T* __restrict__ v,
                i64 n, bool nesterov, T mu)
{
    T eta = *rate;
    auto step = [=](T g, T& p, T& v) {
        v = mu * v + g;
        p = p - eta * (nesterov ? g + mu * v : v);
    };
    update(step, n, g, p, v);
}

// s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)
KERNEL rmsprop(const double* rate, const T* __restrict__ g, T* __restrict__ p, T* __restrict__ s,
               i64 n, T rho, T one_minus_rho, T eps)
{
    T eta = *rate;
    auto step = [=](T g, T& p, T& s) {
        s = rho * s + one_minus_rho * g * g;
        p = p - eta * g / (sqrt(s) + eps);
    };
    update(step, n, g, p, s);
}

// m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = (1 - η λ) p - η m̂ / (√v̂ + ε)
// with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ); powers are β₁ᵗ and β₂ᵗ, decay is λ
KERNEL adam(const double* rate, const double* powers, const T* __restrict__ g, T* __restrict__ p,
            T* __restrict__ m, T* __restrict__ v, i64 n, T beta1, T one_minus_beta1, T beta2,
            T one_minus_beta2, T eps, T decay)
{
    T eta = *rate, c1 = 1 - powers[0], c2 = 1 - powers[1];
    auto step = [=](T g, T& p, T& m, T& v) {
        m = beta1 * m + one_minus_beta1 * g;
        v = beta2 * v + one_minus_beta2 * g * g;
        p = p - (eta * decay * p + eta * (m / c1) / (sqrt(v / c2) + eps));
    };
    update(step, n, g, p, m, v);
}
