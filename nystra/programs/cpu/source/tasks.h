// Independent tasks shared out among the threads of the caller's own pool, each with memory for what it makes on the way.
#pragma once
#include <atomic>
#include <cstdlib>

#include "lanes.h"

// OpenMP's entry point GOMP_parallel of the library that torch has loaded, so that there is no second pool of threads;
// null: everything runs in the calling thread.
typedef void (*Parallel)(void (*)(void *), void *, unsigned threads, unsigned flags);

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
constexpr size_t GAP = 64;
#else
constexpr size_t GAP = 0;
#endif

// Takes consecutive parts of a block of memory, each aligned for vectors.
class Arena {
public:
  explicit Arena(float *memory) : next(memory) {}
  template <class T = float> T *take(size_t count) {
    T *result = (T *)next;
    next += room(count);
#ifdef __SANITIZE_ADDRESS__
    // A part that is written beyond its end does not reach the next one unseen.
    __asan_poison_memory_region(result + count, (char *)next - (char *)(result + count));
#endif
    return result;
  }
  static size_t room(size_t count) { return (count + 15) / 16 * 16 + GAP; }

private:
  float *next;
};

// Run task(number, memory) for all numbers below `count`, each with room for `floats` numbers; returns 0, or 1 where
// memory was missing.
template <class Task> int run_tasks(const Task &task, int64_t count, size_t floats, Parallel parallel, int threads) {
  struct Job {
    const Task &task;
    int64_t count;
    size_t floats;
    std::atomic<int64_t> next{0};
    std::atomic<int> failed{0};

    static void work(void *data) {
      Job &job = *(Job *)data;
      // Not kept for the thread's next call: that would save nothing that can be measured, and destructors of threads
      // need the run-time library of C++.
      float *memory = (float *)aligned_alloc(64, (job.floats * sizeof(float) + 63) / 64 * 64);
      if (!memory) job.failed = 1;
      for (int64_t number; memory && (number = job.next++) < job.count;) job.task(number, memory);
      free(memory);
    }
  } job{task, count, floats};
  if (parallel && threads > 1 && count > 1) parallel(Job::work, &job, threads, 0);
  else Job::work(&job);
  return job.failed;
}
