//! The sum with AVX2, where the CPU has it: two thirds of the plain one's time at 200 bytes, half from 500 on.
//!
//! The one place outside `dpdk/` that says `unsafe`, twice: calling a function that needs a CPU feature is the caller's
//! promise that it is there, however safe the function itself is; and a vector is loaded through a pointer.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_extract_epi64, _mm256_loadu_si256, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_srli_epi64,
};

/// Shorter data are summed as fast without.
pub(super) const FROM_BYTES: usize = 128;

/// The sum, where the CPU has AVX2.
#[inline]
pub(super) fn sum(data: &[u8]) -> Option<u64> {
    // Looked up once a process; a load and a bit test afterwards.
    if !is_x86_feature_detected!("avx2") {
        return None;
    }
    // SAFETY: the CPU has the feature, the only thing that the callee asks for.
    Some(unsafe { sum_blocks(data) })
}

#[target_feature(enable = "avx2")]
fn sum_blocks(data: &[u8]) -> u64 {
    let (blocks, rest) = data.as_chunks::<64>();
    let low_half = _mm256_set1_epi64x(0xffff_ffff);
    // 32-bit words in 64-bit lanes: no carry before 2^32 of them.
    let mut sums = [_mm256_setzero_si256(); 4];
    for block in blocks {
        let (halves, _) = block.as_chunks::<32>();
        for (half, sums) in halves.iter().zip(sums.chunks_exact_mut(2)) {
            let words = load(half);
            sums[0] = _mm256_add_epi64(sums[0], _mm256_and_si256(words, low_half));
            sums[1] = _mm256_add_epi64(sums[1], _mm256_srli_epi64::<32>(words));
        }
    }
    let all = _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
    // Each below 2^32 times the number of words: together far below 2^64.
    let total = _mm256_extract_epi64::<0>(all) as u64
        + _mm256_extract_epi64::<1>(all) as u64
        + _mm256_extract_epi64::<2>(all) as u64
        + _mm256_extract_epi64::<3>(all) as u64;
    (total & 0xffff_ffff) + (total >> 32) + super::sum_plain(rest)
}

/// 32 bytes as they lie in memory. (Put together from words it takes five instructions.)
#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 readable bytes; no alignment is asked for.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
