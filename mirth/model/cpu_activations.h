// Activations of the compiled kernel, each with its slope, as functions of whole vectors.
//
// All smooth ones rest on e^t. With n = round(t / ln 2) and r = t - n ln 2, |r| <= ln(2) / 2,
//
//   e^t = 2^n (1 + r P(r)),
//
// P a polynomial of least relative error: 4e-7 (float), 5e-16 (double), so that e^t is off by 2e-7.
// How far an activation is off exact arithmetic is tested in tests/model/test_cpu_kernel.py.
//
// The slope of most follows from the value, and the backward pass finds it there (slope); of silu,
// gelu and softplus it does not, so it is kept beside the value.

#ifndef MIRTH_CPU_ACTIVATIONS_H_
#define MIRTH_CPU_ACTIVATIONS_H_

#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "cpu_vectors.h"

namespace {

template <typename T>
struct Real;

template <>
struct Real<float> {
  using Bits = int32_t;
  static constexpr int kMantissa = 23;
  // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the lowest bits; 127 is the
  // exponent's bias, so that shifting them to the exponent makes 2^n (0 for n = -127).
  static constexpr float kRound = 12582912.0f + 127.0f, kLargest = 88.0f;
  static constexpr float kPolynomial[] = {0x1p+0f, 0x1.fffe5ap-2f, 0x1.55541cp-3f, 0x1.570ba2p-5f,
                                          0x1.126fb2p-7f};
  static constexpr int kLogTerms = 8;
};

template <>
struct Real<double> {
  using Bits = int64_t;
  static constexpr int kMantissa = 52;
  static constexpr double kRound = 6755399441055744.0 + 1023.0, kLargest = 709.0;
  static constexpr double kPolynomial[] = {0x1p+0,
                                           0x1.ffffffffffffep-2,
                                           0x1.5555555555438p-3,
                                           0x1.5555555554125p-5,
                                           0x1.11111111678dap-7,
                                           0x1.6c16c17972312p-10,
                                           0x1.a019ffaac374ap-13,
                                           0x1.a019b1fc5413bp-16,
                                           0x1.71e27d18e947p-19,
                                           0x1.289be7a24c24cp-22,
                                           0x1.a88fc6c779001p-26};
  static constexpr int kLogTerms = 16;
};

template <typename T>
MIRTH_INLINE Vector<T> all(T value) {
  return value - Vector<T>{};
}

template <typename T>
MIRTH_INLINE Vector<T> absolute(Vector<T> v) {
  using Bits = typename Real<T>::Bits;
  constexpr Bits but_sign = static_cast<std::make_unsigned_t<Bits>>(-1) >> 1;
  return (Vector<T>)((Vector<Bits>)v & but_sign);
}

// v between -bound and bound; NaN stays NaN: of two numbers that are not ordered the instructions give
// the second. GCC makes none of them from the comparisons.
template <typename T>
MIRTH_INLINE Vector<T> clipped(Vector<T> v, T bound) {
  const Vector<T> high = all(bound), low = -high;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return (Vector<T>)_mm512_max_ps((__m512)low, _mm512_min_ps((__m512)high, (__m512)v));
#endif
  v = high < v ? high : v;
  return low > v ? low : v;
}

template <typename T>
MIRTH_INLINE Vector<T> bounded(Vector<T> v) {
  return clipped<T>(v, Real<T>::kLargest);
}

// e^t, as power (1 + r polynomial).
template <typename T>
struct Exponential {
  Vector<T> power, r, polynomial;

  MIRTH_INLINE Vector<T> value() const { return power * (r * polynomial + T(1)); }
  MIRTH_INLINE Vector<T> plus_one() const { return power * (r * polynomial + T(1)) + T(1); }
  // Without the cancellation around t = 0.
  MIRTH_INLINE Vector<T> minus_one() const { return power * (r * polynomial) + (power - T(1)); }
};

// e^(factor z); the exponent must lie between -kLargest and kLargest.
template <typename T>
MIRTH_INLINE Exponential<T> exponential(Vector<T> z, T factor) {
  using R = Real<T>;
  constexpr T log2e = 1.44269504088896340736, ln2 = 0.69314718055994530942;
  constexpr int degree = std::extent_v<decltype(R::kPolynomial)> - 1;
  const Vector<T> shifted = z * (factor * log2e) + R::kRound, n = shifted - R::kRound;
  const Vector<T> r = z * factor - n * ln2;
  Vector<T> polynomial = all(R::kPolynomial[degree]);
  for (int k = degree - 1; k >= 0; --k) polynomial = polynomial * r + R::kPolynomial[k];
  return {(Vector<T>)((Vector<typename R::Bits>)shifted << R::kMantissa), r, polynomial};
}

// 1 / (1 + e^-z), z between -kLargest and kLargest.
template <typename T>
MIRTH_INLINE Vector<T> logistic(Vector<T> z) {
  return T(1) / exponential<T>(z, -1).plus_one();
}

template <typename T>
struct ValueAndSlope {
  Vector<T> value, slope;
};

struct Relu {
  static constexpr bool kIsSmooth = false, kKeepsSlope = false;
  template <typename T>
  static MIRTH_INLINE Vector<T> value(Vector<T> z) {
    return T(0) > z ? Vector<T>{} : z;
  }
  template <typename T>
  static MIRTH_INLINE Vector<T> slope(Vector<T> value) {
    return value > T(0) ? all(T(1)) : Vector<T>{};
  }
};

struct LeakyRelu {
  static constexpr bool kIsSmooth = false, kKeepsSlope = false;
  template <typename T>
  static MIRTH_INLINE Vector<T> value(Vector<T> z) {
    return z * slope<T>(z);
  }
  template <typename T>
  static MIRTH_INLINE Vector<T> slope(Vector<T> value) {
    return T(0) > value ? all(T(0.01)) : all(T(1));
  }
};

struct Identity {
  static constexpr bool kIsSmooth = false, kKeepsSlope = false;
  template <typename T>
  static MIRTH_INLINE Vector<T> value(Vector<T> z) {
    return z;
  }
  template <typename T>
  static MIRTH_INLINE Vector<T> slope(Vector<T>) {
    return all(T(1));
  }
};

// z above zero, e^z - 1 below.
struct Elu {
  static constexpr bool kIsSmooth = true, kKeepsSlope = false;
  template <typename T>
  static MIRTH_INLINE Vector<T> value(Vector<T> z) {
    return T(0) > z ? exponential<T>(bounded<T>(z), 1).minus_one() : z;
  }
  template <typename T>
  static MIRTH_INLINE Vector<T> slope(Vector<T> value) {
    return T(0) > value ? value + T(1) : all(T(1));
  }
};

// (e^2z - 1) / (e^2z + 1)
struct Tanh {
  static constexpr bool kIsSmooth = true, kKeepsSlope = false;
  template <typename T>
  static MIRTH_INLINE Vector<T> value(Vector<T> z) {
    const Vector<T> e = exponential<T>(clipped<T>(z, 20), 2).minus_one();
    return e / (T(2) + e);
  }
  template <typename T>
  static MIRTH_INLINE Vector<T> slope(Vector<T> value) {
    return T(1) - value * value;
  }
};

struct Sigmoid {
  static constexpr bool kIsSmooth = true, kKeepsSlope = false;
  template <typename T>
  static MIRTH_INLINE Vector<T> value(Vector<T> z) {
    return logistic<T>(bounded<T>(z));
  }
  template <typename T>
  static MIRTH_INLINE Vector<T> slope(Vector<T> value) {
    return value - value * value;
  }
};

struct Silu {
  static constexpr bool kIsSmooth = true, kKeepsSlope = true;
  template <typename T>
  static MIRTH_INLINE ValueAndSlope<T> both(Vector<T> z) {
    const Vector<T> s = logistic<T>(bounded<T>(z)), value = z * s;
    return {value, s + (value - value * s)};
  }
};

// z s(w), w = 2 sqrt(2 / pi) (z + 0.044715 z^3): the usual form with tanh, as jax.nn.gelu has it.
struct Gelu {
  static constexpr bool kIsSmooth = true, kKeepsSlope = true;
  template <typename T>
  static MIRTH_INLINE ValueAndSlope<T> both(Vector<T> z) {
    constexpr T linear = 1.59576912160573071, cubic = 0.044715 * linear;
    // Beyond |z| = 10 the slope is 0 or 1, and w is bounded there.
    const Vector<T> near = clipped<T>(z, 10), square = near * near;
    const Vector<T> s = logistic<T>(near * (linear + cubic * square)), near_s = near * s;
    return {z * s, s + (near_s - near_s * s) * (linear + 3 * cubic * square)};
  }
};

// max(z, 0) + log(1 + q), q = e^-|z|; log(1 + q) = 2 artanh(u), u = q / (2 + q) <= 1/3.
struct Softplus {
  static constexpr bool kIsSmooth = true, kKeepsSlope = true;
  template <typename T>
  static MIRTH_INLINE ValueAndSlope<T> both(Vector<T> z) {
    const Vector<T> q = exponential<T>(bounded<T>(absolute<T>(z)), -1).value(), one = all(T(1));
    const Vector<T> inverse = one / ((T(1) + q) * (T(2) + q));
    const Vector<T> u = q * inverse * (T(1) + q), square = u * u;
    Vector<T> series = {};
    for (int k = Real<T>::kLogTerms; k >= 0; --k) series = series * square + T(2) / T(2 * k + 1);
    return {Relu::value<T>(z) + u * series, (z < T(0) ? q : one) * inverse * (T(2) + q)};
  }
};

}  // namespace

#endif  // MIRTH_CPU_ACTIVATIONS_H_
