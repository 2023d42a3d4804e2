// The program of norm, linear maps, activation and residual.
#include "linear_maps.cpp"
#include "fuzz.h"

// Numbers in memory of exactly their size, whose rows begin `stride` apart; or nothing.
template <class T> struct Matrix {
  std::unique_ptr<T[]> memory;
  int64_t rows = 0, columns = 0, stride = 0;

  Matrix() = default;
  Matrix(Random &random, int64_t rows, int64_t columns, int64_t gap, Numbers numbers, float scale = 1)
      : rows(rows), columns(columns), stride(columns + gap) {
    int64_t size = (rows - 1) * stride + columns;
    memory.reset(new T[size]);
    for (int64_t i = 0; i < size; i++) memory[i] = narrowed(scale * number(random, numbers), (T *)nullptr);
  }
  double at(int64_t row, int64_t column) const { return widened(memory[row * stride + column]); }
};

double activated(int activation, double x) {
  if (activation == RELU) return x < 0 ? 0 : x;
  return activation == GELU ? x / 2 * (1 + std::erf(x / std::sqrt(2.))) : x;
}

// What a row becomes, and the sizes of the sums.
template <class T>
void map(std::vector<double> &row, std::vector<double> &size, const Matrix<T> &weight, const Matrix<T> &bias) {
  std::vector<double> to(weight.rows), sizes(weight.rows);
  for (int64_t o = 0; o < weight.rows; o++) {
    to[o] = bias.rows ? bias.at(0, o) : 0, sizes[o] = std::fabs(to[o]);
    for (int64_t i = 0; i < weight.columns; i++)
      to[o] += row[i] * weight.at(o, i), sizes[o] += size[i] * std::fabs(weight.at(o, i));
  }
  row = to, size = sizes;
}

template <class T> const char *run_linear_maps(Random &random, Numbers numbers) {
  int64_t rows = random.from(1, random.once_in(3) ? 300 : 30), channels = random.from(1, 50), hidden = random.from(1, 60);
  if (random.once_in(6)) channels = random.from(200, 600);
  bool two = random.once_in(2), norm = random.once_in(2);
  int64_t outputs = two ? random.from(1, 60) : hidden;
  auto perhaps = [&](bool there, int64_t rows, int64_t columns) {
    return there && random.once_in(2) ? Matrix<T>(random, rows, columns, 0, numbers) : Matrix<T>();
  };
  Matrix<T> features(random, rows, channels, random.upto(3), numbers);
  Matrix<T> weight(random, hidden, channels, 0, numbers, 1 / std::sqrt(channels));
  Matrix<T> second = two ? Matrix<T>(random, outputs, hidden, 0, numbers, 1 / std::sqrt(hidden)) : Matrix<T>();
  Matrix<T> bias = perhaps(true, 1, hidden), second_bias = perhaps(two, 1, outputs);
  Matrix<T> norm_weight = perhaps(norm, 1, channels), norm_bias = perhaps(norm, 1, channels);
  Matrix<T> residual = random.once_in(2) ? Matrix<T>(random, rows, outputs, random.upto(3), numbers) : Matrix<T>();
  Matrix<T> output(random, rows, outputs, 0, PLAIN);

  Arguments a{};
  a.features = features.memory.get(), a.stride = features.stride;
  a.norm_weight = norm_weight.memory.get(), a.norm_bias = norm_bias.memory.get();
  a.weight = weight.memory.get(), a.second_weight = second.memory.get();
  a.bias = bias.memory.get(), a.second_bias = second_bias.memory.get();
  a.residual = residual.memory.get(), a.residual_stride = residual.stride, a.output = output.memory.get();
  a.rows = rows, a.channels = channels, a.hidden = hidden, a.outputs = outputs;
  a.epsilon = norm ? 1e-5f : -1.f, a.activation = random.of({NONE, RELU, GELU}), a.half = sizeof(T) == 2;
  if (linear_maps(&a, random.once_in(4) ? nullptr : parallel, random.from(1, 3))) return "no memory";

  if (numbers == STRANGE || numbers == LARGE) return nullptr; // sums overflow, each in its order
  for (int64_t r = 0; r < rows; r++) {
    std::vector<double> row(channels), size(channels);
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < channels; c++) row[c] = features.at(r, c), mean += row[c] / channels;
    for (int64_t c = 0; c < channels; c++) variance += (row[c] - mean) * (row[c] - mean) / channels;
    for (int64_t c = 0; c < channels; c++) {
      // Of deviations that are nearly none, rounding is all that is left.
      if (norm) row[c] = (row[c] - mean) / std::sqrt(variance + 1e-5);
      if (norm_weight.rows) row[c] *= norm_weight.at(0, c);
      if (norm_bias.rows) row[c] += norm_bias.at(0, c);
      size[c] = std::fabs(row[c]) + (norm ? 1 : 0);
    }
    map(row, size, weight, bias);
    for (double &x : row) x = activated(a.activation, x);
    if (two) map(row, size, second, second_bias);
    for (int64_t o = 0; o < outputs; o++) {
      double expected = row[o] + (residual.rows ? residual.at(r, o) : 0);
      double limit = size[o] + std::fabs(expected) + 1e-30;
      if (agrees(output.at(r, o), expected, limit, sizeof(T) == 2 ? 1e-2 : 1e-5, numbers)) continue;
      static char text[200];
      snprintf(text, sizeof text, "%g, not %g (row %d, output %d of %d, channels %d, hidden %d)", output.at(r, o), expected,
               (int)r, (int)o, (int)outputs, (int)channels, (int)hidden);
      return text;
    }
  }
  return nullptr;
}

int main(int, char **arguments) { return run(arguments, run_linear_maps<float>, run_linear_maps<bfloat16>); }
