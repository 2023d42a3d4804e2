// Exact softmax attention within windows: softmax(Q Kᵀ + bias + mask) V, without logits of more than a few keys at a time.
#include "maps.h"
#include "tasks.h"

namespace {

// Tiles of queries that meet a block of keys while it is in the cache.
constexpr int TILES = 4;

struct Arguments : Attention {
  // In units of log2. Of every pair: (kinds, heads or 1, tiles, N, TILE). Of every offset, the key's subtracted from the
  // query's: (heads or 1, 2h - 1, 2w - 1), w a multiple of LANES. Or null.
  const float *bias;
  int64_t bias_kind, bias_head;
  int64_t by_offset; // which of the two
  // With offsets: the first row and column of the last windows that come from the opposite edge, or -1, and what is
  // added between these and the others.
  int64_t split[2];
  float masked;
  int64_t parts; // tasks of each window and head
};

// Bias by offset and mask by region. A vector's queries lie in one row of the window, so their values side by side.
struct OffsetBias {
  const float *table[GROUPS]; // the vector's values at the window's first key
  const int32_t *key;         // how far before it those of each key lie
  const float *mask;          // (regions, TILE), or null
  const int32_t *region;      // of each key
  Floats at(int x, int g) const {
    Floats bias = table[g] ? load(table[g] - key[x]) : Floats{};
    return mask ? bias + load(mask + region[x] * TILE + g * LANES) : bias;
  }
  OffsetBias from(int64_t j) const {
    OffsetBias result = *this;
    result.key += j, result.region += j;
    return result;
  }
};

constexpr int REGIONS = 4;

template <class T> class Window {
public:
  Window(const Arguments &a, int64_t head, int64_t number, float *memory)
      : a(a), head(head), edges(a.windows, number), channels(a.windows.channels), tokens(a.windows.tokens()) {
    Arena arena(memory);
    place.row = arena.take<int32_t>(tokens), place.column = arena.take<int32_t>(tokens);
    offset = arena.take<int32_t>(tokens), region = arena.take<int32_t>(tokens), which = arena.take<int32_t>(tokens);
    key = arena.take(tokens * channels), value = arena.take(tokens * channels);
    query = arena.take(TILES * TILE * channels), sum = arena.take(TILES * TILE * channels);
    weight = arena.take(BLOCK * TILE), mask = arena.take(TILES * REGIONS * TILE);
    locate(a.windows, number, nullptr, place);
    pack_rows(Tokens<T>(a.key, place, head), 0, tokens, channels, 1, key, channels);
    pack_rows(Tokens<T>(a.value, place, head), 0, tokens, channels, 1, value, channels);
    masked = false;
    for (int axis = 0; axis < 2; axis++) masked |= edges.last[axis] && a.split[axis] >= 0;
    if (a.by_offset)
      for (int64_t i = 0; i < tokens; i++) {
        int64_t place[2] = {i / a.windows.window[1], i % a.windows.window[1]};
        offset[i] = place[0] * (2 * a.windows.window[1] - 1) + place[1], region[i] = 0;
        for (int axis = 0; axis < 2; axis++)
          region[i] |= (edges.last[axis] && a.split[axis] >= 0 && place[axis] >= a.split[axis]) << axis;
      }
    keep_wanted();
  }

  static size_t room(const Arguments &a) {
    size_t tokens = a.windows.tokens(), channels = a.windows.channels;
    return 5 * Arena::room(tokens) + 2 * Arena::room(tokens * channels) + 2 * Arena::room(TILES * TILE * channels) +
           Arena::room(BLOCK * TILE) + Arena::room(TILES * REGIONS * TILE);
  }

  // Attend for the queries of a part, of a number of parts.
  void attend_part(int64_t part, int64_t parts) {
    int64_t tiles = (queries + TILE - 1) / TILE, first = part * tiles / parts, until = (part + 1) * tiles / parts;
    if (a.by_offset) run(first, until, [this](int64_t tile, int t) { return offset_bias(tile, t); });
    else if (a.bias) {
      const float *table = a.bias + edges.kind(a.kinds) * a.bias_kind + head * a.bias_head;
      run(first, until, [table, this](int64_t tile, int) { return TableBias{table + which[tile * TILE] * tokens}; });
    } else run(first, until, [](int64_t, int) { return NoBias{}; });
  }

private:
  // Keep the places of queries whose results are written: beyond the edges of a map there may be more of the others. Those
  // that share vectors of a table stay together.
  void keep_wanted() {
    int64_t together = a.by_offset ? LANES : a.bias ? TILE : 1;
    queries = 0;
    for (int64_t first = 0; first < tokens; first += together) {
      int64_t until = first + together < tokens ? first + together : tokens;
      if (!any_inside(place, first, until)) continue;
      for (int64_t i = first; i < until; i++, queries++)
        which[queries] = i, place.row[queries] = place.row[i], place.column[queries] = place.column[i];
    }
  }

  OffsetBias offset_bias(int64_t tile, int t) const {
    OffsetBias result{{}, offset, masked ? mask + t * REGIONS * TILE : nullptr, region};
    for (int g = 0; g < GROUPS; g++) {
      int64_t q = tile * TILE + g * LANES;
      // Beyond the last query anything will do.
      int64_t i = q < queries ? which[q] : 0;
      if (a.bias)
        result.table[g] = a.bias + head * a.bias_head + offset[i] +
                          (a.windows.window[0] - 1) * (2 * a.windows.window[1] - 1) + a.windows.window[1] - 1;
      if (masked)
        for (int r = 0; r < REGIONS; r++)
          for (int l = 0; l < LANES; l++)
            mask[(t * REGIONS + r) * TILE + g * LANES + l] = region[i + l] == r ? 0 : a.masked;
    }
    return result;
  }

  template <class Bias> void run(int64_t first, int64_t until, const Bias &bias_of) {
    Tokens<T> from(a.query, place, head), to(a.output, place, head);
    for (; first < until; first += TILES) {
      int count = until - first < TILES ? until - first : TILES;
      Tile tile[TILES];
      decltype(bias_of(0, 0)) bias[TILES];
      for (int t = 0; t < count; t++) {
        tile[t].query = query + t * TILE * channels, tile[t].sum = sum + t * TILE * channels;
        tile[t].keys = tile[t].values = channels;
        tile[t].start();
        pack_tile(from, (first + t) * TILE, queries, channels, LOG2_E, query + t * TILE * channels);
        bias[t] = bias_of(first + t, t);
      }
      for (int64_t j = 0; j < tokens; j += BLOCK)
        for (int t = 0; t < count; t++) {
          int64_t keys = tokens - j < BLOCK ? tokens - j : BLOCK;
          Run<decltype(bias_of(0, 0))> block{key + j * channels, value + j * channels, keys, channels, bias[t].from(j)};
          attend(tile[t], &block, 1, weight);
        }
      for (int t = 0; t < count; t++) {
        tile[t].finish();
        unpack_tile(tile[t].sum, tile[t].total, to, (first + t) * TILE, queries, channels);
      }
    }
  }

  const Arguments &a;
  int64_t head;
  Edges edges;
  int channels;
  int64_t tokens, queries; // of the window; those whose results are written
  Place place;             // of all tokens, then of the queries
  int32_t *offset, *region, *which; // of all tokens; which of these the queries are
  float *key, *value, *query, *sum, *weight, *mask;
  bool masked;
};

} // namespace

extern "C" int exact_attention(const Arguments *arguments, Parallel parallel, int threads) {
  const Arguments &a = *arguments;
  auto task = [&](int64_t number, float *memory) {
    // Windows of a head follow each other, so that its bias stays in the cache.
    int64_t part = number % a.parts, window = number / a.parts % a.windows.count();
    int64_t head = number / a.parts / a.windows.count();
    if (a.half) Window<bfloat16>(a, head, window, memory).attend_part(part, a.parts);
    else Window<float>(a, head, window, memory).attend_part(part, a.parts);
  };
  return run_tasks(task, a.windows.heads * a.windows.count() * a.parts, Window<float>::room(a), parallel, threads);
}

#ifndef DIGEST
#define DIGEST ""
#endif
// Of the sources that this object was made of.
extern "C" const char *sources_digest() { return DIGEST; }

extern "C" int tile_size() { return TILE; }
extern "C" int lane_count() { return LANES; }
