// Where tokens lie: windows of feature maps (B, H, W, heads, channels) of any strides, read and written in place.
#pragma once
#include "tiles.h"

// Strides in elements; the channels of a head lie side by side.
struct Map {
  void *data;
  int64_t image, row, column, head;
};

// Windows of maps of H×W tokens that were rolled by `shift` (up, left) before they were cut; `window` divides the map.
struct Windows {
  int64_t images, height, width, heads, channels;
  int64_t window[2], shift[2];
  // Windows of an image along each axis, by which the last ones are known, also where the maps are single windows.
  int64_t grid[2];

  int64_t rows() const { return height / window[0]; }
  int64_t columns() const { return width / window[1]; }
  int64_t count() const { return images * rows() * columns(); }
  int64_t tokens() const { return window[0] * window[1]; }
};

// One window: its image and, for each of its tokens in the order of the program, row and column of the map.
struct Place {
  int64_t image, window_row, window_column;
  int32_t *row, *column;
};

// Find the tokens of a window; `order`: their numbers in the program's order, or null for row by row.
INLINE void locate(const Windows &windows, int64_t number, const int32_t *order, Place &place) {
  place.window_column = number % windows.columns();
  place.window_row = number / windows.columns() % windows.rows();
  place.image = number / windows.columns() / windows.rows();
  int64_t top = place.window_row * windows.window[0] + windows.shift[0];
  int64_t left = place.window_column * windows.window[1] + windows.shift[1];
  for (int64_t i = 0; i < windows.tokens(); i++) {
    int64_t token = order ? order[i] : i;
    int64_t row = top + token / windows.window[1], column = left + token % windows.window[1];
    place.row[i] = row < windows.height ? row : row - windows.height;
    place.column[i] = column < windows.width ? column : column - windows.width;
  }
}

// Tokens of one head in a window of a map of elements T.
template <class T> struct Tokens {
  T *data;
  const Map &map;
  const Place &place;

  Tokens(const Map &map, const Place &place, int64_t head)
      : data((T *)map.data + place.image * map.image + head * map.head), map(map), place(place) {}
  T *operator[](int64_t i) const { return data + place.row[i] * map.row + place.column[i] * map.column; }
};

INLINE int first_of_part(int part, int channels) {
  // The last part of the channels overlaps the one before it, so that every access is a whole vector.
  return part + LANES <= channels || channels < LANES ? part : channels - LANES;
}

// Copy tokens to rows of `channels` floats.
template <class T> INLINE void pack_rows(const Tokens<T> &from, int64_t count, int channels, float *to) {
  for (int64_t i = 0; i < count; i++, to += channels) {
    const T *row = from[i];
    if (channels < LANES)
      for (int c = 0; c < channels; c++) to[c] = widened(row[c]);
    else
      for (int part = 0; part < channels; part += LANES) {
        int c = first_of_part(part, channels);
        store(to + c, load(row + c));
      }
  }
}

// Copy TILE tokens from the given one on, times a factor, to (channels, TILE); zeros beyond `count` tokens.
template <class T>
INLINE void pack_tile(const Tokens<T> &from, int64_t first, int64_t count, int channels, float factor, float *to) {
  for (int g = 0; g < GROUPS; g++)
    for (int part = 0; part < channels; part += LANES) {
      int start = first_of_part(part, channels), width = channels < LANES ? channels : LANES;
      Floats x[LANES];
      UNROLL for (int l = 0; l < LANES; l++) {
        int64_t i = first + g * LANES + l;
        x[l] = Floats{};
        if (i >= count) continue;
        if (width == LANES) x[l] = load(from[i] + start) * factor;
        else
          for (int c = 0; c < width; c++) x[l][c] = widened(from[i][c]) * factor;
      }
      transpose(x);
      for (int c = 0; c < width; c++) store(to + (start + c) * TILE + g * LANES, x[c]);
    }
}

// Write (channels, TILE), each lane divided by its total, to TILE tokens from the given one on, as many as there are.
template <class T>
INLINE void unpack_tile(const float *from, const Floats *total, const Tokens<T> &to, int64_t first, int64_t count,
                        int channels) {
  for (int g = 0; g < GROUPS; g++) {
    Floats scale = 1.f / total[g];
    for (int part = 0; part < channels; part += LANES) {
      int start = first_of_part(part, channels), width = channels < LANES ? channels : LANES;
      Floats x[LANES];
      UNROLL for (int c = 0; c < LANES; c++)
        x[c] = c < width ? load(from + (start + c) * TILE + g * LANES) * scale : Floats{};
      transpose(x);
      UNROLL for (int l = 0; l < LANES; l++) {
        int64_t i = first + g * LANES + l;
        if (i >= count) continue;
        if (width == LANES) store(to[i] + start, x[l]);
        else {
          T row[LANES];
          store(row, x[l]);
          memcpy(to[i], row, width * sizeof(T));
        }
      }
    }
  }
}
