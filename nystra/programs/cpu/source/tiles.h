// Softmax attention of a tile of queries: its lanes are queries; keys and values are broadcast, a few at a time.
//
// Products are those of small matrices, whose sums stay in registers: GROUPS vectors of queries by KEYS keys for the
// logits, by CHANNELS channels for the outputs. Each vector that is loaded meets several others.
#pragma once
#include "lanes.h"

#if LANES == 16
constexpr int GROUPS = 2, KEYS = 12;
#elif LANES == 8
constexpr int GROUPS = 2, KEYS = 6;
#else
constexpr int GROUPS = 4, KEYS = 6;
#endif
constexpr int CHANNELS = KEYS;
// Queries of a tile.
constexpr int TILE = GROUPS * LANES;
// Keys whose logits are kept at a time: with their keys and values they stay in the first-level cache.
constexpr int BLOCK = 64;

// What is added to logits, in units of log2: nothing, or a table of every key of the tile. `at` gives a vector of queries
// for the key x places on; `from` moves on by a number of keys.
struct NoBias {
  Floats at(int, int) const { return Floats{}; }
  NoBias from(int64_t) const { return *this; }
};
struct TableBias {
  const float *table; // (keys, TILE)
  Floats at(int x, int g) const { return load(table + x * TILE + g * LANES); }
  TableBias from(int64_t j) const { return {table + j * TILE}; }
};

// A run of keys and values, rows of floats that begin `stride` apart.
template <class Bias> struct Run {
  const float *key, *value;
  int64_t count;
  int stride;
  Bias bias;
};

// A tile's queries, and the sums of its outputs so far: softmax is normalised at the end.
struct Tile {
  const float *query; // (keys, TILE)
  float *sum;         // (values, TILE)
  int keys, values;   // channels
  Floats top[GROUPS], total[GROUPS];
  bool empty;

  void start() {
    for (int g = 0; g < GROUPS; g++) top[g] = broadcast(LOWEST), total[g] = Floats{};
    empty = true;
  }
  // After the last keys: a softmax of logits that are all -∞ is NaN.
  void finish() {
    for (int g = 0; g < GROUPS; g++) total[g] = top[g] > broadcast(LOWEST) ? total[g] : broadcast(__builtin_nanf(""));
  }
};

// Logits of X keys → (X, TILE), and the largest so far.
template <int X, class Bias>
INLINE void logits(const float *query, const float *key, int channels, int stride, const Bias &bias, float *to,
                   Floats *top) {
  Floats sum[X][GROUPS];
  UNROLL for (int x = 0; x < X; x++)
    UNROLL for (int g = 0; g < GROUPS; g++) sum[x][g] = bias.at(x, g);
  for (int c = 0; c < channels; c++) {
    Floats q[GROUPS];
    UNROLL for (int g = 0; g < GROUPS; g++) q[g] = load(query + c * TILE + g * LANES);
    UNROLL for (int x = 0; x < X; x++) {
      Floats k = broadcast(key[x * stride + c]);
      UNROLL for (int g = 0; g < GROUPS; g++) sum[x][g] += q[g] * k;
    }
  }
  UNROLL for (int x = 0; x < X; x++)
    UNROLL for (int g = 0; g < GROUPS; g++) {
      store(to + x * TILE + g * LANES, sum[x][g]);
      top[g] = larger(top[g], sum[x][g]);
    }
}

template <int X, class Bias>
static void last_logits(int count, const float *query, const float *key, int channels, int stride, const Bias &bias,
                        float *to, Floats *top) {
  if constexpr (X > 0) {
    if (count == X) logits<X>(query, key, channels, stride, bias, to, top);
    else last_logits<X - 1>(count, query, key, channels, stride, bias, to, top);
  }
}

// Logits of any number of keys → (count, TILE), and the largest so far.
template <class Bias>
INLINE void all_logits(const float *query, const Run<Bias> &run, int channels, float *to, Floats *top) {
  int64_t j = 0;
  for (; run.count - j >= 2 * KEYS || run.count - j == KEYS; j += KEYS)
    logits<KEYS>(query, run.key + j * run.stride, channels, run.stride, run.bias.from(j), to + j * TILE, top);
  // The last keys in parts of like sizes: a small one would load every query for little.
  while (j < run.count) {
    int some = run.count - j > KEYS ? (run.count - j + 1) / 2 : run.count - j;
    last_logits<KEYS>(some, query, run.key + j * run.stride, channels, run.stride, run.bias.from(j), to + j * TILE, top);
    j += some;
  }
}

// Logits (count, TILE) → exponentials of their distances to the largest; adds them to the totals.
INLINE void exponentials(float *weight, int64_t count, const Floats *top, Floats *total) {
  Floats sum[GROUPS], most[GROUPS];
  UNROLL for (int g = 0; g < GROUPS; g++) sum[g] = total[g], most[g] = top[g];
  for (int64_t j = 0; j < count; j++)
    UNROLL for (int g = 0; g < GROUPS; g++) {
      Floats w = exp2(load(weight + j * TILE + g * LANES) - most[g]);
      sum[g] += w;
      store(weight + j * TILE + g * LANES, w);
    }
  UNROLL for (int g = 0; g < GROUPS; g++) total[g] = sum[g];
}

// Sums (C, TILE), or nothing yet, plus the weights (keys, TILE) times C channels of the runs' values from the given one.
template <int C, class Run>
INLINE void weighted(const float *weight, const Run *runs, int count, int from, bool nothing, float *to) {
  Floats sum[C][GROUPS];
  UNROLL for (int c = 0; c < C; c++)
    UNROLL for (int g = 0; g < GROUPS; g++) sum[c][g] = nothing ? Floats{} : load(to + c * TILE + g * LANES);
  for (int i = 0; i < count; i++) {
    const float *value = runs[i].value + from;
    for (int64_t j = 0; j < runs[i].count; j++, value += runs[i].stride, weight += TILE) {
      Floats w[GROUPS];
      UNROLL for (int g = 0; g < GROUPS; g++) w[g] = load(weight + g * LANES);
      UNROLL for (int c = 0; c < C; c++) {
        Floats v = broadcast(value[c]);
        UNROLL for (int g = 0; g < GROUPS; g++) sum[c][g] += w[g] * v;
      }
    }
  }
  UNROLL for (int c = 0; c < C; c++)
    UNROLL for (int g = 0; g < GROUPS; g++) store(to + c * TILE + g * LANES, sum[c][g]);
}

template <int C, class Run>
static void some_weighted(int channels, const float *weight, const Run *runs, int count, int from, bool nothing,
                          float *to) {
  if constexpr (C > 0) {
    if (channels == C) weighted<C>(weight, runs, count, from, nothing, to);
    else some_weighted<C - 1>(channels, weight, runs, count, from, nothing, to);
  }
}

// Add weights (keys, TILE) times the values of runs to the tile's sums.
template <class Run> INLINE void add_weighted(Tile &tile, const float *weight, const Run *runs, int count) {
  int parts = (tile.values + CHANNELS - 1) / CHANNELS;
  // Parts of like sizes: a small last one would load every weight for little.
  for (int part = 0; part < parts; part++) {
    int from = part * tile.values / parts, until = (part + 1) * tile.values / parts;
    some_weighted<CHANNELS>(until - from, weight, runs, count, from, tile.empty, tile.sum + from * TILE);
  }
  tile.empty = false;
}

// Attend to runs of keys together; `weight` holds (keys, TILE), those of all of them.
template <class Bias> INLINE void attend(Tile &tile, const Run<Bias> *runs, int count, float *weight) {
  Floats before[GROUPS];
  for (int g = 0; g < GROUPS; g++) before[g] = tile.top[g];
  float *to = weight;
  for (int i = 0; i < count; to += runs[i].count * TILE, i++) all_logits(tile.query, runs[i], tile.keys, to, tile.top);
  if (!tile.empty)
    for (int g = 0; g < GROUPS; g++) {
      Floats factor = exp2(before[g] - tile.top[g]);
      tile.total[g] *= factor;
      for (int c = 0; c < tile.values; c++) {
        float *sum = tile.sum + c * TILE + g * LANES;
        store(sum, load(sum) * factor);
      }
    }
  exponentials(weight, (to - weight) / TILE, tile.top, tile.total);
  add_weighted(tile, weight, runs, count);
}
