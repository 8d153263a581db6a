// Multiply-adds of whole vectors that touch no memory: what one core can do at most, in GFLOP/s.
// Compiled and run by gradient.py.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "cpu_vectors.h"

namespace {

constexpr int kSums = 12, kSteps = 100000;  // enough sums that none waits for itself

template <int>
struct Sum {
  Vector<float> value = {};
};

// Each sum is a variable of its own: those of an array would go through memory.
template <int... i>
float run(Vector<float> factor, Vector<float> one, std::integer_sequence<int, i...>) {
  struct Sums : Sum<i>... {
  } sums;
  for (int step = 0; step < kSteps; ++step) {
    ((sums.Sum<i>::value = sums.Sum<i>::value * factor + one), ...);
    (([&] { MIRTH_IN_REGISTER(sums.Sum<i>::value); }()), ...);
  }
  return (total<float>(sums.Sum<i>::value) + ...);
}

}  // namespace

int main() {
  Vector<float> factor = Vector<float>{} + 0.5f, one = Vector<float>{} + 1.0f;
  MIRTH_IN_REGISTER(factor);
  MIRTH_IN_REGISTER(one);
  double best = 1e30;
  float used = 0;
  for (int repeat = 0; repeat < 50; ++repeat) {
    const auto began = std::chrono::steady_clock::now();
    used += run(factor, one, std::make_integer_sequence<int, kSums>());
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - began;
    best = std::min(best, spent.count());
  }
  const double operations = 2.0 * kSums * kSteps * kLanes<float>;
  std::printf("%.1f\n", used > 0 ? operations / best * 1e-9 : 0.0);
}
