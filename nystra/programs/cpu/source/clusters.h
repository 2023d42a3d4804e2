// Clusters of a window's tokens by content: the balanced trees of `nystra/windows/clusters.py`.
#pragma once
#include <cmath>

#include "tasks.h"

// Features of tokens: rows of `stride` floats, a multiple of LANES. Each channel counts by the square of its scale, 0:
// it is none of them.
struct Features {
  const float *row;
  int stride;
  const float *weight; // (stride)

  const float *operator[](int64_t token) const { return row + token * stride; }
};

// Places along a direction beyond which none lies: differences of two are finite.
constexpr float FARTHEST = 1e38f;

// Vectors of a row whose sums are kept in registers together.
constexpr int PARTS = 4;

// Sums of LANES vectors, each in its lane of one.
template <int W> INLINE void fold(Floats *x) {
  if constexpr (W > 0) {
    using Lanes = std::make_integer_sequence<int, LANES>;
    UNROLL for (int i = 0; i < W; i++) x[i] = lower<W>(x[i], x[i + W], Lanes()) + upper<W>(x[i], x[i + W], Lanes());
    fold<W / 2>(x);
  }
}
INLINE Floats sums(Floats *x) {
  fold<LANES / 2>(x);
  return x[0];
}

INLINE float smallest(Floats x) {
  float result = x[0];
  for (int l = 1; l < LANES; l++) result = x[l] < result ? x[l] : result;
  return result;
}

// Call work(part, P) with P vectors of each row at a time, P known to the compiler.
template <int P, class Work> INLINE void by_parts(int from, int until, const Work &work) {
  if constexpr (P > 0) {
    for (; from + P <= until; from += P) work(from * LANES, std::integral_constant<int, P>());
    by_parts<P - 1>(from, until, work);
  }
}

// Sums and sums of squares of the tokens' distances to the first of them, channel by channel.
static void moments(const Features &features, const int32_t *token, int64_t count, float *sum, float *square) {
  by_parts<PARTS>(0, features.stride / LANES, [&](int part, auto parts) {
    constexpr int P = parts;
    Floats first[P], s[P], q[P];
    UNROLL for (int p = 0; p < P; p++) first[p] = load(features[token[0]] + part + p * LANES), s[p] = q[p] = Floats{};
    for (int64_t j = 0; j < count; j++) {
      const float *row = features[token[j]] + part;
      UNROLL for (int p = 0; p < P; p++) {
        Floats x = load(row + p * LANES) - first[p];
        s[p] += x, q[p] += x * x;
      }
    }
    UNROLL for (int p = 0; p < P; p++) store(sum + part + p * LANES, s[p]), store(square + part + p * LANES, q[p]);
  });
}

// The direction in which tokens vary most, nearly: one power iteration from the channel of largest variance.
static void direction(const Features &features, const int32_t *token, int64_t count, float *result, float *memory) {
  float *sum = memory, *square = memory + features.stride;
  moments(features, token, count, sum, square);
  int widest = 0;
  float most = -1;
  for (int c = 0; c < features.stride; c++) {
    float variance = (square[c] - sum[c] * sum[c] / count) * features.weight[c];
    if (variance > most) most = variance, widest = c;
  }
  float mean = features[token[0]][widest] + sum[widest] / count;
  by_parts<PARTS>(0, features.stride / LANES, [&](int part, auto parts) {
    constexpr int P = parts;
    Floats s[P];
    UNROLL for (int p = 0; p < P; p++) s[p] = Floats{};
    for (int64_t j = 0; j < count; j++) {
      const float *row = features[token[j]];
      Floats x = broadcast(row[widest] - mean);
      UNROLL for (int p = 0; p < P; p++) s[p] += x * load(row + part + p * LANES);
    }
    UNROLL for (int p = 0; p < P; p++)
      store(result + part + p * LANES, s[p] * load(features.weight + part + p * LANES));
  });
}

// Places of tokens along a direction; those of NaN lie beyond all others. Writes whole vectors.
static void project(const Features &features, const int32_t *token, int64_t count, const float *direction, float *to) {
  for (int64_t j = 0; j < count; j += LANES) {
    const float *row[LANES];
    UNROLL for (int l = 0; l < LANES; l++) row[l] = features[token[j + l < count ? j + l : j]];
    Floats x[LANES];
    UNROLL for (int l = 0; l < LANES; l++) x[l] = Floats{};
    for (int part = 0; part < features.stride; part += LANES) {
      Floats d = load(direction + part);
      UNROLL for (int l = 0; l < LANES; l++) x[l] += load(row[l] + part) * d;
    }
    store(to + j, larger(smaller(sums(x), broadcast(FARTHEST)), broadcast(-FARTHEST)));
  }
}

// Tokens with their places along a direction; a whole vector may be read behind the last.
struct Places {
  float *place;
  int32_t *token;
  int64_t count;

  Places from(int64_t first, int64_t number) const { return {place + first, token + first, number}; }

  int64_t below(float limit) const {
    Floats at = broadcast(limit);
    Ints found{}, lane;
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) found -= load(place + j) < at;
    UNROLL for (int l = 0; l < LANES; l++) lane[l] = l;
    if (j < count) found -= (load(place + j) < at) & (lane < (int32_t)(count - j));
    int32_t sum = 0;
    UNROLL for (int l = 0; l < LANES; l++) sum += found[l];
    return sum;
  }
};

// The place below which exactly `first` of tokens lie, which are in [low, high). Where several share it, those that
// come first are taken, and the others moved up a little.
static float boundary(const Places &tokens, int64_t first, float low, float high) {
  constexpr int STEPS = 48;
  int64_t under = 0, over = tokens.count;
  for (int step = 0; step < STEPS; step++) {
    // Interpolated and halved by turns: few steps for most, not many for any.
    float share = step & 1 ? 0.5f : (first - under) / (float)(over - under);
    float middle = low + (high - low) * share;
    if (!(middle > low && middle < high)) {
      if (step & 1) break;
      continue;
    }
    int64_t found = tokens.below(middle);
    if (found == first) return middle;
    if (found < first) low = middle, under = found;
    else high = middle, over = found;
  }
  for (int64_t i = 0, left = first - under; i < tokens.count; i++)
    if (tokens.place[i] >= low && tokens.place[i] < high && left-- <= 0) tokens.place[i] = high;
  return high;
}

// Bring the tokens below a limit to the front; both sides keep their order. `spare`: room for as many again.
static void partition(const Places &tokens, float limit, const Places &spare) {
  int64_t less = 0;
  for (int64_t i = 0; i < tokens.count; i++) {
    float place = tokens.place[i];
    int32_t token = tokens.token[i];
    tokens.place[less] = spare.place[i - less] = place;
    tokens.token[less] = spare.token[i - less] = token;
    less += place < limit;
  }
  memcpy(tokens.place + less, spare.place, sizeof(float) * (tokens.count - less));
  memcpy(tokens.token + less, spare.token, sizeof(int32_t) * (tokens.count - less));
}

// Runs of a sequence whose sizes differ by one at most: `parts` of nystra/windows/cells.py.
struct Parts {
  int64_t count, number;

  int64_t begin(int64_t part) const { return part * count / number; }
  int64_t size(int64_t part) const { return begin(part + 1) - begin(part); }
  int64_t largest() const { return (count + number - 1) / number; }
};

// Order tokens, whose places are in [low, high), so that each of `number` runs from a part on lies below the next.
static void split(const Places &tokens, const Parts &parts, int64_t part, int number, float low, float high,
                  const Places &spare) {
  if (number == 1) return;
  int half = number / 2;
  int64_t first = parts.begin(part + half) - parts.begin(part);
  float middle = boundary(tokens, first, low, high);
  partition(tokens, middle, spare);
  split(tokens.from(0, first), parts, part, half, low, middle, spare);
  split(tokens.from(first, tokens.count - first), parts, part + half, number - half, middle, high, spare);
}

class Tree {
public:
  Tree(int64_t count, int stride, Arena &arena) : count(count), stride(stride) {
    place = arena.take(count + LANES), spare.place = arena.take(count + LANES);
    spare.token = arena.take<int32_t>(count);
    line = arena.take(stride), memory = arena.take(2 * stride);
  }
  static size_t room(int64_t count, int stride) {
    return 2 * Arena::room(count + LANES) + Arena::room(count) + Arena::room(stride) + Arena::room(2 * stride);
  }

  // Order all tokens so that they are in groups of neighbours of nearly one size, by levels that each split every node.
  void order(const Features &features, const int32_t *parts, int levels, int32_t *token) const {
    for (int64_t i = 0; i < count; i++) token[i] = i;
    int64_t nodes = 1;
    for (int level = 0; level < levels; nodes *= parts[level++]) {
      Parts node{count, nodes}, child{count, nodes * parts[level]};
      for (int64_t i = 0; i < nodes; i++) {
        int64_t size = node.size(i);
        Places tokens{place, token + node.begin(i), size};
        direction(features, tokens.token, size, line, memory);
        project(features, tokens.token, size, line, place);
        Floats least = load(place), most = least;
        for (int64_t j = LANES; j < size; j += LANES)
          least = smaller(least, load(place + j)), most = larger(most, load(place + j));
        split(tokens, child, i * parts[level], parts[level], smallest(least),
              std::nextafter(-smallest(-most), INFINITY), spare);
      }
    }
  }

private:
  int64_t count;
  int stride;
  float *place, *line, *memory;
  Places spare;
};
