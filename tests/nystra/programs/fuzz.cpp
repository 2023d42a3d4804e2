// Random calls of every native program, in buffers of the exact size, against plain loops in double precision.
//
// usage: fuzz SEED CASES    Prints what is wrong; the exit status is 1 if anything is. Sanitizers see the rest.
#include <pthread.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <vector>

#include "maps.h"
#include "tasks.h"

// Programs have names of their own in common: each is read into a namespace.
namespace exact {
#include "exact.cpp"
}

constexpr double LN_2 = 0.6931471805599453;

class Random {
public:
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15 + 1) {}
  uint64_t bits() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 0x2545f4914f6cdd1d >> 11;
  }
  int64_t upto(int64_t most) { return bits() % (most + 1); }
  int64_t from(int64_t least, int64_t most) { return least + upto(most - least); }
  bool once_in(int n) { return bits() % n == 0; }
  template <class T, size_t N> T of(const T (&values)[N]) { return values[bits() % N]; }
  float normal() {
    float sum = 0;
    for (int i = 0; i < 6; i++) sum += (float)(bits() & 0xffff) / 0x10000 - 0.5f;
    return sum * 1.4f;
  }

private:
  uint64_t state;
};

float narrowed(float x, float *) { return x; }
bfloat16 narrowed(float x, bfloat16 *) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  // Truncated: inputs may be any.
  return {(uint16_t)(bits >> 16)};
}

// What inputs are made of: plain numbers, or now and then one that breaks careless programs.
enum Kind { PLAIN, LARGE, STRANGE, DENORMAL };
float number(Random &random, Kind kind) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const float strange[] = {infinity, -infinity, NAN, 3e38f, -3e38f, 1e30f, -1e30f, 0.f, -0.f, 1e-40f};
  if (kind == STRANGE && random.once_in(60)) return random.of(strange);
  return random.normal() * (kind == LARGE ? 1e3f : kind == DENORMAL ? 1e-39f : 1.f);
}

// Of a token in the maps, and whether its result is written.
struct Token {
  int64_t image, row, column;
  bool inside;
};

// A map in memory of exactly its size: axes in any order, with gaps between tokens.
template <class T> struct Buffer {
  std::unique_ptr<T[]> memory;
  int64_t size, extent[5];
  Map map;

  Buffer(Random &random, const int64_t (&extent)[5]) {
    int64_t order[] = {0, 1, 2, 3}, stride[4], step = extent[4] + (random.once_in(3) ? random.upto(3) : 0);
    for (int i = 3; i > 0; i--) std::swap(order[i], order[random.upto(i)]);
    size = extent[4];
    for (int axis : order) {
      stride[axis] = step, step *= extent[axis];
      size += (extent[axis] - 1) * stride[axis];
    }
    memcpy(this->extent, extent, sizeof extent);
    memory.reset(new T[size]);
    map = {memory.get(), stride[0], stride[1], stride[2], stride[3]};
  }
  void fill(Random &random, Kind kind) {
    for (int64_t i = 0; i < size; i++) memory[i] = narrowed(number(random, kind), (T *)nullptr);
  }
  T &at(const Token &at, int64_t head, int64_t channel) const {
    return memory[at.image * map.image + at.row * map.row + at.column * map.column + head * map.head + channel];
  }
};

// Windows with their sources in memory of exactly their size.
struct Cut {
  Windows windows;
  std::unique_ptr<int32_t[]> source[2];
  int64_t sides[2];

  // Windows of random sides; the second is a multiple of `step`.
  Cut(Random &random, int64_t most, int64_t step) {
    windows.images = random.from(1, 2), windows.heads = random.from(1, 3), windows.channels = random.from(1, 40);
    if (random.once_in(8)) windows.channels = random.from(41, 140);
    for (int axis = 0; axis < 2; axis++) {
      windows.window[axis] = axis && step > 1 ? step * random.from(1, most / step) : random.from(1, most);
      windows.grid[axis] = random.from(1, 3);
      int64_t size = windows.window[axis] * windows.grid[axis], before = random.upto((size - 1) / 3);
      int64_t side = size - before - random.upto((size - 1 - before) / 3), roll = random.upto(side - 1);
      windows.size[axis] = size, sides[axis] = side;
      source[axis].reset(new int32_t[size]);
      for (int64_t i = 0; i < size; i++) {
        int64_t place = std::abs(side - 1 - std::abs(side - 1 - std::abs(i - before)));
        source[axis][i] = (place % side + roll) % side;
      }
      windows.source[axis] = source[axis].get();
      windows.inside[axis][0] = before, windows.inside[axis][1] = before + side;
    }
    // As `Kernel.__call__` gives them: windows that are maps, of a grid that is known from elsewhere.
    if (random.once_in(3))
      for (int axis = 0; axis < 2; axis++) {
        int64_t side = windows.window[axis];
        windows.images *= windows.grid[axis], windows.size[axis] = sides[axis] = side;
        source[axis].reset(new int32_t[side]);
        for (int64_t i = 0; i < side; i++) source[axis][i] = i;
        windows.source[axis] = source[axis].get();
        windows.inside[axis][0] = 0, windows.inside[axis][1] = side;
      }
  }
  Token place(int64_t window, int64_t token) const {
    int64_t row = window / windows.along(1) % windows.along(0) * windows.window[0] + token / windows.window[1];
    int64_t column = window % windows.along(1) * windows.window[1] + token % windows.window[1];
    bool inside = row >= windows.inside[0][0] && row < windows.inside[0][1] && column >= windows.inside[1][0] &&
                  column < windows.inside[1][1];
    return {window / windows.along(1) / windows.along(0), source[0][row], source[1][column], inside};
  }
};

// Threads with OpenMP's interface, so that programs run on as many as they are told.
struct Call {
  void (*function)(void *);
  void *data;
};
void *call(void *data) {
  ((Call *)data)->function(((Call *)data)->data);
  return nullptr;
}
void parallel(void (*function)(void *), void *data, unsigned threads, unsigned) {
  Call shared{function, data};
  std::vector<pthread_t> others(threads - 1);
  for (pthread_t &other : others) pthread_create(&other, nullptr, call, &shared);
  function(data);
  for (pthread_t other : others) pthread_join(other, nullptr);
}

// Compare an output with what it should be: a mean of values of at most a size. Where that is not finite it is not
// either. Logits of thousands have errors that softmax makes any size; values near the largest number overflow in sums.
bool agrees(double actual, double expected, double size, double tolerance, Kind kind) {
  if (!std::isfinite(expected)) return !std::isfinite(actual);
  if (kind == LARGE || kind == STRANGE) return std::isfinite(actual) || size > 1e32;
  return std::fabs(actual - expected) <= tolerance * size;
}

template <class T> const char *run_exact(Random &random, Kind kind) {
  bool by_offset = random.once_in(2);
  Cut cut(random, by_offset ? 2 * LANES : 18, by_offset ? LANES : 1);
  const Windows &windows = cut.windows;
  const int64_t extent[] = {windows.images, cut.sides[0], cut.sides[1], windows.heads, windows.channels};
  Buffer<T> query(random, extent), key(random, extent), value(random, extent), output(random, extent);
  query.fill(random, kind), key.fill(random, kind), value.fill(random, kind);
  memset((void *)output.memory.get(), 0xab, output.size * sizeof(T));

  exact::Arguments a{};
  a.windows = windows, a.query = query.map, a.key = key.map, a.value = value.map, a.output = output.map;
  a.by_offset = by_offset, a.half = sizeof(T) == 2, a.masked = -100 / LN_2, a.parts = random.from(1, 3);
  int64_t tokens = windows.tokens(), tiles = (tokens + TILE - 1) / TILE, heads = random.once_in(3) ? 1 : windows.heads;
  for (int axis = 0; axis < 2; axis++) {
    a.split[axis] = random.once_in(2) ? random.upto(windows.window[axis] - 1) : -1;
    a.kinds[axis] = a.split[axis] >= 0 && windows.grid[axis] > 1 ? 2 : 1;
  }
  int64_t each = by_offset ? (2 * windows.window[0] - 1) * (2 * windows.window[1] - 1) : tiles * tokens * TILE;
  int64_t size = (by_offset ? 1 : a.kinds[0] * a.kinds[1]) * heads * each;
  std::unique_ptr<float[]> bias(new float[size]);
  for (int64_t i = 0; i < size; i++) bias[i] = number(random, kind == STRANGE ? PLAIN : kind);
  if (!random.once_in(4)) a.bias = bias.get(), a.bias_kind = heads * each, a.bias_head = heads == 1 ? 0 : each;
  if (exact::exact_attention(&a, random.once_in(4) ? nullptr : parallel, random.from(1, 3))) return "no memory";

  // Of every element whether it is to be written: all others must be as they were.
  std::vector<bool> written(output.size);
  int64_t channels = windows.channels;
  std::vector<float> q(tokens * channels), k(tokens * channels), v(tokens * channels);
  std::vector<double> weight(tokens), sum(channels), most(channels);
  for (int64_t head = 0; head < windows.heads; head++)
    for (int64_t window = 0; window < windows.count(); window++) {
      int64_t last[] = {window / windows.grid[1] % windows.grid[0] + 1 == windows.grid[0],
                        window % windows.grid[1] + 1 == windows.grid[1]};
      auto region = [&](int64_t token, int axis) {
        int64_t place = axis ? token % windows.window[1] : token / windows.window[1];
        return last[axis] && a.split[axis] >= 0 && place >= a.split[axis];
      };
      std::fill(most.begin(), most.end(), 1e-30);
      for (int64_t i = 0; i < tokens; i++)
        for (int64_t c = 0; c < channels; c++) {
          Token at = cut.place(window, i);
          q[i * channels + c] = widened(query.at(at, head, c)) * LOG2_E;
          k[i * channels + c] = widened(key.at(at, head, c));
          v[i * channels + c] = widened(value.at(at, head, c));
          most[c] = std::fmax(most[c], std::fabs(v[i * channels + c]));
        }
      for (int64_t i = 0; i < tokens; i++) {
        Token at = cut.place(window, i);
        if (!at.inside) continue;
        double top = -INFINITY, total = 0;
        for (int64_t j = 0; j < tokens; j++) {
          // In single precision: what overflows there is to be infinite here.
          float product = 0;
          for (int64_t c = 0; c < channels; c++) product += q[i * channels + c] * k[j * channels + c];
          weight[j] = product;
          if (by_offset && a.bias) {
            int64_t w = windows.window[1], down = i / w - j / w + windows.window[0] - 1, right = i % w - j % w + w - 1;
            weight[j] += a.bias[head * a.bias_head + down * (2 * w - 1) + right];
          } else if (a.bias) {
            int64_t number = (a.kinds[0] > 1 && last[0]) * a.kinds[1] + (a.kinds[1] > 1 && last[1]);
            weight[j] += a.bias[number * a.bias_kind + head * a.bias_head + (i / TILE * tokens + j) * TILE + i % TILE];
          }
          if (by_offset && (region(i, 0) != region(j, 0) || region(i, 1) != region(j, 1))) weight[j] += a.masked;
          top = std::fmax(top, weight[j]);
        }
        std::fill(sum.begin(), sum.end(), 0);
        for (int64_t j = 0; j < tokens; j++) {
          double w = std::exp2(weight[j] - top);
          total += w;
          for (int64_t c = 0; c < channels; c++) sum[c] += w * v[j * channels + c];
        }
        for (int64_t c = 0; c < channels; c++) {
          T &element = output.at(at, head, c);
          written[&element - output.memory.get()] = true;
          if (agrees(widened(element), sum[c] / total, most[c], sizeof(T) == 2 ? 1e-2 : 1e-4, kind)) continue;
          static char text[200];
          snprintf(text, sizeof text, "%g, not %g (window %dx%d, channels %d, token %d, bias %d, by offset %d)",
                   widened(element), sum[c] / total, (int)windows.window[0], (int)windows.window[1], (int)channels,
                   (int)i, a.bias != nullptr, by_offset);
          return text;
        }
      }
    }
  for (int64_t i = 0; i < output.size; i++) {
    T before;
    memset((void *)&before, 0xab, sizeof before);
    if (!written[i] && memcmp(&before, &output.memory[i], sizeof before)) return "wrote outside its output";
  }
  return nullptr;
}

typedef const char *(*Check)(Random &, Kind);
const struct {
  const char *name;
  Check run;
} RUNS[] = {
    {"exact, float", run_exact<float>},
    {"exact, bfloat16", run_exact<bfloat16>},
};

int main(int, char **arguments) {
  int64_t first = atoll(arguments[1]), cases = atoll(arguments[2]), wrong = 0;
  for (int64_t seed = first; seed < first + cases; seed++)
    for (auto &[name, run] : RUNS) {
      Random random(seed);
      Kind kind = random.of({PLAIN, PLAIN, LARGE, STRANGE, DENORMAL});
      const char *text = run(random, kind);
      if (!text) continue;
      printf("%s, seed %lld, kind %d: %s\n", name, (long long)seed, kind, text);
      wrong++;
    }
  return wrong > 0;
}
