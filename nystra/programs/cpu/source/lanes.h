// Vectors of LANES floats, as wide as those of the instruction set that this object is compiled for.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(LANES)
// A test's, to check the programs of processors that are not at hand: the compiler makes these vectors of others.
#elif defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#elif defined(__ARM_NEON)
#define LANES 4
#else
#error "compile with -mavx2 -mfma, -mavx512f or for aarch64: without vectors the tensor path is faster"
#endif

#define INLINE static inline __attribute__((always_inline))
// Loops over lanes, keys and channels of a product must vanish, so that their vectors stay in registers.
#define UNROLL _Pragma("GCC unroll 16")

typedef float Floats __attribute__((vector_size(LANES * 4), may_alias));
typedef int32_t Ints __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t Words __attribute__((vector_size(LANES * 4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2), may_alias));
// The same at any address.
typedef float LooseFloats __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint16_t LooseHalves __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

struct bfloat16 {
  uint16_t bits;
};

constexpr float LOG2_E = 1.44269504f;
constexpr float LOWEST = -3e38f;

INLINE Floats broadcast(float x) { return x - Floats{}; }
INLINE Floats load(const float *from) { return *(const LooseFloats *)from; }
INLINE Floats load(const bfloat16 *from) {
  return (Floats)(__builtin_convertvector(*(const LooseHalves *)from, Words) << 16);
}
INLINE void store(float *to, Floats x) { *(LooseFloats *)to = x; }
INLINE void store(bfloat16 *to, Floats x) {
  // To the nearest, ties to even, as torch rounds.
  Words bits = (Words)x;
  Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  *(LooseHalves *)to = __builtin_convertvector(x == x ? rounded : Words{} + 0x7fc0, Halves);
}
INLINE float widened(float x) { return x; }
INLINE float widened(bfloat16 x) {
  uint32_t bits = (uint32_t)x.bits << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}


// The first `count` < LANES of a vector, zeros behind them; nothing else is read or written.
INLINE Floats load_first(const float *from, int count) {
#if defined(__AVX512F__) && LANES == 16
  return _mm512_maskz_loadu_ps((1 << count) - 1, from);
#elif defined(__AVX2__) && LANES == 8
  return _mm256_maskload_ps(from, (__m256i)(Ints{0, 1, 2, 3, 4, 5, 6, 7} < count));
#else
  Floats x{};
  for (int i = 0; i < count; i++) x[i] = from[i];
  return x;
#endif
}
INLINE Floats load_first(const bfloat16 *from, int count) {
  Floats x{};
  for (int i = 0; i < count; i++) x[i] = widened(from[i]);
  return x;
}
template <class T> INLINE Floats load_some(const T *from, int count) {
  return count == LANES ? load(from) : load_first(from, count);
}
template <class T> INLINE void store_some(T *to, Floats x, int count) {
  if (count == LANES) return store(to, x);
  T whole[LANES];
  store(whole, x);
  // By halves: copies of sizes that are known need no call.
  const T *from = whole;
  UNROLL for (int half = LANES / 2; half; half /= 2) {
    if (!(count & half)) continue;
    memcpy(to, from, half * sizeof(T));
    to += half, from += half;
  }
}

// A vector's first `count` lanes, zeros behind them.
INLINE Floats first_lanes(Floats x, int count) {
  if (count == LANES) return x;
  float whole[LANES];
  store(whole, x);
  return load_first(whole, count);
}

// The numbers at places of a table.
INLINE Floats gather(const float *table, Ints place) {
#if defined(__AVX512F__) && LANES == 16
  return _mm512_i32gather_ps((__m512i)place, table, sizeof(float));
#elif defined(__AVX2__) && LANES == 8
  return _mm256_i32gather_ps(table, (__m256i)place, sizeof(float));
#else
  Floats x{};
  for (int i = 0; i < LANES; i++) x[i] = table[place[i]];
  return x;
#endif
}

// The larger of each pair; b where either is NaN.
INLINE Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__) && LANES == 16
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__) && LANES == 8
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// The smaller of each pair; b where either is NaN.
INLINE Floats smaller(Floats a, Floats b) { return -larger(-a, -b); }

// 2^x for x <= 0 to a relative error of 1e-7; 2^-126 below -126; NaN for NaN. The polynomial is the best of degree 5 for
// the fraction in [-1/2, 1/2]; whole powers come from the bits that the addition of a large number leaves.
INLINE Floats exp2(Floats x) {
  constexpr float ROUNDING = 12582912.f + 127.f;
  x = larger(broadcast(-126.f), x);
  Floats whole = x + ROUNDING;
  Floats r = x - (whole - ROUNDING);
  Floats p = broadcast(1.3276472e-3f) * r + 9.6755413e-3f;
  p = p * r + 5.5507133e-2f;
  p = p * r + 2.4022120e-1f;
  p = p * r + 6.9314697e-1f;
  p = p * r + 1.0000001f;
  // A product, not a sum of bits: NaN stays NaN.
  return p * (Floats)((Words)whole << 23);
}

// log2(x) for normal x > 0 to an absolute error of 1e-6; NaN for NaN.
INLINE Floats log2(Floats x) {
  constexpr int32_t ROOT_HALF = 0x3f3504f3;
  Ints exponent = ((Ints)x - ROOT_HALF) >> 23;
  Floats m = (Floats)((Ints)x - (exponent << 23)) - 1.f;
  // log2(1 + m) = 2/ln 2 · atanh(m / (2 + m)), by its series.
  Floats z = m / (m + 2.f), square = z * z;
  Floats p = broadcast(0.32059890f) * square + 0.41219859f;
  p = p * square + 0.57707802f;
  p = p * square + 0.96179669f;
  p = p * square + 2.88539008f;
  Floats result = p * z + __builtin_convertvector(exponent, Floats);
  return x == x ? result : x;
}

template <int W, int... I> INLINE Floats lower(Floats a, Floats b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((I & W) ? LANES + I - W : I)...);
}
template <int W, int... I> INLINE Floats upper(Floats a, Floats b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((I & W) ? LANES + I : I + W)...);
}
template <int W> INLINE void exchange(Floats *x) {
  if constexpr (W > 0) {
    using Lanes = std::make_integer_sequence<int, LANES>;
    UNROLL for (int i = 0; i < LANES; i++) {
      if (i & W) continue;
      Floats a = x[i], b = x[i + W];
      x[i] = lower<W>(a, b, Lanes());
      x[i + W] = upper<W>(a, b, Lanes());
    }
    exchange<W / 2>(x);
  }
}
// Transpose LANES vectors.
INLINE void transpose(Floats *x) { exchange<LANES / 2>(x); }

template <int W, int... I> INLINE Floats swapped(Floats x, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, x, (I ^ W)...);
}
// The sum of all lanes.
template <int W = LANES / 2> INLINE float sum(Floats x) {
  if constexpr (W == 0) return x[0];
  else return sum<W / 2>(x + swapped<W>(x, std::make_integer_sequence<int, LANES>()));
}
