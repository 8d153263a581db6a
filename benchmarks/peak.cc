// Multiply-adds of whole vectors that touch no memory: what one core can do at most, in GFLOP/s.
// Compiled and run by gradient.py.

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "cpu_vectors.h"

int main() {
  constexpr int kSums = 12, kSteps = 100000;  // enough sums that none waits for itself
  Vector<float> sums[kSums] = {}, factor = Vector<float>{} + 0.5f, one = Vector<float>{} + 1.0f;
  MIRTH_IN_REGISTER(factor);
  MIRTH_IN_REGISTER(one);
  double best = 1e30;
  for (int repeat = 0; repeat < 50; ++repeat) {
    const auto began = std::chrono::steady_clock::now();
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
      for (int i = 0; i < kSums; ++i) {
        sums[i] = sums[i] * factor + one;
        MIRTH_IN_REGISTER(sums[i]);
      }
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - began;
    best = std::min(best, spent.count());
  }
  float used = 0;
  for (const auto& sum : sums) used += total<float>(sum);
  const double operations = 2.0 * kSums * kSteps * kLanes<float>;
  std::printf("%.1f\n", used > 0 ? operations / best * 1e-9 : 0.0);
}
