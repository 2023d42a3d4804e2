// Products of rows with the weights of a linear map, and its bias: Y = X Wᵀ + b.
//
// Weights are packed as panels of a few vectors of outputs. A few rows meet a panel at a time, and their sums stay in
// registers: each vector of weights that is loaded meets all of the rows, each input that is broadcast all of the vectors.
#pragma once
#include "lanes.h"

// Vectors of a panel at the most, and sums in registers at the most.
constexpr int VECTORS = 3;
constexpr int PANEL = VECTORS * LANES;
constexpr int SUMS = LANES == 8 ? 12 : 24;
// Rows that meet a panel of some vectors together.
constexpr int rows_of(int vectors) { return SUMS / (vectors > 1 ? vectors : 2); }
constexpr int GROUP_OF_ROWS = SUMS; // a multiple of all of them
// Inputs that rows and a panel meet in before they go on to the next: they stay in the first-level cache.
constexpr int64_t DEPTH = 256;

// X rows of `count` inputs, `stride` apart, times weights (count, V vectors), and what was before: sums (X, PANEL), or
// biases for all rows. put(row, vector, sum) takes each.
template <int X, int V, class Put>
INLINE void multiply(const float *x, int64_t stride, const float *weight, int64_t count, const float *bias,
                     const float *sums, const Put &put) {
  Floats sum[X][V];
  UNROLL for (int i = 0; i < X; i++)
    UNROLL for (int v = 0; v < V; v++) sum[i][v] = load((bias ? bias : sums + i * PANEL) + v * LANES);
  for (int64_t k = 0; k < count; k++, weight += V * LANES) {
    Floats w[V];
    UNROLL for (int v = 0; v < V; v++) w[v] = load(weight + v * LANES);
    UNROLL for (int i = 0; i < X; i++) {
      Floats input = broadcast(x[i * stride + k]);
      UNROLL for (int v = 0; v < V; v++) sum[i][v] += input * w[v];
    }
  }
  UNROLL for (int i = 0; i < X; i++)
    UNROLL for (int v = 0; v < V; v++) put(i, v, sum[i][v]);
}

// The same for any number of rows. Those that are left at the end are few: tasks have whole groups, but the last one.
template <int V, class Put>
INLINE void multiply_all(int64_t rows, const float *x, int64_t stride, const float *weight, int64_t count,
                         const float *bias, const float *sums, const Put &put) {
  constexpr int X = rows_of(V);
  int64_t row = 0;
  auto from = [&](int i, int v, Floats sum) { put(row + i, v, sum); };
  for (; row + X <= rows; row += X)
    multiply<X, V>(x + row * stride, stride, weight, count, bias, sums + row * PANEL, from);
  for (; row < rows; row++) multiply<1, V>(x + row * stride, stride, weight, count, bias, sums + row * PANEL, from);
}

// A linear map's weights, packed: of each panel the biases, then the weights of one input after another.
struct Weights {
  int64_t outputs, inputs;
  float *packed;

  int64_t vectors() const { return (outputs + LANES - 1) / LANES; }
  int64_t panels() const { return (vectors() + VECTORS - 1) / VECTORS; }
  size_t room() const { return vectors() * LANES * (inputs + 1); }
  // Panels are of like sizes: few vectors meet each broadcast input in a small one.
  int64_t first_vector(int64_t panel) const { return panel * vectors() / panels(); }
  float *panel(int64_t number) const { return packed + first_vector(number) * LANES * (inputs + 1); }

  // Pack a panel of weights (outputs, inputs) and biases (outputs,), or null; zeros beyond the outputs.
  template <class T> void pack(const T *weight, const T *bias, int64_t number) const {
    int64_t first = first_vector(number), count = first_vector(number + 1) - first;
    float *to = panel(number);
    for (int64_t v = 0; v < count; v++) {
      int64_t output = (first + v) * LANES;
      int there = outputs - output < LANES ? outputs - output : LANES;
      store(to + v * LANES, bias ? load_some(bias + output, there) : Floats{});
      for (int64_t k = 0; k < inputs; k += LANES) {
        int some = inputs - k < LANES ? inputs - k : LANES;
        Floats x[LANES];
        UNROLL for (int l = 0; l < LANES; l++)
          x[l] = l < there ? load_some(weight + (output + l) * inputs + k, some) : Floats{};
        transpose(x);
        for (int i = 0; i < some; i++) store(to + ((k + i + 1) * count + v) * LANES, x[i]);
      }
    }
  }

  // Map rows, `stride` apart; finish(row, column, vector of outputs) takes what comes of them. Sums between parts of the
  // inputs are kept in `sums` (rows, PANEL).
  template <class Finish>
  void product(const float *x, int64_t stride, int64_t rows, float *sums, const Finish &finish) const {
    for (int64_t number = 0; number < panels(); number++) {
      int64_t count = first_vector(number + 1) - first_vector(number);
      if (count == 3) multiply_panel<3>(number, x, stride, rows, sums, finish);
      else if (count == 2) multiply_panel<2>(number, x, stride, rows, sums, finish);
      else multiply_panel<1>(number, x, stride, rows, sums, finish);
    }
  }

private:
  template <int V, class Finish>
  void multiply_panel(int64_t number, const float *x, int64_t stride, int64_t rows, float *sums,
                      const Finish &finish) const {
    const float *bias = panel(number), *weight = bias + V * LANES;
    int64_t left = inputs, column = first_vector(number) * LANES;
    for (; left > DEPTH; left -= DEPTH, x += DEPTH, weight += DEPTH * V * LANES, bias = nullptr)
      multiply_all<V>(rows, x, stride, weight, DEPTH, bias, sums,
                      [&](int64_t row, int v, Floats sum) { store(sums + row * PANEL + v * LANES, sum); });
    multiply_all<V>(rows, x, stride, weight, left, bias, sums,
                    [&](int64_t row, int v, Floats sum) { finish(row, column + v * LANES, sum); });
  }
};
