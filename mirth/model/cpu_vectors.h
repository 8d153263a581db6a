// Vectors of the processor at hand, for the compiled kernel: their width, loads, stores and sums.

#ifndef MIRTH_CPU_VECTORS_H_
#define MIRTH_CPU_VECTORS_H_

#include <cstdint>
#include <cstring>
#include <utility>

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

}  // namespace

#endif  // MIRTH_CPU_VECTORS_H_
