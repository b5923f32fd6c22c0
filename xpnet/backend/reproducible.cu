// The primitives of reproducible.py as CUDA kernels: the same bits in a tenth of the launches.
//
// Each + - · / √ here is one of that text, in the same type and order, and is rounded once: with
// --fmad=false no product is merged into a sum, and (x + c) - c is not x to any compiler that is
// not told to be fast and loose. Why the numbers are what they are is proved in exact.py and
// elementary.py, whose constants come as -D options (see reproducible_cupy.py). Sums in double are
// of numbers on one grid, so they are exact, and their order is free. What is stored is flushed.
//
// Parameters: numbers that live on the device, then arrays that are read, then arrays that are
// written, then sizes, then numbers. An array that may be missing is then null. There are no atomic
// operations.

#include "common.cuh"

#define KERNEL_OF_LINES extern "C" __global__ void __launch_bounds__(LINE_BLOCK)

// The bits of a number as another type.
template <class To, class From>
__device__ To as(From x)
{
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

template <class Value>
__device__ Value sum(Value a, Value b)
{
    return a + b;
}

template <class Value>
__device__ Value larger(Value a, Value b)
{
    return a > b ? a : b;
}

// ---- exact.py -----------------------------------------------------------------------------------

namespace exact {

__device__ float flush(float x)
{
    return (x + float(FLUSH)) - float(FLUSH);
}

// What is left of x in memory
__device__ float store(double x)
{
    return flush(float(x));
}

template <class Real>
__device__ Real snap(Real x, Real C)
{
    return (x + C) - C;
}

__device__ double grid(double top, i64 bits)
{
    return as<double>((as<u64>(top) & EXPONENT) + ((u64(MANTISSA - bits) << 52) | (1ULL << 51)));
}

// Whole numbers in the order of |x|
__device__ int magnitude(float x)
{
    return as<int>(x) & 0x7FFFFFFF;
}

__device__ i64 magnitude(double x)
{
    return as<i64>(x) & 0x7FFFFFFFFFFFFFFF;
}

__device__ int magnitude(u8 pixel)
{
    return magnitude(float(pixel));
}

}  // namespace exact

// ---- elementary.py ------------------------------------------------------------------------------

namespace elementary {

__device__ double clip(double x, double limit)
{
    return x < -limit ? -limit : x > limit ? limit : x;
}

// exp r - 1, and power = 2ᵏ
__device__ double exp_parts(double x, double& power)
{
    constexpr double factorials[] = {FACTORIALS};
    double k = x * LOG2_E + (WHOLE + BIAS);
    x = x - (k - (WHOLE + BIAS)) * LN2_HIGH;
    x = x - (k - (WHOLE + BIAS)) * LN2_LOW;
    double a = x * (1 / factorials[0]);
    for (unsigned i = 1; i < sizeof factorials / sizeof *factorials; i++)
        a = (a + 1 / factorials[i]) * x;
    power = as<double>(as<u64>(k) << 52);
    return a;
}

__device__ double exp(double x)
{
    double power, rest = exp_parts(clip(x, EXP_LIMIT), power);
    return rest * power + power;
}

__device__ double expm1(double x)
{
    double power, rest = exp_parts(x, power);
    return rest * power + (power - 1);
}

__device__ double log(double x)
{
    double root = sqrt(x), none = (root - root) / x;
    u64 k = i64(as<u64>(x) - ROOT_HALF_BITS) >> 52;
    double f = as<double>(as<u64>(x) - (k << 52)) - 1, whole = as<double>(k + WHOLE_BITS) - WHOLE;
    double s = f / (f + 2), z = s * s, R = z * (2.0 / 21);
    for (int odd = 19; odd > 1; odd -= 2) R = (R + 2.0 / odd) * z;
    x = f - (f - R) * s;
    x = x + whole * LN2_LOW;
    x = x + whole * LN2_HIGH;
    return x + none;
}

__device__ double sigmoid(double x)
{
    return 1 / (exp(-x) + 1);
}

__device__ double sigmoid_grad(double dy, double y)
{
    return dy * y * (1 - y);
}

__device__ double tanh(double x)
{
    double E = expm1(clip(x, TANH_LIMIT) * 2);
    return E / (E + 2);
}

__device__ double tanh_grad(double dy, double y)
{
    return dy * (1 - y * y);
}

__device__ double softplus(double x)
{
    double e = exp(-fabs(x)), u = e + 1;
    return log(u) + ((x < 0 ? 0 : x) + (e - (u - 1)) / u);
}

__device__ double normal(double x, double& p)
{
    constexpr double mills[] = {MILLS};
    double a = fabs(x);
    a = a > END ? END : a;
    double q = (a - CENTRE) / (a + CENTRE), ratio = q * mills[0];
    for (unsigned i = 1; i < sizeof mills / sizeof *mills - 1; i++) ratio = (ratio + mills[i]) * q;
    ratio = (ratio + mills[sizeof mills / sizeof *mills - 1]) / (a + 1);
    p = exp(a * -0.5 * a) * PEAK;
    return fabs((x > 0) - ratio * p);
}

__device__ double gelu_polynomial(double x, double factor)
{
    return (x * x * factor + 1) * GELU_C;
}

__device__ double gelu(double x, double& t)
{
    t = tanh(gelu_polynomial(x, GELU_A) * x);
    return x * (t + 1) * 0.5;
}

__device__ double gelu_grad(double dy, double x, double t)
{
    double slope = gelu_polynomial(x, 3 * GELU_A) * x * (1 - t * t);
    return dy * (slope + t + 1) * 0.5;
}

}  // namespace elementary

// ---- sums and products --------------------------------------------------------------------------

// A matrix as lines that are summed: its rows, or its columns (`across` the memory), of `length`
// elements; its rows are `row` elements apart. The threads of a block share `together` of the
// lines. This thread has the places `place`, `place` + `width`, ... of the line `line`; with its
// neighbours it reads neighbours, and the threads of its line are `step` apart.
struct Lines {
    i64 count, length, row, together;
    bool across;
    int width, line, place, step;
};

__device__ Lines share(i64 count, i64 length, i64 row, i64 together, bool across)
{
    int t = threadIdx.x, width = blockDim.x / together;
    return across ? Lines{count, length, row, together, across, width, t % (int)together,
                          t / (int)together, (int)together}
                  : Lines{count, length, row, together, across, width, t / width, t % width, 1};
}

__device__ i64 groups(const Lines& m)
{
    return (m.count + m.together - 1) / m.together;
}

// Where the element k of a line is, and where in a C-contiguous copy
__device__ i64 at(const Lines& m, i64 line, i64 k)
{
    return m.across ? k * m.row + line : line * m.row + k;
}

__device__ i64 packed_at(const Lines& m, i64 line, i64 k)
{
    return m.across ? k * m.count + line : line * m.length + k;
}

// What the threads of a line have together; all threads of the block must come here.
template <class Value, Value join(Value, Value)>
__device__ Value of_line(Value x, const Lines& m)
{
    __shared__ Value found[LINE_BLOCK];
    int t = threadIdx.x;
    __syncthreads();
    found[t] = x;
    for (int k = m.width / 2; k > 0; k /= 2) {
        __syncthreads();
        if (m.place < k) found[t] = join(found[t], found[t + k * m.step]);
    }
    __syncthreads();
    return found[t - m.place * m.step];
}

// The C of `snap` for a line, 0 bits for one that is beyond the last
template <class Number>
__device__ double grid_of_line(const Number* A, i64 line, const Lines& m, i64 bits)
{
    int top = 0;
    if (line < m.count)
        for (i64 k = m.place; k < m.length; k += m.width)
            top = larger(top, exact::magnitude(A[at(m, line, k)]));
    return exact::grid(as<float>(of_line<int, larger>(top, m)), bits);
}

// A group of lines of an operand, snapped to grids: `first` in double, `second` in float, which is
// the rest if it is split, else a short form of the operand itself. Pixels are kept to 8 bits: they
// stay what they are.
template <class Number>
__device__ void parts_of(const Number* A, double* first, float* second, i64 group, const Lines& m,
                         i64 bits, bool split, double finer)
{
    i64 line = group * m.together + m.line;
    double C = grid_of_line(A, line, m, bits), D = C * finer;
    if (line >= m.count) return;
    for (i64 k = m.place; k < m.length; k += m.width) {
        double x = A[at(m, line, k)], head = exact::snap(x, C);
        i64 out = packed_at(m, line, k);
        first[out] = head;
        if (second)
            second[out] = split ? exact::store(exact::snap(x - head, D))
                                : exact::snap(float(x), float(D));
    }
}

#define OPERAND(A)                                                               \
    i64 A##_count, i64 A##_row, i64 A##_together, bool A##_across, i64 A##_bits, \
        bool A##_split, double A##_finer

template <class Number>
__device__ void parts_of_both(const Number* A, const float* B, double* A1, float* A2, double* B1,
                              float* B2, i64 length, OPERAND(A), OPERAND(B))
{
    Lines left = share(A_count, length, A_row, A_together, A_across);
    Lines right = share(B_count, length, B_row, B_together, B_across);
    for (EACH_BLOCK(k, groups(left) + groups(right))) {
        if (k < groups(left))
            parts_of(A, A1, A2, k, left, A_bits, A_split, A_finer);
        else
            parts_of(B, B1, B2, k - groups(left), right, B_bits, B_split, B_finer);
    }
}

#define BOTH(A) A##_count, A##_row, A##_together, A##_across, A##_bits, A##_split, A##_finer

// A1, A2 = the parts of A along its rows,  B1, B2 = the parts of B along its columns
KERNEL_OF_LINES parts(const float* A, const float* B, double* A1, float* A2, double* B1,
                      float* B2, i64 length, OPERAND(A), OPERAND(B))
{
    parts_of_both(A, B, A1, A2, B1, B2, length, BOTH(A), BOTH(B));
}

// ... where A are pixels
KERNEL_OF_LINES parts_pixels(const u8* A, const float* B, double* A1, float* A2, double* B1,
                             float* B2, i64 length, OPERAND(A), OPERAND(B))
{
    parts_of_both(A, B, A1, A2, B1, B2, length, BOTH(A), BOTH(B));
}

// max(a, b), NaN where either is NaN
__device__ float max_of(float a, float b)
{
    return a >= b || a != a ? a : b;
}

__device__ float relu_of(float x, float scaled = 0)
{
    return exact::flush(max_of(x, scaled));
}

// Y = f(S + T + before + b), or total = S + T + before without a Y; T, before and b may be missing;
// S + T are products with pixels k, which are still to be divided by 255, if `pixels`
template <class Function>
__device__ void finish_with(Function f, const double* S, const float* T, const double* before,
                            const float* b, double* total, float* Y, i64 n, i64 columns,
                            bool pixels)
{
    for (EACH(i, n)) {
        double y = S[i];
        if (T) y = y + exact::flush(T[i]);
        if (before) y = y + before[i];
        if (!Y) {
            total[i] = y;
            continue;
        }
        if (pixels) y = y / 255;
        if (b) y = y + b[i % columns];
        Y[i] = f(exact::store(y));
    }
}

#define FINISH(name, f)                                                                        \
    KERNEL name(const double* S, const float* T, const double* before, const float* b,         \
                double* total, float* Y, i64 n, i64 columns, bool pixels)                      \
    {                                                                                          \
        finish_with([](float y) { return f; }, S, T, before, b, total, Y, n, columns, pixels); \
    }

FINISH(finish, y)
FINISH(finish_relu, relu_of(y))
FINISH(finish_sigmoid, exact::store(elementary::sigmoid(y)))
FINISH(finish_tanh, exact::store(elementary::tanh(y)))

// The sums of a group of lines, each of terms that are snapped to the grid of the line
__device__ void sums_of(const float* A, float* sums, i64 group, const Lines& m, i64 bits)
{
    i64 line = group * m.together + m.line;
    double C = grid_of_line(A, line, m, bits), total = 0;
    if (line < m.count)
        for (i64 k = m.place; k < m.length; k += m.width)
            total += exact::snap(double(A[at(m, line, k)]), C);
    total = of_line<double, sum>(total, m);
    if (line < m.count && m.place == 0) sums[line] = exact::store(total);
}

// sums = Σ A over each line
KERNEL_OF_LINES sum_lines(const float* A, float* sums, i64 count, i64 length, i64 row,
                          i64 together, bool across, i64 bits)
{
    Lines m = share(count, length, row, together, across);
    for (EACH_BLOCK(k, groups(m))) sums_of(A, sums, k, m, bits);
}

// dY · [Y > 0], or slope · dY where that is 0
__device__ float relu_grad_of(float dy, float y, float slope = 0)
{
    return exact::flush(max_of(y > 0, slope) * dy);
}

// dZ = f(dY, Y),  db = Σ dZ over the rows
template <class Function>
__device__ void grad_and_sums(Function f, const float* dY, const float* Y, float* dZ, float* db,
                              i64 rows, i64 columns, i64 together, i64 bits)
{
    Lines m = share(columns, rows, columns, together, true);
    for (EACH_BLOCK(group, groups(m))) {
        i64 line = group * together + m.line;
        if (line < columns)
            for (i64 k = m.place; k < rows; k += m.width)
                dZ[at(m, line, k)] = f(dY[at(m, line, k)], Y[at(m, line, k)]);
        sums_of(dZ, db, group, m, bits);  // each thread reads what it has written
    }
}

#define GRAD_SUMS(name, f)                                                                    \
    KERNEL_OF_LINES name(const float* dY, const float* Y, float* dZ, float* db, i64 rows,     \
                         i64 columns, i64 together, i64 bits)                                 \
    {                                                                                         \
        grad_and_sums([](float dy, float y) { return f; }, dY, Y, dZ, db, rows, columns,      \
                      together, bits);                                                        \
    }

GRAD_SUMS(relu_grad_sums, relu_grad_of(dy, y))
GRAD_SUMS(sigmoid_grad_sums, exact::store(elementary::sigmoid_grad(dy, y)))
GRAD_SUMS(tanh_grad_sums, exact::store(elementary::tanh_grad(dy, y)))

// ---- single operations and functions ------------------------------------------------------------

// out = A ∘ B for matrices that are given by the distances between their rows and columns, which
// are 0 where one is repeated; a missing one is a number
#define COMBINE(name, operation)                                                           \
    KERNEL name(const float* A, const float* B, float* out, i64 n, i64 columns, i64 A_row, \
                i64 A_column, i64 B_row, i64 B_column, float a, float b)                   \
    {                                                                                      \
        for (EACH(k, n)) {                                                                 \
            i64 i = k / columns, j = k % columns;                                          \
            float x = A ? A[i * A_row + j * A_column] : a;                                 \
            float y = B ? B[i * B_row + j * B_column] : b;                                 \
            out[k] = exact::flush(operation);                                              \
        }                                                                                  \
    }

COMBINE(add, x + y)
COMBINE(subtract, x - y)
COMBINE(multiply, x * y)
COMBINE(divide, x / y)
COMBINE(maximum, max_of(x, y))
COMBINE(minimum, y >= x || x != x ? x : y)

// Y = max(X, slope·X), max(X, 0) where it does not leak
KERNEL relu(const float* X, float* Y, i64 n, bool leaks, float slope)
{
    for (EACH(i, n)) Y[i] = relu_of(X[i], leaks ? X[i] * slope : 0);
}

// dX = dY · max([Y > 0], slope)
KERNEL relu_grad(const float* dY, const float* Y, float* dX, i64 n, float slope)
{
    for (EACH(i, n)) dX[i] = relu_grad_of(dY[i], Y[i], slope);
}

// Y = f(X)
#define MAP(f)                                                     \
    KERNEL map_##f(const float* X, float* Y, i64 n)                \
    {                                                              \
        for (EACH(i, n)) Y[i] = exact::store(elementary::f(X[i])); \
    }

MAP(log)
MAP(tanh)
MAP(sigmoid)
MAP(softplus)

// dX = f(dY, Y)
#define MAP_GRAD(f)                                                        \
    KERNEL map_##f(const float* dY, const float* Y, float* dX, i64 n)      \
    {                                                                      \
        for (EACH(i, n)) dX[i] = exact::store(elementary::f(dY[i], Y[i])); \
    }

MAP_GRAD(tanh_grad)
MAP_GRAD(sigmoid_grad)

// P, p = normal(X); X comes twice, as for map_gelu
KERNEL map_normal(const float* X, const float*, float* P, float* p, i64 n)
{
    for (EACH(i, n)) {
        double density;
        P[i] = exact::store(elementary::normal(X[i], density));
        p[i] = exact::store(density);
    }
}

// Y, t = gelu(X); X comes twice, as the text makes two copies of it
KERNEL map_gelu(const float* X, const float*, float* Y, float* t, i64 n)
{
    for (EACH(i, n)) {
        double tanh;
        Y[i] = exact::store(elementary::gelu(X[i], tanh));
        t[i] = exact::store(tanh);
    }
}

// dX = gelu_grad(dY, X, t)
KERNEL map_gelu_grad(const float* dY, const float* X, const float* t, float* dX, i64 n)
{
    for (EACH(i, n)) dX[i] = exact::store(elementary::gelu_grad(dY[i], X[i], t[i]));
}

// ---- softmax: a warp for each row ---------------------------------------------------------------

// What the lanes of a warp have together
template <class Value, Value join(Value, Value)>
__device__ Value of_warp(Value x)
{
    for (int k = WARP / 2; k > 0; k /= 2) x = join(x, __shfl_xor_sync(0xffffffff, x, k));
    return x;
}

// max x over a row; a NaN may be lost, but then Σ exp(x - max) is NaN and the whole row with it
__device__ double row_max(const float* x, i64 columns)
{
    double top = x[0];
    for (EACH_COLUMN(j, columns)) top = larger(top, double(x[j]));
    return of_warp<double, larger>(top);
}

// Σ exp(x - top) over a row, on the grid of C
__device__ double row_exp(const float* x, double top, i64 columns, double C)
{
    double total = 0;
    for (EACH_COLUMN(j, columns)) total += exact::snap(elementary::exp(x[j] - top), C);
    return of_warp<double, sum>(total);
}

// Σ term(j) over a row, each snapped to a grid of so many bits
template <class Term>
__device__ double row_sum(Term term, i64 columns, i64 bits)
{
    i64 top = 0;
    for (EACH_COLUMN(j, columns)) top = larger(top, exact::magnitude(term(j)));
    double C = exact::grid(as<double>(of_warp<i64, larger>(top)), bits), total = 0;
    for (EACH_COLUMN(j, columns)) total += exact::snap(term(j), C);
    return of_warp<double, sum>(total);
}

// Yᵢⱼ = exp(Xᵢⱼ - maxₖ Xᵢₖ) / Σₖ exp(Xᵢₖ - maxₖ Xᵢₖ)
KERNEL softmax(const float* X, float* Y, i64 rows, i64 columns, double C)
{
    for (EACH_ROW(i, rows)) {
        const float* x = X + i * columns;
        double top = row_max(x, columns), total = row_exp(x, top, columns, C);
        for (EACH_COLUMN(j, columns))
            Y[i * columns + j] = exact::store(elementary::exp(x[j] - top) / total);
    }
}

// dXᵢⱼ = Yᵢⱼ (dYᵢⱼ - Σₖ dYᵢₖ Yᵢₖ)
KERNEL softmax_grad(const float* dY, const float* Y, float* dX, i64 rows, i64 columns, i64 bits)
{
    for (EACH_ROW(i, rows)) {
        const float *dy = dY + i * columns, *y = Y + i * columns;
        double dot = row_sum([=](i64 j) { return double(dy[j]) * y[j]; }, columns, bits);
        for (EACH_COLUMN(j, columns)) dX[i * columns + j] = exact::store((dy[j] - dot) * y[j]);
    }
}

// dZ = scale·(softmax(Z) - t),  lossesᵢ = Σⱼ tᵢⱼ (log Σₖ exp Sᵢₖ - Sᵢⱼ)  with  S = Z - max Z
template <class Target>
__device__ void cross_entropy(Target t, const float* Z, float* dZ, float* losses, i64 rows,
                              i64 columns, i64 bits, double C, float scale)
{
    for (EACH_ROW(i, rows)) {
        const float* z = Z + i * columns;
        double top = row_max(z, columns), total = row_exp(z, top, columns, C);
        double log_total = elementary::log(total);
        double loss = row_sum([=](i64 j) { return (log_total - (z[j] - top)) * t(i, j); }, columns,
                              bits);
        for (EACH_COLUMN(j, columns)) {
            float dz = exact::store(elementary::exp(z[j] - top) / total - t(i, j));
            dZ[i * columns + j] = exact::flush(dz * scale);
        }
        if (threadIdx.x % WARP == 0) losses[i] = exact::store(loss);
    }
}

KERNEL softmax_cross_entropy(const float* Z, const float* T, float* dZ, float* losses, i64 rows,
                             i64 columns, i64 bits, double C, float scale)
{
    auto t = [=](i64 i, i64 j) { return double(T[i * columns + j]); };
    cross_entropy(t, Z, dZ, losses, rows, columns, bits, C, scale);
}

// ... where t is 1 at the label of each row
KERNEL softmax_cross_entropy_labels(const float* Z, const i64* labels, float* dZ, float* losses,
                                    i64 rows, i64 columns, i64 bits, double C, float scale)
{
    auto t = [=](i64 i, i64 j) { return labels[i] == j ? 1.0 : 0.0; };
    cross_entropy(t, Z, dZ, losses, rows, columns, bits, C, scale);
}

// ---- optimizers: in float, sums of products and the step are flushed ----------------------------

// β mean + (1 - β) value
__device__ float average(float mean, float value, float beta, float rest)
{
    return exact::flush(mean * beta + value * rest);
}

// p - η direction
__device__ float descend(float p, float direction, float eta)
{
    return p - exact::flush(direction * eta);
}

// p = p - η g
KERNEL sgd(const double* rate, const float* __restrict__ g, float* __restrict__ p, i64 n)
{
    float eta = exact::store(*rate);
    update([=](float g, float& p) { p = descend(p, g, eta); }, n, g, p);
}

// v = μ v + g,  p = p - η v      (Nesterov: p = p - η (μ v + g))
KERNEL momentum(const double* rate, const float* __restrict__ g, float* __restrict__ p,
                float* __restrict__ v, i64 n, bool nesterov, float mu)
{
    float eta = exact::store(*rate);
    auto step = [=](float g, float& p, float& v) {
        v = exact::flush(v * mu + g);
        p = descend(p, nesterov ? v * mu + g : v, eta);
    };
    update(step, n, g, p, v);
}

// s = ρ s + (1 - ρ) g²,  p = p - η (g / (√s + ε))
KERNEL rmsprop(const double* rate, const float* __restrict__ g, float* __restrict__ p,
               float* __restrict__ s, i64 n, float rho, float one_minus_rho, float eps)
{
    float eta = exact::store(*rate);
    auto step = [=](float g, float& p, float& s) {
        s = average(s, g * g, rho, one_minus_rho);
        p = descend(p, g / (sqrt(s) + eps), eta);
    };
    update(step, n, g, p, s);
}

// η r / (1 - β₁ᵗ), ε r and 1 - η λ with r = √(1 - β₂ᵗ)
struct Corrections {
    double eta, epsilon, kept;
};

__device__ Corrections corrections(const double* rate, const double* powers, double eps,
                                   double decay)
{
    double r = sqrt(1 - powers[1]);
    return {*rate / (1 - powers[0]) * r, r * eps, 1 - *rate * decay};
}

// m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = (1 - η λ) p - ηᵗ m / (√v + εᵗ)
// with the corrected ηᵗ and εᵗ; powers are β₁ᵗ and β₂ᵗ, decay is λ
KERNEL adam(const double* rate, const double* powers, const float* __restrict__ g,
            float* __restrict__ p, float* __restrict__ m, float* __restrict__ v, i64 n, float beta1,
            float one_minus_beta1, float beta2, float one_minus_beta2, double eps, double decay)
{
    Corrections c = corrections(rate, powers, eps, decay);
    float eta = exact::store(c.eta), epsilon = exact::store(c.epsilon), kept = exact::store(c.kept);
    bool decays = decay != 0;
    auto step = [=](float g, float& p, float& m, float& v) {
        m = average(m, g, beta1, one_minus_beta1);
        v = average(v, g * g, beta2, one_minus_beta2);
        p = descend(decays ? exact::flush(p * kept) : p, m / (sqrt(v) + epsilon), eta);
    };
    update(step, n, g, p, m, v);
}
