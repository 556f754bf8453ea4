//! The operations for processors with AVX-512 and its bf16 products.

pub(in crate::kernels) mod attention;
pub(in crate::kernels) mod bridge;
pub(in crate::kernels) mod conv;
mod factor;
mod gemm;
pub(in crate::kernels) mod linear;
mod math;
pub(in crate::kernels) mod norm;
mod pack;
pub(in crate::kernels) mod pointwise;
pub(in crate::kernels) mod turn;

pub(in crate::kernels) use factor::{Half, Single};

/// Whether this processor has all that the operations use.
pub(in crate::kernels) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("fma")
}
