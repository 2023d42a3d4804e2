// The program of exact attention.
#include "exact.cpp"
#include "fuzz.h"

template <class T> const char *run_exact(Random &random, Numbers numbers) {
  bool by_offset = random.once_in(2);
  Cut cut(random, by_offset ? 2 * LANES : 18, by_offset ? LANES : 1);
  const Windows &windows = cut.windows;
  Maps<T> maps(random, cut);
  maps.fill(random, numbers, false);

  Arguments a{};
  maps.set(a);
  a.by_offset = by_offset, a.masked = -100 / LN_2, a.parts = random.from(1, 3);
  int64_t tokens = windows.tokens(), tiles = (tokens + TILE - 1) / TILE, heads = random.once_in(3) ? 1 : windows.heads;
  for (int axis = 0; axis < 2; axis++) {
    a.split[axis] = random.once_in(2) ? random.upto(windows.window[axis] - 1) : -1;
    a.kinds[axis] = a.split[axis] >= 0 && windows.grid[axis] > 1 ? 2 : 1;
  }
  int64_t each = by_offset ? (2 * windows.window[0] - 1) * (2 * windows.window[1] - 1) : tiles * tokens * TILE;
  int64_t size = (by_offset ? 1 : a.kinds[0] * a.kinds[1]) * heads * each;
  std::unique_ptr<float[]> bias(new float[size]);
  for (int64_t i = 0; i < size; i++) bias[i] = number(random, numbers == STRANGE ? PLAIN : numbers);
  if (!random.once_in(4)) a.bias = bias.get(), a.bias_kind = heads * each, a.bias_head = heads == 1 ? 0 : each;
  if (exact_attention(&a, random.once_in(4) ? nullptr : parallel, random.from(1, 3))) return "no memory";

  int64_t channels = windows.channels;
  std::vector<double> weight(tokens);
  for (int64_t head = 0; head < windows.heads; head++)
    for (int64_t window = 0; window < windows.count(); window++) {
      auto region = [&](int64_t token, int axis) {
        int64_t place = axis ? token % windows.window[1] : token / windows.window[1];
        return cut.last(window, axis) && a.split[axis] >= 0 && place >= a.split[axis];
      };
      Rows rows(maps, window, head, nullptr);
      for (int64_t i = 0; i < tokens; i++) {
        Token at = cut.place(window, i);
        if (!at.inside) continue;
        for (int64_t j = 0; j < tokens; j++) {
          // In single precision: what overflows there is to be infinite here.
          float product = 0;
          for (int64_t c = 0; c < channels; c++) product += rows.query[i * channels + c] * rows.key[j * channels + c];
          weight[j] = product;
          if (by_offset && a.bias) {
            int64_t w = windows.window[1], down = i / w - j / w + windows.window[0] - 1, right = i % w - j % w + w - 1;
            weight[j] += a.bias[head * a.bias_head + down * (2 * w - 1) + right];
          } else if (a.bias) {
            int64_t kind = cut.kind(window, a.kinds) * a.bias_kind;
            weight[j] += a.bias[kind + head * a.bias_head + (i / TILE * tokens + j) * TILE + i % TILE];
          }
          if (by_offset && (region(i, 0) != region(j, 0) || region(i, 1) != region(j, 1))) weight[j] += a.masked;
        }
        softmax(weight);
        for (int64_t c = 0; c < channels; c++) {
          double sum = 0;
          for (int64_t j = 0; j < tokens; j++) sum += weight[j] * rows.value[j * channels + c];
          if (const char *text = maps.compare(at, head, c, sum, rows.most[c], numbers)) return text;
        }
      }
    }
  return maps.others();
}

int main(int, char **arguments) { return run(arguments, run_exact<float>, run_exact<bfloat16>); }
