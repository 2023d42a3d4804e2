// Where tokens lie: windows of feature maps (B, H, W, heads, channels) of any strides, read and written in place.
#pragma once
#include "tiles.h"

// Strides in elements; the channels of a head lie side by side.
struct Map {
  void *data;
  int64_t image, row, column, head;
};

// Maps cut into windows. Rows and columns that are cut need not be those of the maps: they may be rolled or reflected
// beyond the edges. `source` gives the map's row (column) of each; results are written where it is `inside`.
struct Windows {
  int64_t images, heads, channels;
  int64_t size[2], window[2]; // rows and columns that are cut, and of a window, which divides them
  const int32_t *source[2];
  int64_t inside[2][2]; // from the first to before the last
  // Windows of an image along each axis, by which the last ones are known, also where the maps are single windows.
  int64_t grid[2];

  int64_t along(int axis) const { return size[axis] / window[axis]; }
  int64_t count() const { return images * along(0) * along(1); }
  int64_t tokens() const { return window[0] * window[1]; }
};

// What every program of attention is given, before what is its own.
struct Attention {
  Windows windows;
  Map query, key, value, output;
  Map mass; // logarithms of how much all keys weigh for a query, floats, one a head; null: they are not wanted
  // Kinds of windows along each axis: 2 where the last windows hold opposite edges of the map, 1 where all are alike.
  int64_t kinds[2];
  int64_t half; // whether elements are bfloat16, not float
};

// Whether a window holds tokens of opposite edges of a shifted map, along each axis.
struct Edges {
  bool last[2];
  Edges(const Windows &windows, int64_t number)
      : last{number / windows.grid[1] % windows.grid[0] + 1 == windows.grid[0],
             number % windows.grid[1] + 1 == windows.grid[1]} {}
  // The number of the window's kind, of `kinds` along each axis: 2 where the last windows differ from the others, or 1.
  int64_t kind(const int64_t *kinds) const { return (kinds[0] > 1 && last[0]) * kinds[1] + (kinds[1] > 1 && last[1]); }
};

// One window: its image and, for each of its tokens in the order of the program, row and column of the map.
struct Place {
  int64_t image;
  int32_t *row, *column; // the row is -1 - row where results are not written

  bool inside(int64_t i) const { return row[i] >= 0; }
};

INLINE bool any_inside(const Place &place, int64_t first, int64_t until) {
  bool any = false;
  for (int64_t i = first; i < until; i++) any |= place.inside(i);
  return any;
}

// Find the tokens of a window; `order`: their numbers in the program's order, or null for row by row.
INLINE void locate(const Windows &windows, int64_t number, const int32_t *order, Place &place) {
  int64_t left = number % windows.along(1) * windows.window[1];
  int64_t top = number / windows.along(1) % windows.along(0) * windows.window[0];
  place.image = number / windows.along(1) / windows.along(0);
  auto put = [&](int64_t i, int64_t row, int64_t column) {
    bool inside = row >= windows.inside[0][0] && row < windows.inside[0][1] && column >= windows.inside[1][0] &&
                  column < windows.inside[1][1];
    place.row[i] = inside ? windows.source[0][row] : -1 - windows.source[0][row];
    place.column[i] = windows.source[1][column];
  };
  if (order) {
    uint32_t width = windows.window[1]; // divisions of 64 bits take several times as long
    for (int64_t i = 0; i < windows.tokens(); i++) put(i, top + order[i] / width, left + order[i] % width);
  } else {
    for (int64_t row = 0, i = 0; row < windows.window[0]; row++)
      for (int64_t column = 0; column < windows.window[1]; column++) put(i++, top + row, left + column);
  }
}

// Tokens of one head in a window of a map of elements T.
template <class T> struct Tokens {
  T *data;
  const Map &map;
  const Place &place;

  Tokens(const Map &map, const Place &place, int64_t head)
      : data((T *)map.data + place.image * map.image + head * map.head), map(map), place(place) {}
  T *operator[](int64_t i) const {
    int64_t row = place.inside(i) ? place.row[i] : -1 - place.row[i];
    return data + row * map.row + place.column[i] * map.column;
  }
  // Ask for the token that will be read some turns after the given one: rows of windows lie too far apart to be foreseen.
  void expect(int64_t i, int64_t until, int channels) const {
    constexpr int AHEAD = 8, LINE = 64;
    if (i + AHEAD >= until) return;
    const char *from = (const char *)(*this)[i + AHEAD];
    for (int64_t at = 0; at < channels * (int64_t)sizeof(T); at += LINE) __builtin_prefetch(from + at);
    __builtin_prefetch(from + channels * sizeof(T) - 1);
  }
};

INLINE int first_of_part(int part, int channels) {
  // The last part of the channels overlaps the one before it, so that every access is a whole vector.
  return part + LANES <= channels || channels < LANES ? part : channels - LANES;
}

// Copy tokens from the first to before the last, times a factor, to rows that begin `stride` apart.
template <class T>
INLINE void pack_rows(const Tokens<T> &from, int64_t first, int64_t until, int channels, float factor, float *to,
                      int stride) {
  int width = channels < LANES ? channels : LANES;
  for (int64_t i = first; i < until; i++, to += stride) {
    from.expect(i, until, channels);
    const T *row = from[i];
    for (int part = 0; part < channels; part += LANES) {
      int start = first_of_part(part, channels);
      store_some(to + start, load_some(row + start, width) * factor, width);
    }
  }
}

// Copy TILE tokens from the given one on, times a factor, to (channels, TILE); zeros beyond `count` tokens.
template <class T>
INLINE void pack_tile(const Tokens<T> &from, int64_t first, int64_t count, int channels, float factor, float *to) {
  for (int g = 0; g < GROUPS; g++) {
    const T *row[LANES];
    for (int l = 0; l < LANES; l++) {
      int64_t i = first + g * LANES + l;
      row[l] = i < count ? from[i] : nullptr;
    }
    for (int part = 0; part < channels; part += LANES) {
      int start = first_of_part(part, channels), width = channels < LANES ? channels : LANES;
      Floats x[LANES];
      UNROLL for (int l = 0; l < LANES; l++)
        x[l] = row[l] ? load_some(row[l] + start, width) * factor : Floats{};
      transpose(x);
      for (int c = 0; c < width; c++) store(to + (start + c) * TILE + g * LANES, x[c]);
    }
  }
}

// Write LANES columns of (channels, TILE), times a factor each, to rows; null: this one is not wanted.
template <class T> INLINE void unpack(const float *from, Floats factor, T *const *row, int channels) {
  int width = channels < LANES ? channels : LANES;
  for (int part = 0; part < channels; part += LANES) {
    int start = first_of_part(part, channels);
    Floats x[LANES];
    UNROLL for (int c = 0; c < LANES; c++) x[c] = c < width ? load(from + (start + c) * TILE) * factor : Floats{};
    transpose(x);
    UNROLL for (int l = 0; l < LANES; l++)
      if (row[l]) store_some(row[l] + start, x[l], width);
  }
}

// Write (channels, TILE), each lane divided by its total, to those of TILE tokens from the given one on that are there and
// inside.
template <class T>
INLINE void unpack_tile(const float *from, const Floats *total, const Tokens<T> &to, int64_t first, int64_t count,
                        int channels) {
  for (int g = 0; g < GROUPS; g++) {
    T *row[LANES];
    for (int l = 0; l < LANES; l++) {
      int64_t i = first + g * LANES + l;
      row[l] = i < count && to.place.inside(i) ? to[i] : nullptr;
    }
    unpack(from + g * LANES, 1.f / total[g], row, channels);
  }
}

// Write the logarithms of the masses of those of TILE tokens from the given one on that are there and inside.
INLINE void unpack_masses(const Tile &tile, const Map &mass, const Place &place, int64_t head, int64_t first,
                          int64_t count) {
  if (!mass.data) return;
  Tokens<float> to(mass, place, head);
  for (int g = 0; g < GROUPS; g++) {
    Floats x = (tile.top[g] + log2(tile.total[g])) * (1 / LOG2_E);
    for (int l = 0; l < LANES; l++) {
      int64_t i = first + g * LANES + l;
      if (i < count && place.inside(i)) *to[i] = x[l];
    }
  }
}
