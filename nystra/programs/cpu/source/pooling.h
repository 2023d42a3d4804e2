// Attention of a block of queries to summaries of cells of keys, and to the tokens of a few cells.
//
// Summaries and tokens are rows of one layout, so that a block attends to one run of them, whatever they are:
//
//     key | value | square of the key's length, of the value's | what is added to logits | nothing
#pragma once
#include "tasks.h"
#include "tiles.h"

struct Layout {
  int keys, values; // channels

  int squares() const { return keys + values; }
  int offset() const { return keys + values + 2; }
  int stride() const { return (offset() + LANES) / LANES * LANES; }
};

// What is added to the logits of each key, whatever the query.
struct KeyBias {
  const float *offset;
  int stride;
  Floats at(int x, int) const { return broadcast(offset[x * stride]); }
  KeyBias from(int64_t j) const { return {offset + j * stride, stride}; }
};

// Least variance of a cell, so that its logarithm is finite.
constexpr float SPREAD_EPSILON = 1e-12f;

INLINE void copy_row(const float *from, float *to, int stride) {
  for (int c = 0; c < stride; c += LANES) store(to + c, load(from + c));
}

// Copy rows by their numbers; null: one after the other.
INLINE void copy_rows(const float *from, const int32_t *number, int64_t count, int stride, float *to) {
  for (int64_t i = 0; i < count; i++) copy_row(from + number[i] * (int64_t)stride, to + i * stride, stride);
}

// TILE rows by their numbers → (channels, TILE); zeros beyond `count` rows.
INLINE void tile_of_rows(const float *row, int stride, const int32_t *number, int64_t count, int channels, float *to) {
  for (int g = 0; g < GROUPS; g++)
    for (int part = 0; part < channels; part += LANES) {
      Floats x[LANES];
      UNROLL for (int l = 0; l < LANES; l++) {
        int i = g * LANES + l;
        x[l] = i < count ? load(row + number[i] * (int64_t)stride + part) : Floats{};
      }
      transpose(x);
      for (int c = 0; c < LANES && part + c < channels; c++) store(to + (part + c) * TILE + g * LANES, x[c]);
    }
}

// A number for each offset from key to query, from the zero offset on. Tokens have places whose differences are offsets.
struct OffsetBias {
  const float *middle;
  const int32_t *query, *key; // (TILE), (keys)
  Floats at(int x, int g) const { return gather(middle, *(const Ints *)(query + g * LANES) - key[x]); }
  OffsetBias from(int64_t j) const { return {middle, query, key + j}; }
};

// Attend tiles, which share the rows, to all of them; `weight`: room for (BLOCK, TILE).
INLINE void attend_rows(Tile *tile, int tiles, const float *row, int64_t count, const Layout &layout, float *weight) {
  int stride = layout.stride();
  for (int64_t j = 0; j < count; j += BLOCK, row += BLOCK * stride) {
    Run<KeyBias> run{row, row + layout.keys, count - j < BLOCK ? count - j : BLOCK, stride,
                     KeyBias{row + layout.offset(), stride}};
    for (int t = 0; t < tiles; t++) attend(tile[t], &run, 1, weight);
  }
}

// Summarise the rows of one cell for a tile, whose lanes are the mean queries of blocks. Each sees, as one key, the mean
// of the keys by the block's own weights, with a logit that is right for the mean query.
//
// Args: `sum` room for (stride, TILE), `weight` for (BLOCK, TILE). Writes a row for each lane, `lane_stride` apart, and the
// logarithm of how much a summary errs, up to a constant: (TILE).
INLINE void summarise(const float *mean, const float *row, int64_t count, const Layout &layout, float *sum,
                      float *weight, float *to, int64_t lane_stride, float *score) {
  // Values of these tiles: keys, values and squares.
  Tile tile;
  tile.query = mean, tile.sum = sum, tile.keys = layout.keys, tile.values = layout.offset();
  tile.start();
  int stride = layout.stride();
  for (int64_t j = 0; j < count; j += BLOCK, row += BLOCK * stride) {
    Run<KeyBias> run{row, row, count - j < BLOCK ? count - j : BLOCK, stride, KeyBias{row + layout.offset(), stride}};
    attend(tile, &run, 1, weight);
  }
  for (int g = 0; g < GROUPS; g++) {
    Floats scale = 1.f / tile.total[g], product{}, length[2]{};
    for (int c = 0; c < layout.squares(); c++) {
      float *at = sum + c * TILE + g * LANES;
      Floats x = load(at) * scale;
      store(at, x);
      length[c >= layout.keys] += x * x;
      if (c < layout.keys) product += x * load(mean + c * TILE + g * LANES);
    }
    Floats mass = tile.top[g] + log2(tile.total[g]), spread = broadcast(1);
    for (int i = 0; i < 2; i++) {
      Floats square = load(sum + (layout.squares() + i) * TILE + g * LANES) * scale;
      spread *= larger(square - length[i], broadcast(SPREAD_EPSILON));
    }
    // A number, so that cells are chosen once each whatever they hold.
    store(score + g * LANES, larger(mass + 0.5f * log2(spread), broadcast(LOWEST)));
    store(sum + layout.offset() * TILE + g * LANES, mass - product);
    for (int part = 0; part < stride; part += LANES) {
      Floats x[LANES];
      UNROLL for (int l = 0; l < LANES; l++) x[l] = load(sum + (part + l) * TILE + g * LANES);
      transpose(x);
      UNROLL for (int l = 0; l < LANES; l++) store(to + (g * LANES + l) * lane_stride + part, x[l]);
    }
  }
}
