// Tokens through layers: layer norm, a linear map, an activation, a second linear map, a residual. Only the result is
// written: what is between stays in the cache, a few rows at a time.
#include "activations.h"
#include "products.h"
#include "tasks.h"

namespace {

// Rows of a task at the most, and the floats that they may take between the maps: a half of a second-level cache.
constexpr int64_t ROWS_AT_MOST = 96, FLOATS = 1 << 17;

struct Arguments {
  // (rows, channels): rows begin `stride` elements apart.
  const void *features;
  int64_t stride;
  const void *norm_weight, *norm_bias; // (channels,); either null: none
  // (hidden, channels) and (outputs, hidden), row by row, the second null: none, so that `outputs` is `hidden`.
  const void *weight, *second_weight;
  const void *bias, *second_bias; // or null
  // (rows, outputs), or null.
  const void *residual;
  int64_t residual_stride;
  void *output; // (rows, outputs)
  int64_t rows, channels, hidden, outputs;
  float epsilon;     // of the norm; negative: no norm
  int32_t activation; // between the maps, or after the only one: see `activations.h`
  int32_t half;       // whether elements are bfloat16, not float
};

template <class T> struct Rows {
  T *data;
  int64_t stride;
  T *operator[](int64_t row) const { return data + row * stride; }
};

// Widen a row, and normalise it if asked to.
template <class T> INLINE void prepare(const Arguments &a, const T *from, float *to) {
  int64_t n = a.channels;
  Floats total{};
  for (int64_t c = 0; c < n; c += LANES) {
    int some = n - c < LANES ? n - c : LANES;
    Floats x = load_some(from + c, some);
    store_some(to + c, x, some);
    total += x;
  }
  if (a.epsilon < 0) return;
  float mean = sum(total) / n;
  Floats squares{};
  for (int64_t c = 0; c < n; c += LANES) {
    int some = n - c < LANES ? n - c : LANES;
    Floats x = first_lanes(load_some(to + c, some) - mean, some);
    squares += x * x;
  }
  float factor = 1 / __builtin_sqrtf(sum(squares) / n + a.epsilon);
  const T *weight = (const T *)a.norm_weight, *bias = (const T *)a.norm_bias;
  for (int64_t c = 0; c < n; c += LANES) {
    int some = n - c < LANES ? n - c : LANES;
    Floats x = (load_some(to + c, some) - mean) * factor;
    if (weight) x *= load_some(weight + c, some);
    if (bias) x += load_some(bias + c, some);
    store_some(to + c, x, some);
  }
}

// What becomes of outputs: an activation, then perhaps a residual; and where they are written.
template <class T, class R> struct Finish {
  int activation;
  Rows<const R> residual; // data null: none
  Rows<T> to;
  int64_t outputs;

  void operator()(int64_t row, int64_t column, Floats x) const {
    int some = outputs - column < LANES ? outputs - column : LANES;
    x = activate(activation, x);
    if (residual.data) x += load_some(residual[row] + column, some);
    store_some(to[row] + column, x, some);
  }
};

template <class T> void map_rows(const Arguments &a, const Weights *maps, int64_t first, int64_t count, float *memory) {
  Arena arena(memory);
  Rows<float> prepared{arena.take(ROWS_AT_MOST * a.channels), a.channels};
  Rows<float> hidden{arena.take(ROWS_AT_MOST * a.hidden), a.hidden};
  float *sums = arena.take(ROWS_AT_MOST * PANEL);
  const T *features = (const T *)a.features + first * a.stride;
  Rows<const float> input{prepared.data, prepared.stride};
  if (a.epsilon < 0 && sizeof(T) == sizeof(float)) input = {(const float *)features, a.stride};
  else
    for (int64_t row = 0; row < count; row++) prepare(a, features + row * a.stride, prepared[row]);
  const T *residual = a.residual ? (const T *)a.residual + first * a.residual_stride : nullptr;
  Finish<T, T> last{a.activation, {residual, a.residual_stride}, {(T *)a.output + first * a.outputs, a.outputs}, a.outputs};
  if (maps[1].outputs) {
    maps[0].product(input.data, input.stride, count, sums, Finish<float, float>{a.activation, {}, hidden, a.hidden});
    input = {hidden.data, hidden.stride}, last.activation = NONE;
  }
  maps[maps[1].outputs > 0].product(input.data, input.stride, count, sums, last);
}

} // namespace

extern "C" int linear_maps(const Arguments *arguments, Parallel parallel, int threads) {
  const Arguments &a = *arguments;
  Weights maps[2] = {{a.hidden, a.channels, nullptr}, {a.second_weight ? a.outputs : 0, a.hidden, nullptr}};
  size_t room[2] = {Arena::room(maps[0].room()), Arena::room(maps[1].room())};
  float *packed = (float *)aligned_alloc(64, (room[0] + room[1]) * sizeof(float));
  if (!packed) return 1;
  maps[0].packed = packed, maps[1].packed = packed + room[0];
  auto pack = [&](int64_t panel, float *) {
    bool second = panel >= maps[0].panels();
    const Weights &map = maps[second];
    const void *weight = second ? a.second_weight : a.weight, *bias = second ? a.second_bias : a.bias;
    if (second) panel -= maps[0].panels();
    if (a.half) map.pack((const bfloat16 *)weight, (const bfloat16 *)bias, panel);
    else map.pack((const float *)weight, (const float *)bias, panel);
  };
  auto limit = [](int64_t x, int64_t least, int64_t most) { return x < least ? least : x > most ? most : x; };
  int64_t widest = a.hidden > a.channels ? a.hidden : a.channels;
  int64_t shared = limit(a.rows / (4 * threads), 1, ROWS_AT_MOST), cached = limit(FLOATS / widest, 1, ROWS_AT_MOST);
  // Whole groups of rows of every width of panels.
  int64_t rows = limit((shared < cached ? shared : cached) / GROUP_OF_ROWS, 1, ROWS_AT_MOST) * GROUP_OF_ROWS;
  auto task = [&](int64_t number, float *memory) {
    int64_t first = number * rows, count = a.rows - first < rows ? a.rows - first : rows;
    if (a.half) map_rows<bfloat16>(a, maps, first, count, memory);
    else map_rows<float>(a, maps, first, count, memory);
  };
  size_t floats = Arena::room(ROWS_AT_MOST * a.channels) + Arena::room(ROWS_AT_MOST * a.hidden);
  int failed = run_tasks(pack, maps[0].panels() + maps[1].panels(), 1, parallel, threads) ||
               run_tasks(task, (a.rows + rows - 1) / rows, floats + Arena::room(ROWS_AT_MOST * PANEL), parallel, threads);
  free(packed);
  return failed;
}
