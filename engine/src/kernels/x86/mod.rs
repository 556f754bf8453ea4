//! The operations for two sets of vector instructions, from the same source files.
//!
//! `vectorised! { … }` around a function lets it use the instructions of the set whose module it stands in;
//! `lanes` wraps the few that are named.

pub(in crate::kernels) mod bridge;
mod math;

/// A set of instructions, and everything that is written with it.
macro_rules! instruction_set {
    ($(#[$about:meta])* $name:ident, $features:literal, { $($own:item)* }) => {
        $(#[$about])*
        pub(in crate::kernels) mod $name {
            instruction_set!(@vectorised $features, $);
            use super::{bridge, math};
            #[path = "../attention.rs"]
            pub(in crate::kernels) mod attention;
            #[path = "../conv.rs"]
            pub(in crate::kernels) mod conv;
            #[path = "../factor.rs"]
            mod factor;
            #[path = "../gemm.rs"]
            mod gemm;
            mod lanes;
            #[path = "../linear.rs"]
            pub(in crate::kernels) mod linear;
            #[path = "../norm.rs"]
            pub(in crate::kernels) mod norm;
            #[path = "../pack.rs"]
            mod pack;
            #[path = "../pointwise.rs"]
            pub(in crate::kernels) mod pointwise;
            #[path = "../turn.rs"]
            pub(in crate::kernels) mod turn;

            pub(in crate::kernels) use factor::Single;
            $($own)*
        }
    };
    (@vectorised $features:literal, $sign:tt) => {
        macro_rules! vectorised {
            ($sign($sign tokens:tt)*) => {
                #[target_feature(enable = $features)]
                $sign($sign tokens)*
            };
        }
    };
}

instruction_set! {
    /// AVX-512 with its bf16 products.
    wide, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma", {
        mod half;
        pub(in crate::kernels) use half::Half;
    }
}

instruction_set! {
    /// AVX2, which has no bf16 products: factors stay in f32.
    narrow, "avx2,fma", {
        pub(in crate::kernels) use factor::Single as Half;
    }
}

/// A set of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) enum Set {
    /// See [`wide`].
    Wide,
    /// See [`narrow`].
    Narrow,
}

/// Whether this processor has `set`.
fn has(set: Set) -> bool {
    match set {
        Set::Wide => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bf16")
                && is_x86_feature_detected!("fma")
        }
        Set::Narrow => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
    }
}

/// The widest set that this processor has and the thread may use.
pub(in crate::kernels) fn set() -> Option<Set> {
    #[cfg(test)]
    if super::tests::only_narrow() {
        return has(Set::Narrow).then_some(Set::Narrow);
    }
    [Set::Wide, Set::Narrow].into_iter().find(|set| has(*set))
}
