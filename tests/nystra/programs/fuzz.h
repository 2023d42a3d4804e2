// Random calls of a native program, in buffers of the exact size, against plain loops in double precision.
//
// usage: fuzz SEED CASES    Prints what is wrong; the exit status is 1 if anything is. Sanitizers see the rest.
#pragma once
#include <pthread.h>

#include <algorithm>

#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <vector>

#include "maps.h"
#include "tasks.h"

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
enum Numbers { PLAIN, LARGE, STRANGE, DENORMAL, ANY };
float strange(Random &random) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const float numbers[] = {infinity, -infinity, NAN, 3e38f, -3e38f, 1e30f, -1e30f, 0.f, -0.f, 1e-40f};
  return random.of(numbers);
}
float number(Random &random, Numbers numbers) {
  if (numbers == STRANGE && random.once_in(60)) return strange(random);
  return random.normal() * (numbers == LARGE ? 1e3f : numbers == DENORMAL ? 1e-39f : 1.f);
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
  void fill(Random &random, Numbers numbers) {
    for (int64_t i = 0; i < size; i++) memory[i] = narrowed(number(random, numbers), (T *)nullptr);
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
  // Whether a window is the last one of its image along an axis.
  bool last(int64_t window, int axis) const {
    return (axis ? window : window / windows.grid[1]) % windows.grid[axis] + 1 == windows.grid[axis];
  }
  int64_t kind(int64_t window, const int64_t *kinds) const {
    return (kinds[0] > 1 && last(window, 0)) * kinds[1] + (kinds[1] > 1 && last(window, 1));
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
bool agrees(double actual, double expected, double size, double tolerance, Numbers numbers) {
  if (numbers == ANY) return true;
  if (!std::isfinite(expected)) return !std::isfinite(actual);
  if (numbers == LARGE) return std::fabs(actual) <= (1 + tolerance) * size;
  if (numbers == STRANGE) return std::isfinite(actual) || size > 1e32;
  return std::fabs(actual - expected) <= tolerance * size;
}

template <class Element> std::unique_ptr<Element[]> copied(const std::vector<Element> &from) {
  std::unique_ptr<Element[]> to(new Element[from.size()]);
  std::copy(from.begin(), from.end(), to.get());
  return to;
}

int64_t divisor(Random &random, int64_t number) {
  int64_t result;
  do result = random.from(1, number);
  while (number % result);
  return result;
}

// Queries, keys and values of maps, and where outputs are written.
template <class T> struct Maps {
  const Cut &cut;
  const int64_t extent[5];
  Buffer<T> query, key, value, output;
  std::vector<bool> written;

  Maps(Random &random, const Cut &cut)
      : cut(cut), extent{cut.windows.images, cut.sides[0], cut.sides[1], cut.windows.heads, cut.windows.channels},
        query(random, extent), key(random, extent), value(random, extent), output(random, extent),
        written(output.size) {
    memset((void *)output.memory.get(), 0xab, output.size * sizeof(T));
  }
  // Everything may be strange, or a few elements.
  void fill(Random &random, Numbers numbers, bool few) {
    for (Buffer<T> *part : {&query, &key, &value}) {
      part->fill(random, numbers == STRANGE && few ? PLAIN : numbers);
      for (int64_t i = random.upto(3); numbers == STRANGE && few && i > 0; i--)
        part->memory[random.upto(part->size - 1)] = narrowed(strange(random), (T *)nullptr);
    }
  }
  template <class Arguments> void set(Arguments &a) const {
    a.windows = cut.windows, a.query = query.map, a.key = key.map, a.value = value.map, a.output = output.map;
    a.half = sizeof(T) == 2;
  }
  // Compare an element with what it should be, see `agrees`; returns what is wrong.
  const char *compare(const Token &at, int64_t head, int64_t channel, double expected, double size, Numbers numbers) {
    T &element = output.at(at, head, channel);
    written[&element - output.memory.get()] = true;
    if (agrees(widened(element), expected, size, sizeof(T) == 2 ? 1e-2 : 1e-4, numbers)) return nullptr;
    static char text[200];
    snprintf(text, sizeof text, "%g, not %g (window %dx%d, channels %d, image %d, row %d, column %d)", widened(element),
             expected, (int)cut.windows.window[0], (int)cut.windows.window[1], (int)cut.windows.channels, (int)at.image,
             (int)at.row, (int)at.column);
    return text;
  }
  // All elements that were not to be written must be as they were.
  const char *others() const {
    T before;
    memset((void *)&before, 0xab, sizeof before);
    for (int64_t i = 0; i < output.size; i++)
      if (!written[i] && memcmp(&before, &output.memory[i], sizeof before)) return "wrote outside its output";
    return nullptr;
  }
};

// Queries, times log2 e, keys and values of one window and head as rows, and the largest value of each channel.
struct Rows {
  std::vector<float> query, key, value;
  std::vector<double> most;
  bool strange = false; // holds what is no plain number

  // `order`: numbers of the tokens, row by row, in the order of the rows, or null.
  template <class T> Rows(const Maps<T> &maps, int64_t window, int64_t head, const int32_t *order) {
    int64_t tokens = maps.cut.windows.tokens(), channels = maps.cut.windows.channels;
    most.assign(channels, 1e-30);
    for (int64_t i = 0; i < tokens; i++)
      for (int64_t c = 0; c < channels; c++) {
        Token at = maps.cut.place(window, order ? order[i] : i);
        query.push_back(widened(maps.query.at(at, head, c)) * LOG2_E);
        key.push_back(widened(maps.key.at(at, head, c)));
        value.push_back(widened(maps.value.at(at, head, c)));
        most[c] = std::fmax(most[c], std::fabs(value.back()));
        for (float x : {query.back(), key.back(), value.back()}) strange |= !(std::fabs(x) < 1e20f);
      }
  }
};

// Softmax of logits in units of log2, in place.
void softmax(std::vector<double> &logits) {
  double top = *std::max_element(logits.begin(), logits.end()), total = 0;
  for (double &x : logits) total += x = std::exp2(x - top);
  for (double &x : logits) x /= total;
}

typedef const char *(*Check)(Random &, Numbers);

// Run the cases that the command line asks for, with elements of both types.
int run(char **arguments, Check of_floats, Check of_halves) {
  int64_t first = atoll(arguments[1]), cases = atoll(arguments[2]), wrong = 0;
  for (int64_t seed = first; seed < first + cases; seed++)
    for (Check run : {of_floats, of_halves}) {
      Random random(seed);
      Numbers numbers = random.of({PLAIN, PLAIN, LARGE, STRANGE, DENORMAL});
      const char *text = run(random, numbers);
      if (!text) continue;
      printf("%s, seed %lld, numbers %d: %s\n", run == of_floats ? "float" : "bfloat16", (long long)seed, numbers, text);
      wrong++;
    }
  return wrong > 0;
}
