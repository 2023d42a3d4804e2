// Content pooling, see `nystra/kernels/content_pooling.py`: blocks of queries and cells of keys by content.
#include "clusters.h"
#include "maps.h"
#include "pooling.h"

namespace {

// Tiles of queries that meet a block of rows while it is in the cache.
constexpr int TILES = 4;

struct Arguments : Attention {
  // Further channels of queries and keys, whose products are mask and bias: (kinds, heads or 1, N, further), or null. The
  // first of them, `masks`, are the mask.
  const float *further_query, *further_key;
  int64_t further, further_kind, further_head, masks;
  // Bias of near cells, of all offsets from key to query, in units of log2: (heads or 1, 2h - 1, 2w - 1), or null: it is
  // in the further channels.
  const float *bias;
  int64_t bias_head;
  // Blocks of queries, cells of keys, and how each level of a tree splits every node of its.
  int64_t blocks, cells, near;
  const int32_t *query_parts, *key_parts;
  int64_t query_levels, key_levels;
};

struct Sizes {
  int64_t tokens;
  Parts block, cell;
  int64_t seen; // rows at most
  int channels, query_stride;
  Layout layout;

  explicit Sizes(const Arguments &a)
      : tokens(a.windows.tokens()), block{tokens, a.blocks}, cell{tokens, a.cells},
        seen(a.cells - a.near + a.near * cell.largest()), channels(a.windows.channels),
        query_stride((channels + a.further + LANES - 1) / LANES * LANES),
        layout{channels + (int)a.further, channels} {}
};

template <class T> class Window {
public:
  Window(const Arguments &a, int64_t head, int64_t number, float *memory)
      : a(a), size(a), stride(size.layout.stride()), head(head), arena(memory),
        query_tree(size.tokens, size.query_stride, arena), key_tree(size.tokens, stride, arena) {
    place.row = arena.take<int32_t>(size.tokens), place.column = arena.take<int32_t>(size.tokens);
    ordered.row = arena.take<int32_t>(size.tokens), ordered.column = arena.take<int32_t>(size.tokens);
    by_query = arena.take<int32_t>(size.tokens), by_key = arena.take<int32_t>(size.tokens);
    near = arena.take<int32_t>(a.near * TILE);
    wanted = arena.take<int32_t>(a.blocks), other = arena.take<int32_t>(size.block.largest());
    offset_place = arena.take<int32_t>(size.tokens), near_place = arena.take<int32_t>(a.near * size.cell.largest());
    query = arena.take(size.tokens * size.query_stride), pair = arena.take(size.tokens * stride);
    scale = arena.take(3 * stride + size.query_stride);
    mean_row = arena.take(TILE * size.query_stride), mean = arena.take(TILE * size.query_stride);
    cell = arena.take(size.cell.largest() * stride), summary = arena.take(TILE * a.cells * stride);
    score = arena.take(a.cells * TILE), seen = arena.take(size.seen * stride);
    tile_query = arena.take(TILES * TILE * size.query_stride), sum = arena.take(TILES * TILE * stride);
    weight = arena.take(BLOCK * TILE);
    locate(a.windows, number, nullptr, place);
    int64_t width = a.windows.window[1];
    for (int64_t i = 0; i < size.tokens; i++) offset_place[i] = i / width * (2 * width - 1) + i % width;
    ordered.image = place.image;
    pack(Edges(a.windows, number).kind(a.kinds));
  }

  static size_t room(const Arguments &a) {
    Sizes size(a);
    size_t stride = size.layout.stride(), tokens = size.tokens;
    return Tree::room(tokens, size.query_stride) + Tree::room(tokens, stride) + 7 * Arena::room(tokens) +
           Arena::room(a.near * TILE) + Arena::room(a.blocks) + Arena::room(size.block.largest()) +
           Arena::room(a.near * size.cell.largest()) +
           Arena::room(tokens * size.query_stride) + Arena::room(tokens * stride) +
           Arena::room(3 * stride + size.query_stride) + 2 * Arena::room(TILE * size.query_stride) +
           Arena::room(size.cell.largest() * stride) + Arena::room(TILE * a.cells * stride) + Arena::room(a.cells * TILE) +
           Arena::room(size.seen * stride) + Arena::room(TILES * TILE * size.query_stride) +
           Arena::room(TILES * TILE * stride) + Arena::room(BLOCK * TILE);
  }

  void attend_all() {
    cluster();
    for (int64_t first = 0; first < a.blocks; first += TILE) {
      int64_t count = a.blocks - first < TILE ? a.blocks - first : TILE;
      summarise_cells(first, count);
      choose();
      for (int64_t block = 0; block < count; block++) {
        if (!wanted[first + block]) continue;
        gather(block);
        attend_block(first + block);
      }
    }
  }

private:
  void pack(int64_t kind) {
    const Layout &layout = size.layout;
    // Zeros behind the channels, in at most two vectors.
    int last = stride - LANES, behind = layout.squares() < last ? layout.squares() : last;
    for (int64_t i = 0; i < size.tokens; i++) {
      store(query + (i + 1) * size.query_stride - LANES, Floats{});
      store(pair + i * stride + behind, Floats{}), store(pair + i * stride + last, Floats{});
    }
    pack_rows(Tokens<T>(a.query, place, head), 0, size.tokens, size.channels, LOG2_E, query, size.query_stride);
    pack_rows(Tokens<T>(a.key, place, head), 0, size.tokens, size.channels, 1, pair, stride);
    pack_rows(Tokens<T>(a.value, place, head), 0, size.tokens, size.channels, 1, pair + layout.keys, stride);
    int64_t from = kind * a.further_kind + head * a.further_head;
    for (int64_t i = 0; i < size.tokens; i++) {
      for (int c = 0; c < a.further; c++) {
        query[i * size.query_stride + size.channels + c] = a.further_query[from + i * a.further + c] * LOG2_E;
        pair[i * stride + size.channels + c] = a.further_key[from + i * a.further + c];
      }
    }
    square(0, layout.keys, layout.squares());
    square(layout.keys, layout.squares(), layout.squares() + 1);
  }

  // Write the square of each row's length from one channel to before another.
  void square(int from, int until, int to) {
    int first = from / LANES * LANES;
    for (int c = first; c < until + LANES; c++) scale[c] = c >= from && c < until;
    for (int64_t i = 0; i < size.tokens; i += LANES) {
      int count = size.tokens - i < LANES ? size.tokens - i : LANES;
      Floats x[LANES];
      UNROLL for (int l = 0; l < LANES; l++) {
        const float *row = pair + (i + (l < count ? l : 0)) * stride;
        x[l] = Floats{};
        for (int part = first; part < until; part += LANES) {
          Floats y = load(row + part);
          x[l] += y * y * load(scale + part);
        }
      }
      Floats squares = sums(x);
      for (int l = 0; l < count; l++) pair[(i + l) * stride + to] = squares[l];
    }
  }

  static float at_least(float spread) { return spread > SPREAD_EPSILON ? spread : SPREAD_EPSILON; }

  // Put queries into blocks, and keys with their values, scaled to the keys' spread, into cells. Further channels count by
  // how much they move logits, as a head's own do.
  void cluster() {
    const Layout &layout = size.layout;
    float *query_weight = scale, *key_weight = query_weight + size.query_stride;
    float *sum = key_weight + stride, *square = sum + stride;
    for (int64_t i = 0; i < size.tokens; i++) by_key[i] = i;
    float power = 0, spread[2]{};
    if (a.further) {
      moments({query, size.query_stride, nullptr}, by_key, size.tokens, sum, square);
      for (int c = 0; c < layout.keys; c++) {
        square[c] = square[c] / size.tokens + query[c] * (2 * sum[c] / size.tokens + query[c]);
        if (c < size.channels) power += square[c] / size.channels;
      }
    }
    for (int c = 0; c < layout.keys; c++) key_weight[c] = c < size.channels ? 1 : square[c] / at_least(power);
    moments({pair, stride, nullptr}, by_key, size.tokens, sum, square);
    for (int c = 0; c < layout.squares(); c++) {
      square[c] = square[c] / size.tokens - sum[c] / size.tokens * (sum[c] / size.tokens);
      if (c < size.channels || c >= layout.keys) spread[c >= layout.keys] += square[c] / size.channels;
    }
    for (int c = 0; c < size.query_stride; c++)
      query_weight[c] = c < size.channels ? 1 : c < layout.keys ? square[c] / at_least(spread[0]) : 0;
    float ratio = spread[0] / at_least(spread[1]);
    for (int c = layout.keys; c < stride; c++) key_weight[c] = c < layout.squares() ? ratio : 0;
    query_tree.order({query, size.query_stride, query_weight}, a.query_parts, a.query_levels, by_query);
    key_tree.order({pair, stride, key_weight}, a.key_parts, a.key_levels, by_key);
    for (int64_t block = 0; block < a.blocks; block++) put_wanted_first(block);
    for (int64_t i = 0; i < size.tokens; i++)
      ordered.row[i] = place.row[by_query[i]], ordered.column[i] = place.column[by_query[i]];
  }

  // Put the queries of a block whose results are written before the others, in their order.
  void put_wanted_first(int64_t block) {
    int64_t begin = size.block.begin(block), until = size.block.begin(block + 1), others = 0;
    wanted[block] = 0;
    for (int64_t i = begin; i < until; i++) {
      if (place.inside(by_query[i])) by_query[begin + wanted[block]++] = by_query[i];
      else other[others++] = by_query[i];
    }
    for (int64_t i = 0; i < others; i++) by_query[begin + wanted[block] + i] = other[i];
  }

  // Summaries of all cells for as many blocks from the first on as a tile has lanes.
  void summarise_cells(int64_t first, int64_t count) {
    int32_t number[TILE];
    for (int64_t b = 0; b < count; b++) {
      number[b] = b;
      const int32_t *token = by_query + size.block.begin(first + b);
      int64_t members = size.block.size(first + b);
      for (int part = 0; part < size.query_stride; part += LANES) {
        Floats sum{};
        for (int64_t i = 0; i < members; i++) sum += load(query + token[i] * (int64_t)size.query_stride + part);
        store(mean_row + b * size.query_stride + part, sum * (1.f / members));
      }
    }
    tile_of_rows(mean_row, size.query_stride, number, count, size.layout.keys, mean);
    for (int64_t c = 0; c < a.cells; c++) {
      copy_rows(pair, by_key + size.cell.begin(c), size.cell.size(c), stride, cell);
      summarise(mean, cell, size.cell.size(c), size.layout, sum, weight, summary + c * stride, a.cells * stride,
                score + c * TILE);
    }
  }

  // Choose the cells whose summaries would be worst, for each block of a tile: `near` and, as scores, -inf.
  void choose() {
    for (int g = 0; g < GROUPS; g++)
      for (int64_t i = 0; i < a.near; i++) {
        Floats most = broadcast(-INFINITY);
        Ints chosen{};
        for (int64_t c = 0; c < a.cells; c++) {
          Floats x = load(score + c * TILE + g * LANES);
          chosen = x > most ? Ints{} + (int32_t)c : chosen;
          most = larger(x, most);
        }
        for (int l = 0; l < LANES; l++) {
          near[i * TILE + g * LANES + l] = chosen[l];
          score[chosen[l] * TILE + g * LANES + l] = -INFINITY;
        }
      }
  }

  // Gather the rows that a block sees: the tokens of its near cells, and the others' summaries.
  void gather(int64_t block) {
    near_count = 0;
    for (int64_t i = 0; i < a.near; i++) {
      int64_t c = near[i * TILE + block], count = size.cell.size(c);
      const int32_t *token = by_key + size.cell.begin(c);
      copy_rows(pair, token, count, stride, seen + near_count * stride);
      for (int64_t j = 0; j < count; j++) near_place[near_count++] = offset_place[token[j]];
    }
    float *to = seen + near_count * stride;
    for (int64_t c = 0; c < a.cells; c++) {
      if (score[c * TILE + block] == -INFINITY) continue;
      copy_row(summary + (block * a.cells + c) * stride, to, stride);
      to += stride;
    }
  }

  void attend_block(int64_t block) {
    Tokens<T> outputs(a.output, ordered, head);
    int64_t first = size.block.begin(block), until = first + wanted[block];
    for (; first < until; first += TILES * TILE) {
      Tile tile[TILES];
      int count = 0;
      for (; count < TILES && first + count * TILE < until; count++) {
        int64_t token = first + count * TILE;
        float *packed = tile_query + count * TILE * size.query_stride;
        tile[count].query = packed, tile[count].sum = sum + count * TILE * stride;
        tile[count].keys = size.layout.keys, tile[count].values = size.layout.values;
        tile[count].start();
        tile_of_rows(query, size.query_stride, by_query + token, until - token, size.layout.keys, packed);
      }
      int64_t exact = a.bias ? near_count : 0, rows = near_count + a.cells - a.near;
      if (exact) attend_near(tile, count, first, until, exact);
      attend_rows(tile, count, seen + exact * stride, rows - exact, size.layout, weight);
      for (int t = 0; t < count; t++) {
        tile[t].finish();
        unpack_tile(tile[t].sum, tile[t].total, outputs, first + t * TILE, until, size.channels);
        unpack_masses(tile[t], a.mass, ordered, head, first + t * TILE, until);
      }
    }
  }

  // Attend tiles, of queries from the first on, to the near tokens with their exact bias: without its channels.
  void attend_near(Tile *tile, int tiles, int64_t first, int64_t until, int64_t count) {
    int64_t width = a.windows.window[1];
    const float *middle = a.bias + head * a.bias_head + (a.windows.window[0] - 1) * (2 * width - 1) + width - 1;
    for (int t = 0; t < tiles; t++, first += TILE) {
      alignas(64) int32_t query_place[TILE];
      for (int64_t l = 0; l < TILE; l++)
        query_place[l] = offset_place[by_query[first + l < until ? first + l : until - 1]];
      tile[t].keys = size.channels + a.masks;
      for (int64_t j = 0; j < count; j += BLOCK) {
        const float *row = seen + j * stride;
        Run<OffsetBias> run{row, row + size.layout.keys, count - j < BLOCK ? count - j : BLOCK, stride,
                            OffsetBias{middle, query_place, near_place + j}};
        attend(tile[t], &run, 1, weight);
      }
      tile[t].keys = size.layout.keys;
    }
  }

  const Arguments &a;
  Sizes size;
  int stride;
  int64_t head, near_count; // tokens of a block's near cells
  Arena arena;
  Tree query_tree, key_tree;
  Place place, ordered; // row by row; block by block
  int32_t *by_query, *by_key, *near, *offset_place, *near_place; // places: see `OffsetBias`
  int32_t *wanted, *other; // queries of each block whose results are written; room for those of one that are not
  float *query, *pair, *scale, *mean_row, *mean, *cell, *summary, *score, *seen, *tile_query, *sum, *weight;
};

} // namespace

extern "C" int content_pooling(const Arguments *arguments, Parallel parallel, int threads) {
  const Arguments &a = *arguments;
  auto task = [&](int64_t number, float *memory) {
    int64_t window = number / a.windows.heads, head = number % a.windows.heads;
    if (a.half) Window<bfloat16>(a, head, window, memory).attend_all();
    else Window<float>(a, head, window, memory).attend_all();
  };
  return run_tasks(task, a.windows.heads * a.windows.count(), Window<float>::room(a), parallel, threads);
}
