// The fused primitives of base.py as CUDA kernels, compiled once for each type: -DREAL=float and
// -DREAL=double. The line above a kernel is its meaning; the code does the operations of base.py
// in their order, and --fmad=false keeps the compiler from merging a product and a sum into one
// rounding. That costs nothing: these kernels wait for memory, not for arithmetic.
//
// Parameters: numbers that live on the device, then arrays that are read, then arrays that are
// written, then sizes, then numbers. All arrays are C-contiguous. There are no atomic operations and
// every sum has a fixed order, so the same call gives the same bits.

typedef REAL T;
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned char u8;

#define KERNEL extern "C" __global__ void

// Element by element: thread k of all takes the elements k, k + threads, ... whatever the grid is.
#define EACH(i, n)                                              \
    i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < n; \
    i += gridDim.x * (i64)blockDim.x

// Row by row: warp k of all takes the rows k, k + warps, ..., its 32 lanes share the columns.
#define WARP 32
#define EACH_ROW(i, rows)                                                   \
    i64 i = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / WARP; i < rows; \
    i += gridDim.x * (i64)blockDim.x / WARP
#define EACH_COLUMN(j, columns) i64 j = threadIdx.x % WARP; j < columns; j += WARP

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

// ---- activations --------------------------------------------------------------------------------

// Y = X where X > 0, else slope·X, which is 0 for slope = 0 also where X = -∞
KERNEL relu(const T* X, T* Y, i64 n, T slope)
{
    for (EACH(i, n)) Y[i] = X[i] > 0 ? X[i] : slope == 0 && X[i] == X[i] ? 0 : slope * X[i];
}

// dX = dY where Y > 0, else slope·dY
KERNEL relu_grad(const T* dY, const T* Y, T* dX, i64 n, T slope)
{
    for (EACH(i, n)) dX[i] = Y[i] > 0 ? dY[i] : slope * dY[i];
}

// Y = 1 / (1 + exp(-X))
KERNEL sigmoid(const T* X, T* Y, i64 n)
{
    for (EACH(i, n)) Y[i] = 1 / (1 + exp(-X[i]));
}

// dX = dY · Y (1 - Y)
KERNEL sigmoid_grad(const T* dY, const T* Y, T* dX, i64 n)
{
    for (EACH(i, n)) dX[i] = dY[i] * Y[i] * (1 - Y[i]);
}

// dX = dY · (1 - Y²)
KERNEL tanh_grad(const T* dY, const T* Y, T* dX, i64 n)
{
    for (EACH(i, n)) dX[i] = dY[i] * (1 - Y[i] * Y[i]);
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
KERNEL gelu_grad(const T* dY, const T* X, const T* t, T* dX, i64 n, T c, T a3)
{
    for (EACH(i, n)) {
        T x = X[i], slope = (1 + t[i]) + x * (1 - t[i] * t[i]) * c * (1 + a3 * x * x);
        dX[i] = T(0.5) * dY[i] * slope;
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

// dZ = softmax(Z) - t,  lossesᵢ = -Σⱼ tᵢⱼ log Pᵢⱼ = Σⱼ tᵢⱼ (log Σₖ exp Sᵢₖ - Sᵢⱼ)  with  S = Z - max Z
KERNEL softmax_cross_entropy(const T* Z, const T* t, T* dZ, T* losses, i64 rows, i64 columns)
{
    for (EACH_ROW(i, rows)) {
        const T* z = Z + i * columns;
        T *dz = dZ + i * columns, loss = 0;
        T top = row_max(z, columns), sum = row_exp(z, dz, top, columns), log_sum = log(sum);
        for (EACH_COLUMN(j, columns)) {
            T tj = t[i * columns + j];
            dz[j] = dz[j] / sum - tj;
            loss += tj * (log_sum - (z[j] - top));
        }
        loss = warp_sum(loss);
        if (threadIdx.x % WARP == 0) losses[i] = loss;
    }
}

// ---- batches and masks --------------------------------------------------------------------------

// outᵢⱼ = data[order[position + i], j]
KERNEL gather(const i64* position, const T* data, const i64* order, T* out, i64 n, i64 columns)
{
    const i64* rows = order + *position;
    for (EACH(i, n)) out[i] = data[rows[i / columns] * columns + i % columns];
}

// outᵢⱼ = data[order[position + i], j], whole numbers such as labels
KERNEL gather_integers(const i64* position, const i64* data, const i64* order, i64* out, i64 n,
                       i64 columns)
{
    const i64* rows = order + *position;
    for (EACH(i, n)) out[i] = data[rows[i / columns] * columns + i % columns];
}

// outᵢⱼ = data[order[position + i], j], pixels that stay what they are
KERNEL gather_bytes(const i64* position, const u8* data, const i64* order, u8* out, i64 n,
                    i64 columns)
{
    const i64* rows = order + *position;
    for (EACH(i, n)) out[i] = data[rows[i / columns] * columns + i % columns];
}

// outᵢⱼ = k/255 with the pixel k = data[order[position + i], j]
KERNEL gather_pixels(const i64* position, const u8* data, const i64* order, T* out, i64 n,
                     i64 columns)
{
    const i64* rows = order + *position;
    for (EACH(i, n)) out[i] = T(data[rows[i / columns] * columns + i % columns]) / 255;
}

// the finaliser of splitmix64
__device__ u64 mix64(u64 z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

// outⱼ = scale where the upper 53 bits of mix(mix(key + mix(counter)) + j γ) < threshold, else 0
KERNEL dropout_mask(const u64* key, const u64* counter, T* out, i64 n, u64 threshold, T scale)
{
    u64 start = mix64(*key + mix64(*counter)), gamma = 0x9E3779B97F4A7C15;
    for (EACH(j, n)) out[j] = mix64(start + j * gamma) >> 11 < threshold ? scale : 0;
}

// ---- optimizers ---------------------------------------------------------------------------------

// p = p - η g
KERNEL sgd(const double* rate, const T* g, T* p, i64 n)
{
    T eta = *rate;
    for (EACH(i, n)) p[i] = p[i] - eta * g[i];
}

// v = μ v + g,  p = p - η v      (Nesterov: p = p - η (g + μ v))
KERNEL momentum(const double* rate, const T* g, T* p, T* v, i64 n, bool nesterov, T mu)
{
    T eta = *rate;
    for (EACH(i, n)) {
        v[i] = mu * v[i] + g[i];
        p[i] = p[i] - eta * (nesterov ? g[i] + mu * v[i] : v[i]);
    }
}

// s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)
KERNEL rmsprop(const double* rate, const T* g, T* p, T* s, i64 n, T rho, T one_minus_rho, T eps)
{
    T eta = *rate;
    for (EACH(i, n)) {
        s[i] = rho * s[i] + one_minus_rho * g[i] * g[i];
        p[i] = p[i] - eta * g[i] / (sqrt(s[i]) + eps);
    }
}

// m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = (1 - η λ) p - η m̂ / (√v̂ + ε)
// with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ); powers are β₁ᵗ and β₂ᵗ, decay is λ
KERNEL adam(const double* rate, const double* powers, const T* g, T* p, T* m, T* v, i64 n, T beta1,
            T one_minus_beta1, T beta2, T one_minus_beta2, T eps, T decay)
{
    T eta = *rate, c1 = 1 - powers[0], c2 = 1 - powers[1];
    for (EACH(i, n)) {
        m[i] = beta1 * m[i] + one_minus_beta1 * g[i];
        v[i] = beta2 * v[i] + one_minus_beta2 * g[i] * g[i];
        p[i] = p[i] - (eta * decay * p[i] + eta * (m[i] / c1) / (sqrt(v[i] / c2) + eps));
    }
}
