// Fused forward and backward pass of a small multi-layer perceptron on one CPU thread.
//
//   z_l = W_l h_{l-1} + b_l,  h_l = a(z_l)                          (forward)
//   dW_l = delta_l h_{l-1}^T,  db_l = delta_l 1,
//   delta_{l-1} = (W_l^T delta_l) * a'(z_{l-1})                     (backward)
//
// Arrays are (features, rows of data); all parameters are one vector, for each layer its biases,
// then its weights (units, inputs). The rows are cut into blocks that stay in the cache while all
// layers go over them. Between the two passes the inputs and the activations of a block lie
// together, padded to whole vectors, in a buffer that only these passes read.
//
// The activation is z above zero and slope * z below: relu, leaky relu, identity. Its derivative
// follows from its value, so the buffer holds values only.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// Width of a vector, and the rows and vectors of a tile whose sums fill the registers.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kTileRows = 4, kTileVectors = 6;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kTileRows = 4, kTileVectors = 2;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kTileRows = 8, kTileVectors = 2;
#else
constexpr int kVectorBytes = 16, kTileRows = 2, kTileVectors = 2;
#endif

// Keeps a value in a register: GCC otherwise reads it from memory again for every product.
#if defined(__AVX512F__)
#define MIRTH_IN_REGISTER(value) asm("" : "+v"(value))
#elif defined(__x86_64__)
#define MIRTH_IN_REGISTER(value) asm("" : "+x"(value))
#elif defined(__aarch64__)
#define MIRTH_IN_REGISTER(value) asm("" : "+w"(value))
#else
#define MIRTH_IN_REGISTER(value)
#endif
// The sums of a tile stay in registers only where everything around them is inlined.
#define MIRTH_INLINE inline __attribute__((always_inline))

template <typename T>
using Vector __attribute__((vector_size(kVectorBytes))) = T;

template <typename T>
constexpr int kLanes = kVectorBytes / sizeof(T);

template <typename T>
constexpr auto kAllLanes = std::make_integer_sequence<int, kLanes<T>>();

// Rows of a matrix need not start at a vector's boundary, hence the copies.
template <typename T>
MIRTH_INLINE Vector<T> load(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof(value));
  MIRTH_IN_REGISTER(value);
  return value;
}

template <typename T>
MIRTH_INLINE void store(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof(value));
}

// Sum over the lanes of one vector, by halves.
template <typename T, int width, int... lane>
MIRTH_INLINE Vector<T> shifted(Vector<T> v, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(v, v, ((lane + width) % kLanes<T>)...);
}

template <typename T, int width = kLanes<T> / 2>
MIRTH_INLINE T total(Vector<T> v) {
  if constexpr (width == 0) {
    return v[0];
  } else {
    return total<T, width / 2>(v + shifted<T, width>(v, kAllLanes<T>));
  }
}

// Sums over the lanes of as many vectors as a vector has lanes: each step adds the halves of two
// vectors and puts the results side by side.
template <typename T, int chunk, bool upper, int... lane>
MIRTH_INLINE Vector<T> halves(Vector<T> a, Vector<T> b, std::integer_sequence<int, lane...>) {
  constexpr int half = chunk / 2;
  return __builtin_shufflevector(a, b, ((lane / half) * chunk + lane % half + upper * half)...);
}

template <typename T, int chunk = 2>
MIRTH_INLINE Vector<T> totals(const Vector<T>* v) {
  if constexpr (chunk == 2 * kLanes<T>) {
    return v[0];
  } else {
    // At this level a vector stands for lanes / (chunk / 2) of the first ones.
    constexpr int half = kLanes<T> / chunk;
    const Vector<T> a = totals<T, 2 * chunk>(v), b = totals<T, 2 * chunk>(v + half);
    return halves<T, chunk, false>(a, b, kAllLanes<T>) + halves<T, chunk, true>(a, b, kAllLanes<T>);
  }
}

// A matrix in memory whose transpose needs no copy.
template <typename T>
struct Matrix {
  const T* data;
  int64_t row_stride, column_stride, rows, columns;
};

// R rows and C vectors of A h, each handed to finish(row, column, value).
template <typename T, int R, int C, typename Finish>
MIRTH_INLINE void product_tile(const Matrix<T>& a, const T* h, int64_t stride, int64_t row,
                               int64_t column, const Finish& finish) {
  Vector<T> sum[R][C] = {};
  const T* left = a.data + row * a.row_stride;
  for (int64_t k = 0; k < a.columns; ++k) {
    Vector<T> right[C];
    for (int c = 0; c < C; ++c) right[c] = load(h + k * stride + column + c * kLanes<T>);
    for (int r = 0; r < R; ++r) {
      const T factor = left[r * a.row_stride + k * a.column_stride];
      for (int c = 0; c < C; ++c) sum[r][c] += factor * right[c];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) finish(row + r, column + c * kLanes<T>, sum[r][c]);
}

template <typename T, typename Finish>
MIRTH_INLINE void product(const Matrix<T>& a, const T* h, int64_t stride, int64_t columns,
                          const Finish& finish) {
  constexpr int wide = kTileVectors * kLanes<T>;
  int64_t row = 0;
  const auto rows = [&](auto constant) __attribute__((always_inline)) {
    constexpr int R = decltype(constant)::value;
    for (; row + R <= a.rows; row += R) {
      int64_t column = 0;
      for (; column + wide <= columns; column += wide)
        product_tile<T, R, kTileVectors>(a, h, stride, row, column, finish);
      for (; column < columns; column += kLanes<T>)
        product_tile<T, R, 1>(a, h, stride, row, column, finish);
    }
  };
  rows(std::integral_constant<int, kTileRows>());
  rows(std::integral_constant<int, 2>());
  rows(std::integral_constant<int, 1>());
}

// R x C entries of out += delta h^T, contracted over the columns.
template <typename T, int R, int C>
MIRTH_INLINE void outer_tile(const T* delta, const T* h, int64_t stride, int64_t columns, T* out,
                             int64_t out_stride) {
  constexpr int count = R * C;
  Vector<T> sum[count] = {};
  for (int64_t column = 0; column < columns; column += kLanes<T>) {
    Vector<T> right[C];
    for (int c = 0; c < C; ++c) right[c] = load(h + c * stride + column);
    for (int r = 0; r < R; ++r) {
      const Vector<T> left = load(delta + r * stride + column);
      for (int c = 0; c < C; ++c) sum[r * C + c] += left * right[c];
    }
  }
  T entries[count];
  if constexpr (count % kLanes<T> == 0) {
    for (int i = 0; i < count; i += kLanes<T>) store<T>(entries + i, totals<T>(sum + i));
  } else {
    for (int i = 0; i < count; ++i) entries[i] = total<T>(sum[i]);
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) out[r * out_stride + c] += entries[r * C + c];
}

// Gradients of one layer. Several rows at once, because a sum waits for itself.
template <typename T>
MIRTH_INLINE void outer_product(const T* delta, const T* h, int64_t stride, int64_t columns,
                                int64_t units, int64_t inputs, T* bias, T* weight) {
  int64_t row = 0;
  const auto rows = [&](auto constant) __attribute__((always_inline)) {
    constexpr int R = decltype(constant)::value;
    for (; row + R <= units; row += R) {
      const T* here = delta + row * stride;
      Vector<T> sum[R] = {};
      for (int64_t column = 0; column < columns; column += kLanes<T>)
        for (int r = 0; r < R; ++r) sum[r] += load(here + r * stride + column);
      for (int r = 0; r < R; ++r) bias[row + r] += total<T>(sum[r]);
      T* out = weight + row * inputs;
      int64_t k = 0;
      for (; k + 4 <= inputs; k += 4)
        outer_tile<T, R, 4>(here, h + k * stride, stride, columns, out + k, inputs);
      for (; k < inputs; ++k)
        outer_tile<T, R, 1>(here, h + k * stride, stride, columns, out + k, inputs);
    }
  };
  rows(std::integral_constant<int, 4>());
  rows(std::integral_constant<int, 2>());
  rows(std::integral_constant<int, 1>());
}

// Rows of a block, padded with zeros to whole vectors.
template <typename T>
void copy_block(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
                int64_t columns, int64_t padded) {
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(to + row * to_stride, from + row * from_stride, columns * sizeof(T));
    std::fill(to + row * to_stride + columns, to + row * to_stride + padded, T(0));
  }
}

// Memory of this thread that begins at a vector's boundary.
template <typename T>
T* scratch(int64_t size) {
  thread_local std::vector<T> memory;
  if (static_cast<int64_t>(memory.size()) < size + kLanes<T>) memory.resize(size + kLanes<T>);
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  return reinterpret_cast<T*>((address + kVectorBytes - 1) / kVectorBytes * kVectorBytes);
}

struct Network {
  ffi::Span<const int64_t> sizes;  // features of the inputs, units of each layer
  int64_t rows, block;
  double slope;

  int64_t layers() const { return sizes.size() - 1; }
  int64_t widest() const { return *std::max_element(sizes.begin(), sizes.end()); }
  int64_t kept() const {  // rows of the buffer: inputs and hidden units
    int64_t sum = 0;
    for (int64_t l = 0; l < layers(); ++l) sum += sizes[l];
    return sum;
  }
  // Calls run(first row, rows, rows padded to whole vectors) for each block.
  template <typename T, typename Run>
  void blocks(const Run& run) const {
    for (int64_t start = 0; start < rows; start += block) {
      const int64_t columns = std::min(block, rows - start);
      run(start, columns, (columns + kLanes<T> - 1) / kLanes<T> * kLanes<T>);
    }
  }
};

template <typename T>
void forward(const Network& net, const T* parameters, const T* x, T* kept, T* outputs) {
  const int64_t stride = net.block, layers = net.layers(), num_outputs = net.sizes[layers];
  const T slope = net.slope;
  T* const last = scratch<T>(num_outputs * stride);
  net.blocks<T>([&](int64_t start, int64_t columns, int64_t padded) {
    const T* parameter = parameters;
    T* h = kept + start * net.kept();
    copy_block(x + start, net.rows, h, stride, net.sizes[0], columns, padded);
    for (int64_t l = 0; l < layers; ++l) {
      const int64_t inputs = net.sizes[l], units = net.sizes[l + 1];
      const T* const bias = parameter;
      const Matrix<T> weight{bias + units, inputs, 1, units, inputs};
      T* const next = l + 1 == layers ? last : h + inputs * stride;
      if (l + 1 == layers) {
        product(weight, h, stride, padded, [=](int64_t row, int64_t column, Vector<T> sum) {
          store<T>(next + row * stride + column, sum + bias[row]);
        });
      } else {
        product(weight, h, stride, padded, [=](int64_t row, int64_t column, Vector<T> sum) {
          const Vector<T> z = sum + bias[row], below = z * slope;
          store<T>(next + row * stride + column, T(0) > z ? below : z);
        });
      }
      parameter += units + units * inputs;
      h = next;
    }
    for (int64_t row = 0; row < num_outputs; ++row)
      std::memcpy(outputs + row * net.rows + start, last + row * stride, columns * sizeof(T));
  });
}

template <typename T>
void backward(const Network& net, const T* parameters, const T* kept, const T* output_delta,
              T* gradient) {
  const int64_t stride = net.block, layers = net.layers();
  const T slope = net.slope;
  int64_t num_parameters = 0;
  for (int64_t l = 0; l < layers; ++l) num_parameters += (net.sizes[l] + 1) * net.sizes[l + 1];
  std::fill_n(gradient, num_parameters, T(0));
  T* delta = scratch<T>(2 * net.widest() * stride);
  T* other = delta + net.widest() * stride;
  net.blocks<T>([&](int64_t start, int64_t columns, int64_t padded) {
    copy_block(output_delta + start, net.rows, delta, stride, net.sizes[layers], columns, padded);
    const T* h = kept + (start + stride) * net.kept();
    int64_t offset = num_parameters;
    for (int64_t l = layers - 1; l >= 0; --l) {
      const int64_t inputs = net.sizes[l], units = net.sizes[l + 1];
      h -= inputs * stride;
      offset -= units + units * inputs;
      T* const bias_bar = gradient + offset;
      outer_product(delta, h, stride, padded, units, inputs, bias_bar, bias_bar + units);
      if (l == 0) break;
      const Matrix<T> transposed{parameters + offset + units, 1, inputs, inputs, units};
      const T* const values = h;
      T* const next = other;
      product(transposed, delta, stride, padded,
              [=](int64_t row, int64_t column, Vector<T> sum) {
                const Vector<T> value = load(values + row * stride + column);
                const Vector<T> below = sum * slope;
                store<T>(next + row * stride + column, value > T(0) ? sum : below);
              });
      std::swap(delta, other);
    }
  });
}

template <typename T>
const T* data(const ffi::AnyBuffer& buffer) {
  return reinterpret_cast<const T*>(buffer.untyped_data());
}

template <typename T>
T* data(ffi::Result<ffi::AnyBuffer>& buffer) {
  return reinterpret_cast<T*>(buffer->untyped_data());
}

using Any = ffi::AnyBuffer;
using Sizes = ffi::Span<const int64_t>;

ffi::Error forward_any(Any parameters, Any x, ffi::Result<Any> kept, ffi::Result<Any> outputs,
                       Sizes sizes, double slope, int64_t block) {
  const Network net{sizes, x.dimensions()[1], block, slope};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    forward<T>(net, data<T>(parameters), data<T>(x), data<T>(kept), data<T>(outputs));
  };
  x.element_type() == ffi::F64 ? run(double()) : run(float());
  return ffi::Error::Success();
}

ffi::Error backward_any(Any parameters, Any kept, Any delta, ffi::Result<Any> gradient,
                        Sizes sizes, double slope, int64_t block) {
  const Network net{sizes, delta.dimensions()[1], block, slope};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    backward<T>(net, data<T>(parameters), data<T>(kept), data<T>(delta), data<T>(gradient));
  };
  delta.element_type() == ffi::F64 ? run(double()) : run(float());
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(MirthMlpForward, forward_any,
                              ffi::Ffi::Bind()
                                  .Arg<Any>()
                                  .Arg<Any>()
                                  .Ret<Any>()
                                  .Ret<Any>()
                                  .Attr<Sizes>("sizes")
                                  .Attr<double>("slope")
                                  .Attr<int64_t>("block"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(MirthMlpBackward, backward_any,
                              ffi::Ffi::Bind()
                                  .Arg<Any>()
                                  .Arg<Any>()
                                  .Arg<Any>()
                                  .Ret<Any>()
                                  .Attr<Sizes>("sizes")
                                  .Attr<double>("slope")
                                  .Attr<int64_t>("block"));
