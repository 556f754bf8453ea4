//! The operations for several sets of vector instructions, from the same source files.
//!
//! `vectorised! { … }` around a function lets it use the instructions of the set whose module it stands in;
//! `lanes` wraps the few that are named.

pub(in crate::kernels) mod bridge;
mod math;

/// A set of instructions, and everything that multiplies with it.
macro_rules! instruction_set {
    ($(#[$about:meta])* $name:ident, $features:literal, { $($own:item)* }) => {
        $(#[$about])*
        pub(in crate::kernels) mod $name {
            instruction_set!(@vectorised $features, $);
            use super::{bridge, math};
            #[path = "../attention.rs"]
            pub(in crate::kernels) mod attention;
            #[path = "../columns.rs"]
            mod columns;
            #[path = "../conv.rs"]
            pub(in crate::kernels) mod conv;
            #[path = "../factor.rs"]
            mod factor;
            #[path = "../gemm.rs"]
            mod gemm;
            #[path = "../linear.rs"]
            pub(in crate::kernels) mod linear;
            #[path = "../pack.rs"]
            mod pack;
            #[path = "../place.rs"]
            mod place;
            #[path = "../reduce.rs"]
            mod reduce;
            #[path = "../text_attention.rs"]
            pub(in crate::kernels) mod text_attention;
            #[path = "../then.rs"]
            mod then;
            $($own)*
        }
    };
    // With factors in f32, and with what multiplies no matrices.
    ($(#[$about:meta])* $name:ident, $features:literal, whole) => {
        instruction_set! {
            $(#[$about])* $name, $features, {
                mod lanes;
                #[path = "../norm.rs"]
                pub(in crate::kernels) mod norm;
                #[path = "../pointwise.rs"]
                pub(in crate::kernels) mod pointwise;
                #[path = "../turn.rs"]
                pub(in crate::kernels) mod turn;
                #[path = "../single.rs"]
                mod single;
                pub(in crate::kernels) use single::Single;
            }
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
    /// AVX-512.
    wide, "avx512f,avx512bw,avx512dq,avx512vl,fma", whole
}

instruction_set! {
    /// AVX-512 with products of pairs in bf16, for what multiplies those.
    paired, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma", {
        #[path = "../wide/lanes.rs"]
        #[allow(dead_code, reason = "pairs are multiplied in an instruction of their own")]
        mod lanes;
        mod half;
        pub(in crate::kernels) use half::Half;
    }
}

instruction_set! {
    /// AVX2.
    narrow, "avx2,f16c,fma", whole
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
                && is_x86_feature_detected!("fma")
        }
        Set::Narrow => {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("fma")
        }
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

/// Whether this processor also has [`paired`].
pub(in crate::kernels) fn has_pairs() -> bool {
    set() == Some(Set::Wide) && is_x86_feature_detected!("avx512bf16")
}

#[cfg(test)]
mod tests {
    use super::bridge::{Operation as _, Values};
    use super::{Set, has, narrow, wide};

    /// Sums are made in the same order, with whole parts, with a rest, and with both.
    #[test]
    fn both_widths_sum_to_the_same_bits() {
        if !has(Set::Wide) || !has(Set::Narrow) {
            return;
        }
        for width in [5, 17, 64, 77] {
            let list = |count: usize| -> Vec<f32> {
                (0..count).map(|i| (i as f32 * 0.7).sin() + 0.3).collect()
            };
            let (x, scale) = (list(3 * width), list(width));
            let tensor = |data, shape| Values {
                data,
                halves: &[],
                shape,
            };
            let (shape, row) = ([1, 3, width], [1, 1, width]);
            let of_row = tensor(&scale[..], &row[..]);
            let inputs = [tensor(&x[..], &shape[..]), of_row, of_row];
            let (epsilon, plus) = (1e-6, 1.0);
            let in_wide = wide::norm::LayerNorm { epsilon, plus }.forward(inputs);
            let in_narrow = narrow::norm::LayerNorm { epsilon, plus }.forward(inputs);
            assert!(in_wide == in_narrow, "{width} values");
        }
    }
}
