// Landmark-centred pooling within windows: a query attends to the tokens of a few near cells, and to one summary of every
// other cell that is made for the mean query of its block, its landmark.
//
// Summaries are made of tiles whose lanes are landmarks, outputs of tiles whose lanes are queries of one block.
#include "maps.h"
#include "tasks.h"

namespace {

// Keys that a tile attends to together.
constexpr int64_t TOGETHER = 192;
constexpr int RUNS = 16;

// A tile's queries, of one block, and the exact tokens that any of them sees. Tokens have their numbers in the cells'
// order.
struct Queries {
  int32_t block, first, count;
  int32_t run, runs; // the first of its runs and their number
  int32_t row;       // the first of its rows in the table
};
// Cells side by side.
struct Exact {
  int32_t first, count;
};

// What windows of one kind have in common. Tables are in units of log2.
struct Kind {
  const Queries *tile;
  int64_t tiles;
  const Exact *run;
  // Bias of landmarks to all tokens, (heads or 1, m / TILE, N, TILE), or null.
  const float *mean;
  int64_t mean_head;
  // Bias of a tile's queries to the summaries of its block, then to the tokens of its runs, -∞ where a query does not see
  // them: (heads or 1, rows, TILE). Or null: there is no bias, and every query sees its tile's tokens exactly.
  const float *bias;
  int64_t bias_head;
};

struct Arguments : Attention {
  const int32_t *order;  // numbers of a window's tokens, row by row, in the cells' order
  int64_t blocks, cells; // m and s of a window, m divides s
  const int32_t *begin;  // the first token of each cell, and their number: (s + 1)
  const Kind *kind;
};

// A number for each key, or null, and a table of every key of the tile, or null.
struct Bias {
  const float *offset, *table;
};
struct OffsetBias {
  const float *offset;
  Floats at(int x, int) const { return broadcast(offset[x]); }
  OffsetBias from(int64_t j) const { return {offset + j}; }
};
struct OffsetTableBias {
  const float *offset, *table;
  Floats at(int x, int g) const { return offset[x] + load(table + x * TILE + g * LANES); }
  OffsetTableBias from(int64_t j) const { return {offset + j, table + j * TILE}; }
};

INLINE void all_logits(const float *query, const Run<Bias> &run, int channels, float *to, Floats *top) {
  auto with = [&](auto bias) {
    ::all_logits(query, Run<decltype(bias)>{run.key, run.value, run.count, run.stride, bias}, channels, to, top);
  };
  if (run.bias.offset && run.bias.table) with(OffsetTableBias{run.bias.offset, run.bias.table});
  else if (run.bias.offset) with(OffsetBias{run.bias.offset});
  else if (run.bias.table) with(TableBias{run.bias.table});
  else with(NoBias{});
}

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// What the tasks of one window and head share.
struct Shared {
  float *row;     // keys and values side by side, (N, 2d), in the cells' order
  float *summary; // the same of summaries, (m, s, 2d)
  float *offset;  // what is added to the summaries' logits, (m, s)

  Shared(const Arguments &a, float *memory) {
    Arena arena(memory);
    int64_t stride = 2 * a.windows.channels;
    row = arena.take(a.windows.tokens() * stride);
    summary = arena.take(a.blocks * a.cells * stride), offset = arena.take(a.blocks * a.cells);
  }
  static size_t room(const Arguments &a) {
    int64_t stride = 2 * a.windows.channels;
    return Arena::room(a.windows.tokens() * stride) + Arena::room(a.blocks * a.cells * stride) +
           Arena::room(a.blocks * a.cells);
  }
};

template <class T> class Window {
public:
  Window(const Arguments &a, int64_t head, int64_t number, const Shared &shared, float *memory)
      : a(a), kind(a.kind[Edges(a.windows, number).kind(a.kinds)]), shared(shared), head(head),
        channels(a.windows.channels), tokens(a.windows.tokens()), groups(groups_of(a)) {
    Arena arena(memory);
    place.row = arena.take<int32_t>(tokens), place.column = arena.take<int32_t>(tokens);
    landmark = arena.take(groups * channels * TILE), offset = arena.take(a.cells);
    query = arena.take(channels * TILE), sum = arena.take(2 * channels * TILE), weight = arena.take(TOGETHER * TILE);
    locate(a.windows, number, a.order, place);
  }

  static size_t room(const Arguments &a) {
    int64_t tokens = a.windows.tokens(), channels = a.windows.channels;
    return 2 * Arena::room(tokens) + Arena::room(groups_of(a) * channels * TILE) + Arena::room(a.cells) +
           Arena::room(channels * TILE) + Arena::room(2 * channels * TILE) + Arena::room(TOGETHER * TILE);
  }

  // Read the keys and values of cells from the first to before the last, and make their summaries for all blocks.
  void summarise(int64_t first, int64_t until) {
    if (first == until) return;
    find_landmarks();
    int64_t from = a.begin[first], end = a.begin[until];
    pack_rows(Tokens<T>(a.key, place, head), from, end, channels, 1, row(from), 2 * channels);
    pack_rows(Tokens<T>(a.value, place, head), from, end, channels, 1, row(from) + channels, 2 * channels);
    for (int64_t group = 0; group < groups; group++)
      for (int64_t cell = first; cell < until; cell++) summarise_cell(group, cell);
  }

  // Attend for tiles from a part to before the next, of a number of parts.
  void attend_part(int64_t part, int64_t parts) {
    for (int64_t i = part * kind.tiles / parts; i < (part + 1) * kind.tiles / parts; i++) attend_tile(kind.tile[i]);
  }

private:
  static int64_t groups_of(const Arguments &a) { return (a.blocks + TILE - 1) / TILE; }
  float *row(int64_t token) const { return shared.row + token * 2 * channels; }

  void find_landmarks() {
    Tokens<T> queries(a.query, place, head);
    int64_t inner = a.cells / a.blocks;
    memset(landmark, 0, sizeof(float) * groups * channels * TILE);
    for (int64_t block = 0; block < a.blocks; block++) {
      int64_t from = a.begin[block * inner], end = a.begin[(block + 1) * inner];
      for (int part = 0; part < channels; part += LANES) {
        int start = first_of_part(part, channels), width = channels < LANES ? channels : LANES;
        Floats mean{};
        for (int64_t i = from; i < end; i++) {
          if (!part) queries.expect(i, tokens, channels);
          mean += load_some(queries[i] + start, width);
        }
        mean *= LOG2_E / (end - from);
        float *to = landmark + (block / TILE * channels + start) * TILE + block % TILE;
        for (int c = 0; c < width; c++) to[c * TILE] = mean[c];
      }
    }
  }

  void summarise_cell(int64_t group, int64_t cell) {
    int64_t end = a.begin[cell + 1];
    Tile tile;
    tile.query = landmark + group * channels * TILE, tile.sum = sum;
    tile.keys = channels, tile.values = 2 * channels;
    tile.start();
    for (int64_t j = a.begin[cell]; j < end; j += TOGETHER) {
      const float *table = kind.mean ? kind.mean + head * kind.mean_head + (group * tokens + j) * TILE : nullptr;
      Run<Bias> run{row(j), row(j), least(end - j, TOGETHER), 2 * channels, Bias{nullptr, table}};
      attend(tile, &run, 1, weight);
    }
    tile.finish();
    for (int g = 0; g < GROUPS; g++) {
      Floats product{};
      for (int c = 0; c < channels; c++)
        product += load(tile.query + c * TILE + g * LANES) * load(sum + c * TILE + g * LANES);
      // The logit of a summary is that of its mass at the landmark, and changes with the query as that of its key.
      Floats mass = tile.top[g] + log2(tile.total[g]) - product / tile.total[g];
      float *to[LANES];
      for (int l = 0; l < LANES; l++) {
        int64_t block = group * TILE + g * LANES + l;
        to[l] = block < a.blocks ? shared.summary + (block * a.cells + cell) * 2 * channels : nullptr;
        if (to[l]) shared.offset[block * a.cells + cell] = mass[l];
      }
      unpack(sum + g * LANES, 1.f / tile.total[g], to, 2 * channels);
    }
  }

  void attend_tile(const Queries &queries) {
    int64_t until = queries.first + queries.count;
    // Beyond the edges of a map results are not written.
    if (!any_inside(place, queries.first, until)) return;
    Tile tile;
    tile.query = query, tile.sum = sum, tile.keys = tile.values = channels;
    tile.start();
    pack_tile(Tokens<T>(a.query, place, head), queries.first, until, channels, LOG2_E, query);
    const float *table = kind.bias ? kind.bias + head * kind.bias_head + (int64_t)queries.row * TILE : nullptr;
    Run<Bias> runs[RUNS];
    int count = 0;
    int64_t left = TOGETHER;
    auto see = [&](const float *key, int64_t keys, const float *offset) {
      while (keys) {
        int64_t some = least(keys, left);
        runs[count++] = {key, key + channels, some, 2 * channels, Bias{offset, table}};
        keys -= some, left -= some, key += some * 2 * channels;
        if (offset) offset += some;
        if (table) table += some * TILE;
        if (left && count < RUNS) continue;
        attend_runs(tile, runs, count);
        count = 0, left = TOGETHER;
      }
    };
    const Exact *exact = kind.run + queries.run;
    see(shared.summary + queries.block * a.cells * 2 * channels, a.cells, offsets(queries));
    for (int i = 0; i < queries.runs; i++) {
      int64_t first = a.begin[exact[i].first], until = a.begin[exact[i].first + exact[i].count];
      see(row(first), until - first, nullptr);
    }
    if (count) attend_runs(tile, runs, count);
    tile.finish();
    unpack_tile(tile.sum, tile.total, Tokens<T>(a.output, place, head), queries.first, until, channels);
    unpack_masses(tile, a.mass, place, head, queries.first, until);
  }

  __attribute__((noinline)) void attend_runs(Tile &tile, const Run<Bias> *runs, int count) {
    attend(tile, runs, count, weight);
  }

  // What is added to the logits of summaries: -∞ where their tokens are seen, unless the table says so. It is added, so
  // that a summary that is not a number is seen, as in a softmax of all logits.
  const float *offsets(const Queries &queries) {
    const float *all = shared.offset + queries.block * a.cells;
    if (kind.bias || !queries.runs) return all;
    memcpy(offset, all, a.cells * sizeof(float));
    for (int i = 0; i < queries.runs; i++) {
      const Exact &exact = kind.run[queries.run + i];
      for (int64_t cell = exact.first; cell < exact.first + exact.count; cell++) offset[cell] -= __builtin_inff();
    }
    return offset;
  }

  const Arguments &a;
  const Kind &kind;
  Shared shared;
  int64_t head;
  int channels;
  int64_t tokens, groups; // of landmarks
  Place place;
  float *landmark, *offset, *query, *sum, *weight;
};

template <class T> int pool(const Arguments &a, Parallel parallel, int threads) {
  int64_t count = a.windows.heads * a.windows.count();
  // Heads of a window follow each other: their tokens lie side by side, and those of the next are then in the cache.
  auto window = [&](int64_t number, const Shared &shared, float *memory) {
    return Window<T>(a, number % a.windows.heads, number / a.windows.heads, shared, memory);
  };
  if (threads == 1 || count >= 4 * threads) {
    auto task = [&](int64_t number, float *memory) {
      Window<T> whole = window(number, Shared(a, memory), memory + Shared::room(a));
      whole.summarise(0, a.cells);
      whole.attend_part(0, 1);
    };
    return run_tasks(task, count, Shared::room(a) + Window<T>::room(a), parallel, threads);
  }
  // Too few windows for the threads to share evenly: parts of windows, first of their summaries, then of their outputs.
  int64_t parts = (4 * threads + count - 1) / count;
  float *memory = (float *)aligned_alloc(64, count * Shared::room(a) * sizeof(float));
  if (!memory) return 1;
  auto shared = [&](int64_t number) { return Shared(a, memory + number * Shared::room(a)); };
  auto summaries = [&](int64_t task, float *memory) {
    int64_t number = task / parts, part = task % parts;
    window(number, shared(number), memory).summarise(part * a.cells / parts, (part + 1) * a.cells / parts);
  };
  auto outputs = [&](int64_t task, float *memory) {
    int64_t number = task / parts, part = task % parts;
    window(number, shared(number), memory).attend_part(part, parts);
  };
  int failed = run_tasks(summaries, count * parts, Window<T>::room(a), parallel, threads);
  if (!failed) failed = run_tasks(outputs, count * parts, Window<T>::room(a), parallel, threads);
  free(memory);
  return failed;
}

} // namespace

extern "C" int landmark_pooling(const Arguments *arguments, Parallel parallel, int threads) {
  const Arguments &a = *arguments;
  return a.half ? pool<bfloat16>(a, parallel, threads) : pool<float>(a, parallel, threads);
}
