// The program of content pooling. Which tokens are in a cluster is decided by rounding, so that only what holds for all
// clusters is compared: outputs are means of values, and where every cell is near those of exact attention.
#include "content_pooling.cpp"
#include "fuzz.h"

// How each level of a tree with so many leaves splits.
std::unique_ptr<int32_t[]> levels(Random &random, int64_t leaves, int64_t &count) {
  std::vector<int32_t> parts;
  while (leaves > 1) {
    int64_t part;
    do part = divisor(random, leaves);
    while (part == 1);
    parts.push_back(part), leaves /= part;
  }
  count = parts.size();
  return copied(parts);
}

template <class T> const char *run_content_pooling(Random &random, Numbers numbers) {
  Cut cut(random, random.once_in(6) ? 18 : 8, 1);
  int64_t tokens = cut.windows.tokens(), channels = cut.windows.channels;
  Maps<T> maps(random, cut);
  maps.fill(random, numbers, true);

  Arguments a{};
  maps.set(a);
  a.blocks = random.from(1, tokens), a.cells = random.from(1, tokens);
  a.near = random.once_in(3) ? a.cells : random.upto(a.cells);
  std::unique_ptr<int32_t[]> query_parts = levels(random, a.blocks, a.query_levels);
  std::unique_ptr<int32_t[]> key_parts = levels(random, a.cells, a.key_levels);
  a.query_parts = query_parts.get(), a.key_parts = key_parts.get();
  for (int axis = 0; axis < 2; axis++) a.kinds[axis] = random.once_in(2) && cut.windows.grid[axis] > 1 ? 2 : 1;
  std::unique_ptr<float[]> further_query, further_key, bias;
  int64_t height = cut.windows.window[0], width = cut.windows.window[1];
  if (random.once_in(2)) {
    int64_t heads = random.once_in(3) ? 1 : cut.windows.heads, each = (2 * height - 1) * (2 * width - 1);
    bias.reset(new float[heads * each]);
    for (int64_t i = 0; i < heads * each; i++) bias[i] = random.normal();
    a.bias = bias.get(), a.bias_head = heads == 1 ? 0 : each;
  }
  if (random.once_in(2)) {
    int64_t heads = random.once_in(3) ? 1 : cut.windows.heads;
    a.further = random.from(1, 20), a.masks = random.upto(a.further), a.further_kind = heads * tokens * a.further;
    a.further_head = heads == 1 ? 0 : tokens * a.further;
    int64_t size = a.kinds[0] * a.kinds[1] * a.further_kind;
    further_query.reset(new float[size]), further_key.reset(new float[size]);
    for (int64_t i = 0; i < size; i++) further_query[i] = random.normal(), further_key[i] = random.normal();
    a.further_query = further_query.get(), a.further_key = further_key.get();
  }
  if (content_pooling(&a, random.once_in(4) ? nullptr : parallel, random.from(1, 3))) return "no memory";

  for (int64_t head = 0; head < cut.windows.heads; head++)
    for (int64_t window = 0; window < cut.windows.count(); window++) {
      Rows rows(maps, window, head, nullptr);
      int64_t from = cut.kind(window, a.kinds) * a.further_kind + head * a.further_head;
      bool exact = a.near == a.cells;
      // No more than the largest value is known of means of clusters, as of outputs of large numbers.
      Numbers as = rows.strange ? ANY : exact ? numbers : LARGE;
      for (int64_t i = 0; i < tokens; i++) {
        Token at = cut.place(window, i);
        if (!at.inside) continue;
        std::vector<double> weight(tokens);
        for (int64_t j = 0; exact && j < tokens; j++) {
          for (int64_t c = 0; c < channels; c++) weight[j] += rows.query[i * channels + c] * rows.key[j * channels + c];
          if (a.bias) {
            int64_t down = i / width - j / width + height - 1, right = i % width - j % width + width - 1;
            weight[j] += a.bias[head * a.bias_head + down * (2 * width - 1) + right];
          }
          // Near cells have their bias from the table, and so only the mask from channels.
          for (int64_t c = 0; c < (a.bias ? a.masks : a.further); c++)
            weight[j] += a.further_query[from + i * a.further + c] * LOG2_E * a.further_key[from + j * a.further + c];
        }
        softmax(weight);
        for (int64_t c = 0; c < channels; c++) {
          double sum = 0;
          for (int64_t j = 0; exact && j < tokens; j++) sum += weight[j] * rows.value[j * channels + c];
          if (const char *text = maps.compare(at, head, c, sum, rows.most[c], as)) return text;
        }
      }
    }
  return maps.others();
}

int main(int, char **arguments) { return run(arguments, run_content_pooling<float>, run_content_pooling<bfloat16>); }
