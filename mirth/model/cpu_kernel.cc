// Fused forward and backward pass of a small multi-layer perceptron on one CPU thread.
//
//   z_l = W_l h_{l-1} + b_l,  h_l = a(z_l)                          (forward)
//   dW_l = delta_l h_{l-1}^T,  db_l = delta_l 1,
//   delta_{l-1} = (W_l^T delta_l) * a'(z_{l-1})                     (backward)
//
// Arrays are (features, rows of data); all parameters are one vector, for each layer its biases,
// then its weights (units, inputs). The rows are cut into blocks that stay in the cache while all
// layers go over them. Between the two passes a block's inputs and its activations, with their slopes
// where these do not follow from them, lie together, padded to whole vectors, in a buffer that only
// these passes read.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu_activations.h"
#include "cpu_vectors.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// A matrix in memory whose transpose needs no copy, and what is added to each row of a product.
template <typename T>
struct Matrix {
  const T* data;
  int64_t row_stride, column_stride, rows, columns;
  const T* bias;
};

// R rows and C vectors of A h + b, handed to finish(row, column, sums).
template <typename T, int R, int C, typename Finish>
MIRTH_INLINE void product_tile(const Matrix<T>& a, const T* h, int64_t stride, int64_t row,
                               int64_t column, const Finish& finish) {
  Vector<T> sum[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sum[r][c] = all(a.bias ? a.bias[row + r] : T(0));
  const T* left = a.data + row * a.row_stride;
  for (int64_t k = 0; k < a.columns; ++k) {
    Vector<T> right[C];
    for (int c = 0; c < C; ++c) right[c] = load(h + k * stride + column + c * kLanes<T>);
    for (int r = 0; r < R; ++r) {
      const T factor = left[r * a.row_stride + k * a.column_stride];
      for (int c = 0; c < C; ++c) sum[r][c] += factor * right[c];
    }
  }
  finish(row, column, sum);
}

template <typename T, int R, int C, typename Run>
MIRTH_INLINE void each(const Vector<T> (&sums)[R][C], const Run& run) {
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) run(r, c * kLanes<T>, sums[r][c]);
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
  int64_t rows, block, kept_per_unit;

  int64_t layers() const { return sizes.size() - 1; }
  int64_t widest() const { return *std::max_element(sizes.begin(), sizes.end()); }
  // Rows of the buffer: inputs, and the values of each hidden unit, or its values and slopes.
  int64_t kept() const {
    int64_t sum = sizes[0];
    for (int64_t l = 1; l < layers(); ++l) sum += kept_per_unit * sizes[l];
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

// Values, and slopes that do not follow from them, of a tile. A loop of its own: beside the sums of a
// product the constants of a smooth activation would not stay in registers.
template <typename T, typename Activation, int R, int C>
__attribute__((noinline)) void activate(const Vector<T> (&z)[R][C], T* values, T* slopes,
                                        int64_t stride) {
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 1
    for (int c = 0; c < C; ++c) {
      const int64_t here = r * stride + c * kLanes<T>;
      if constexpr (Activation::kKeepsSlope) {
        const auto [value, slope] = Activation::template both<T>(z[r][c]);
        store<T>(values + here, value);
        store<T>(slopes + here, slope);
      } else {
        store<T>(values + here, Activation::template value<T>(z[r][c]));
      }
    }
}

template <typename T, typename Activation>
void forward(const Network& net, const T* parameters, const T* x, T* kept, T* outputs) {
  const int64_t stride = net.block, layers = net.layers(), num_outputs = net.sizes[layers];
  T* const last = scratch<T>(num_outputs * stride);
  net.blocks<T>([&](int64_t start, int64_t columns, int64_t padded) {
    const T* parameter = parameters;
    T* h = kept + start * net.kept();
    T* next = h + net.sizes[0] * stride;
    copy_block(x + start, net.rows, h, stride, net.sizes[0], columns, padded);
    for (int64_t l = 0; l < layers; ++l) {
      const int64_t inputs = net.sizes[l], units = net.sizes[l + 1];
      const Matrix<T> weight{parameter + units, inputs, 1, units, inputs, parameter};
      if (l + 1 == layers) {
        product(weight, h, stride, padded, [=](int64_t row, int64_t column, const auto& sums) {
          each<T>(sums, [=](int r, int64_t c, Vector<T> sum) {
            store<T>(last + (row + r) * stride + column + c, sum);
          });
        });
      } else {
        T* const slopes = next + units * stride;
        product(weight, h, stride, padded, [=](int64_t row, int64_t column, const auto& sums) {
          const int64_t here = row * stride + column;
          if constexpr (Activation::kIsSmooth)
            activate<T, Activation>(sums, next + here, slopes + here, stride);
          else
            each<T>(sums, [=](int r, int64_t c, Vector<T> z) {
              store<T>(next + here + r * stride + c, Activation::template value<T>(z));
            });
        });
      }
      parameter += units + units * inputs;
      h = next;
      next += net.kept_per_unit * units * stride;
    }
    for (int64_t row = 0; row < num_outputs; ++row)
      std::memcpy(outputs + row * net.rows + start, last + row * stride, columns * sizeof(T));
  });
}

template <typename T, typename Activation>
void backward(const Network& net, const T* parameters, const T* kept, const T* output_delta,
              T* gradient) {
  const int64_t stride = net.block, layers = net.layers();
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
      const T* const slopes = h - inputs * stride;
      h -= (l == 0 ? 1 : net.kept_per_unit) * inputs * stride;
      offset -= units + units * inputs;
      T* const bias_bar = gradient + offset;
      outer_product(delta, h, stride, padded, units, inputs, bias_bar, bias_bar + units);
      if (l == 0) break;
      const Matrix<T> transposed{parameters + offset + units, 1, inputs, inputs, units, nullptr};
      T* const next = other;
      product(transposed, delta, stride, padded,
              [=](int64_t row, int64_t column, const auto& sums) {
                each<T>(sums, [=](int r, int64_t c, Vector<T> sum) {
                  const int64_t here = (row + r) * stride + column + c;
                  const Vector<T> kept = load(slopes + here);
                  if constexpr (Activation::kKeepsSlope)
                    store<T>(next + here, sum * kept);
                  else
                    store<T>(next + here, sum * Activation::template slope<T>(kept));
                });
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

// A library is compiled for one activation, MIRTH_ACTIVATION: all of them would take four times as
// long at the first use.
using Activation = MIRTH_ACTIVATION;

ffi::Error forward_any(Any parameters, Any x, ffi::Result<Any> kept, ffi::Result<Any> outputs,
                       Sizes sizes, int64_t block) {
  const Network net{sizes, x.dimensions()[1], block, 1 + Activation::kKeepsSlope};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    forward<T, Activation>(net, data<T>(parameters), data<T>(x), data<T>(kept), data<T>(outputs));
  };
  x.element_type() == ffi::F64 ? run(double()) : run(float());
  return ffi::Error::Success();
}

ffi::Error backward_any(Any parameters, Any kept, Any delta, ffi::Result<Any> gradient,
                        Sizes sizes, int64_t block) {
  const Network net{sizes, delta.dimensions()[1], block, 1 + Activation::kKeepsSlope};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    backward<T, Activation>(net, data<T>(parameters), data<T>(kept), data<T>(delta),
                            data<T>(gradient));
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
                                  .Attr<int64_t>("block"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(MirthMlpBackward, backward_any,
                              ffi::Ffi::Bind()
                                  .Arg<Any>()
                                  .Arg<Any>()
                                  .Arg<Any>()
                                  .Ret<Any>()
                                  .Attr<Sizes>("sizes")
                                  .Attr<int64_t>("block"));
