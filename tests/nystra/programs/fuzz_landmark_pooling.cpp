// The program of landmark-centred pooling, with tiles and tables of any kind that it can be given.
#include "landmark_pooling.cpp"
#include "fuzz.h"

// What windows of one kind have in common, in memory of exactly its size.
struct Tables {
  std::unique_ptr<Queries[]> tile;
  std::unique_ptr<Exact[]> run;
  std::unique_ptr<float[]> mean, bias;
  Kind kind{};

  Tables(Random &random, const Arguments &a, bool with_mean, bool with_bias) {
    int64_t tokens = a.windows.tokens(), rows = 0, block = 0;
    std::vector<Queries> tiles;
    std::vector<Exact> runs;
    int often = random.from(1, 4);
    for (int64_t first = 0; first < tokens;) {
      while (a.begin[(block + 1) * (a.cells / a.blocks)] <= first) block++;
      int64_t left = a.begin[(block + 1) * (a.cells / a.blocks)] - first, most = left < TILE ? left : TILE;
      int64_t count = random.once_in(4) ? random.from(1, most) : most, before = runs.size(), row = rows;
      rows += a.cells;
      for (int64_t cell = 0; cell < a.cells; cell++) {
        if (!random.once_in(often)) continue;
        if ((int64_t)runs.size() > before && runs.back().first + runs.back().count == cell && !random.once_in(3))
          runs.back().count++;
        else runs.push_back({(int32_t)cell, 1});
        rows += a.begin[cell + 1] - a.begin[cell];
      }
      tiles.push_back({(int32_t)block, (int32_t)first, (int32_t)count, (int32_t)before,
                       (int32_t)(runs.size() - before), (int32_t)row});
      first += count;
    }
    int64_t heads = random.once_in(3) ? 1 : a.windows.heads, groups = (a.blocks + TILE - 1) / TILE;
    auto table = [&](std::unique_ptr<float[]> &to, int64_t each, bool unseen) {
      to.reset(new float[heads * each]);
      for (int64_t i = 0; i < heads * each; i++) to[i] = unseen && random.once_in(5) ? -INFINITY : random.normal();
      return heads == 1 ? 0 : each;
    };
    tile = copied(tiles), run = copied(runs);
    kind.tile = tile.get(), kind.tiles = tiles.size(), kind.run = run.get();
    if (with_mean) kind.mean_head = table(mean, groups * tokens * TILE, false), kind.mean = mean.get();
    if (with_bias) kind.bias_head = table(bias, rows * TILE, true), kind.bias = bias.get();
  }
};

// Summaries of the cells for one block.
struct Summaries {
  std::vector<double> key, value, offset;

  Summaries(const Arguments &a, const Kind &kind, const Rows &rows, int64_t head, int64_t block) {
    int64_t tokens = a.windows.tokens(), channels = a.windows.channels, inner = a.cells / a.blocks;
    std::vector<double> landmark(channels);
    int64_t from = a.begin[block * inner], until = a.begin[(block + 1) * inner];
    for (int64_t i = from; i < until; i++)
      for (int64_t c = 0; c < channels; c++) landmark[c] += rows.query[i * channels + c] / (double)(until - from);
    for (int64_t cell = 0; cell < a.cells; cell++) {
      double total = 0, product = 0;
      int64_t size = a.begin[cell + 1] - a.begin[cell];
      std::vector<double> weight(size);
      for (int64_t j = 0; j < size; j++) {
        int64_t token = a.begin[cell] + j;
        int64_t place = head * kind.mean_head + (block / TILE * tokens + token) * TILE + block % TILE;
        weight[j] = kind.mean ? kind.mean[place] : 0;
        for (int64_t c = 0; c < channels; c++) weight[j] += landmark[c] * rows.key[token * channels + c];
      }
      double top = *std::max_element(weight.begin(), weight.end());
      for (double x : weight) total += std::exp2(x - top);
      softmax(weight);
      for (int64_t c = 0; c < channels; c++) {
        double k = 0, v = 0;
        for (int64_t j = 0; j < size; j++) {
          k += weight[j] * rows.key[(a.begin[cell] + j) * channels + c];
          v += weight[j] * rows.value[(a.begin[cell] + j) * channels + c];
        }
        key.push_back(k), value.push_back(v), product += landmark[c] * k;
      }
      offset.push_back(top + std::log2(total) - product);
    }
  }
};

template <class T> const char *run_landmark_pooling(Random &random, Numbers numbers) {
  Cut cut(random, random.once_in(6) ? 18 : 8, 1);
  int64_t tokens = cut.windows.tokens(), channels = cut.windows.channels;
  Maps<T> maps(random, cut);
  maps.fill(random, numbers, true);

  Arguments a{};
  maps.set(a);
  a.blocks = random.from(1, tokens), a.cells = a.blocks * random.from(1, tokens / a.blocks);
  // Sizes as the layouts of the package have them, or any.
  std::vector<int32_t> begins;
  for (int64_t cell = 0; cell <= a.cells; cell++) begins.push_back(cell * tokens / a.cells);
  for (int64_t cell = 1; cell < a.cells; cell++)
    if (random.once_in(4)) begins[cell] = random.from(begins[cell - 1] + 1, begins[cell + 1] - 1);
  std::unique_ptr<int32_t[]> begin = copied(begins);
  a.begin = begin.get();
  std::vector<int32_t> shuffled;
  for (int64_t i = 0; i < tokens; i++) shuffled.push_back(i);
  for (int64_t i = tokens - 1; i > 0; i--) std::swap(shuffled[i], shuffled[random.upto(i)]);
  std::unique_ptr<int32_t[]> order = copied(shuffled);
  a.order = order.get();
  for (int axis = 0; axis < 2; axis++) a.kinds[axis] = random.once_in(2) && cut.windows.grid[axis] > 1 ? 2 : 1;
  bool with_mean = random.once_in(2), with_bias = !random.once_in(3);
  std::vector<Tables> tables;
  std::vector<Kind> kinds;
  for (int64_t i = 0; i < a.kinds[0] * a.kinds[1]; i++) tables.emplace_back(random, a, with_mean, with_bias);
  for (Tables &table : tables) kinds.push_back(table.kind);
  std::unique_ptr<Kind[]> kind = copied(kinds);
  a.kind = kind.get();
  if (landmark_pooling(&a, random.once_in(4) ? nullptr : parallel, random.from(1, 3))) return "no memory";

  for (int64_t head = 0; head < cut.windows.heads; head++)
    for (int64_t window = 0; window < cut.windows.count(); window++) {
      Rows rows(maps, window, head, a.order);
      const Kind &kind = a.kind[cut.kind(window, a.kinds)];
      int64_t block = -1;
      std::unique_ptr<Summaries> far;
      for (int64_t t = 0; t < kind.tiles; t++) {
        const Queries &tile = kind.tile[t];
        if (tile.block != block) far.reset(new Summaries(a, kind, rows, head, block = tile.block));
        std::vector<bool> near(a.cells);
        std::vector<int64_t> seen;
        for (int32_t run = tile.run; run < tile.run + tile.runs; run++)
          for (int32_t cell = kind.run[run].first; cell < kind.run[run].first + kind.run[run].count; cell++) {
            near[cell] = true;
            for (int32_t j = a.begin[cell]; j < a.begin[cell + 1]; j++) seen.push_back(j);
          }
        for (int64_t lane = 0; lane < tile.count; lane++) {
          const float *query = &rows.query[(tile.first + lane) * channels];
          Token at = cut.place(window, a.order[tile.first + lane]);
          if (!at.inside) continue;
          std::vector<double> weight(a.cells + seen.size());
          for (int64_t x = 0; x < (int64_t)weight.size(); x++) {
            bool summary = x < a.cells;
            for (int64_t c = 0; c < channels; c++)
              weight[x] += query[c] * (summary ? far->key[x * channels + c] : rows.key[seen[x - a.cells] * channels + c]);
            if (summary) weight[x] += far->offset[x];
            if (kind.bias) weight[x] += kind.bias[head * kind.bias_head + (tile.row + x) * TILE + lane];
            else if (summary && near[x]) weight[x] = -INFINITY;
          }
          softmax(weight);
          for (int64_t c = 0; c < channels; c++) {
            double sum = 0;
            for (int64_t x = 0; x < (int64_t)weight.size(); x++)
              sum += weight[x] * (x < a.cells ? far->value[x * channels + c] : rows.value[seen[x - a.cells] * channels + c]);
            // Where elements are strange, the tests of the kernels compare with plain torch.
            const char *text = maps.compare(at, head, c, sum, rows.most[c], rows.strange ? ANY : numbers);
            if (text) return text;
          }
        }
      }
    }
  return maps.others();
}

int main(int, char **arguments) { return run(arguments, run_landmark_pooling<float>, run_landmark_pooling<bfloat16>); }
