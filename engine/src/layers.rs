//! Small layers that more than one network uses.

use burn::tensor::{DType, Device, Tensor, activation};

use crate::kernels::{self, Then};
use crate::weights::{Init, Network, Slots, widened};

/// A low-rank addition to a linear layer (LoRA, Hu et al., arXiv 2106.09685): `y += scale (x Aᵀ) Bᵀ`.
///
/// The sum of matrices is never built: two thin products cost little and need no second set of weights.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `A`, `[rank, in]`.
    pub down: Tensor<2>,
    /// `B`, `[out, rank]`.
    pub up: Tensor<2>,
    /// Alpha over rank, times the strength it is used with; 0 leaves the layer as it is, to the bit.
    pub scale: f32,
}

/// `y` with the low-rank additions of `x`, in their order; both `[B, L, ..]`.
pub fn add_low_rank(x: &Tensor<3>, mut y: Tensor<3>, additions: &[LowRank]) -> Tensor<3> {
    for one in additions.iter().filter(|one| one.scale != 0.0) {
        let inner = product(x.clone(), &one.down, None);
        y = y + product(inner, &one.up, None).mul_scalar(one.scale);
    }
    y
}

/// `x Wᵀ + b` for `x` `[B, L, in]` and `W` `[out, in]`.
///
/// A weight kept in less than f32 is widened first, or as it is multiplied.
pub fn product(x: Tensor<3>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Tensor<3> {
    product_then(x, weight, bias, Then::Nothing)
}

/// As [`product`], and what becomes of it.
pub fn product_then(
    x: Tensor<3>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    then: Then<'_>,
) -> Tensor<3> {
    let [batch, length, inputs] = x.dims();
    let y = if kernels::is_multiplied_in_f16(&x) {
        if let Some(y) = on_matrix_units(&x, weight, bias, then) {
            return y;
        }
        product_in_f16(x.reshape([batch * length, inputs]), weight)
    } else {
        let weight = &if weight.dtype() == DType::F16 && kernels::takes_half_weights(&x) {
            weight.clone()
        } else {
            widened(weight.clone(), x.dtype())
        };
        if let Some(y) = kernels::linear(&x, weight, bias, then) {
            return y;
        }
        if let Some(y) = kernels::linear(&x, weight, bias, Then::Nothing) {
            return finished(y, None, then);
        }
        x.reshape([batch * length, inputs])
            .matmul(weight.clone().transpose()) // [B*L, out]
    };
    let y = y.reshape([batch, length, weight.dims()[0]]);
    finished(y, bias, then)
}

/// What becomes of a product `y` `[R, L, C]` after its bias `[C]`.
pub(crate) fn finished(y: Tensor<3>, bias: Option<&Tensor<1>>, then: Then<'_>) -> Tensor<3> {
    if let Some(y) = kernels::finish(&y, bias, then) {
        return y;
    }
    let y = match bias {
        Some(bias) => y + bias.clone().unsqueeze(),
        None => y,
    };
    match then {
        Then::Nothing => y,
        Then::Gelu => gelu_tanh(y),
        Then::Scaled(factor) => y.mul_scalar(factor),
        Then::Added(to, None) => to.clone() + y,
        Then::Added(to, Some(gate)) => gated_sum(to.clone(), y, gate.clone()),
    }
}

/// `x Wᵀ + b`, and what becomes of it, where the device has matrix units.
fn on_matrix_units(
    x: &Tensor<3>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    then: Then<'_>,
) -> Option<Tensor<3>> {
    kernels::matrix_units(&x.device())?;
    match weight.dtype() {
        DType::F32 | DType::F16 => kernels::product_in_f16(x, weight, bias, then),
        _ => kernels::product_in_f16(x, &widened(weight.clone(), DType::F16), bias, then),
    }
}

/// What values are divided by while they are in f16, which ends at 65,504: what enters the last matrix of a feed-forward
/// layer spikes to hundreds of times its median. So there is room for four millions, and values down to 0.004 keep all
/// eleven bits.
const ROOM: f32 = 64.0;

/// `x Wᵀ` for rows `[n, in]`, both rounded to f16.
fn product_in_f16(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let weight = widened(weight.clone(), DType::F16);
    let x = x.mul_scalar(1.0 / ROOM).cast(DType::F16);
    let y = x.matmul(weight.transpose());
    y.cast(DType::F32).mul_scalar(ROOM)
}

/// A linear layer that may take low-rank additions.
pub struct Adaptable<'a> {
    /// The layer's published name, `blocks.0.ffn.fc1` and the like.
    pub name: String,
    /// Numbers of results and of inputs.
    pub shape: [usize; 2],
    /// Its additions.
    pub additions: &'a mut Vec<LowRank>,
}

/// `y = x Wᵀ + b`, weights stored `[out, in]` as published, and low-rank additions.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    inputs: usize,
    outputs: usize,
    init: Init,
    additions: Vec<LowRank>,
}

impl Linear {
    /// A layer whose weights come later, through [`Network::slots`].
    pub fn new(
        inputs: usize,
        outputs: usize,
        with_bias: bool,
        init: Init,
        device: &Device,
    ) -> Self {
        Self {
            weight: Tensor::zeros([1, 1], device),
            bias: with_bias.then(|| Tensor::zeros([1], device)),
            inputs,
            outputs,
            init,
            additions: Vec::new(),
        }
    }

    /// The layer as one that takes additions, under `name`.
    pub fn adaptable(&mut self, name: String) -> Adaptable<'_> {
        Adaptable {
            name,
            shape: [self.outputs, self.inputs],
            additions: &mut self.additions,
        }
    }

    /// `[B, L, in]` to `[B, L, out]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_then(x, Then::Nothing)
    }

    /// As [`Self::forward`], and what becomes of it.
    pub fn forward_then(&self, x: Tensor<3>, then: Then<'_>) -> Tensor<3> {
        if self.additions.iter().all(|one| one.scale == 0.0) {
            return product_then(x, &self.weight, self.bias.as_ref(), then);
        }
        let y = product(x.clone(), &self.weight, self.bias.as_ref());
        finished(add_low_rank(&x, y, &self.additions), None, then)
    }
}

impl Network for Linear {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let shape = [self.outputs, self.inputs];
        slots.add(
            format!("{prefix}weight"),
            &mut self.weight,
            shape,
            self.init,
        );
        if let Some(bias) = &mut self.bias {
            slots.add(
                format!("{prefix}bias"),
                bias,
                [self.outputs],
                Init::Constant(0.0),
            );
        }
    }
}

/// Layer normalisation over the last axis without weights.
pub fn layer_norm<const D: usize>(x: Tensor<D>, epsilon: f32) -> Tensor<D> {
    let mean = x.clone().mean_dim(D - 1);
    let centred = x - mean;
    let variance = centred.clone().square().mean_dim(D - 1);
    centred * (variance + epsilon).sqrt().recip()
}

/// Layer normalisation, then `normal * (plus + scale) + shift`; scale and shift are `[R or 1, 1, C]`.
pub fn scaled_norm(
    x: &Tensor<3>,
    scale: &Tensor<3>,
    shift: &Tensor<3>,
    plus: f32,
    epsilon: f32,
) -> Tensor<3> {
    kernels::layer_norm(x, scale, shift, plus, epsilon).unwrap_or_else(|| {
        layer_norm(x.clone(), epsilon) * scale.clone().add_scalar(plus) + shift.clone()
    })
}

/// `x + gate * branch`: `[R, L, C]`, the gate `[R, 1, C]`.
fn gated_sum(x: Tensor<3>, branch: Tensor<3>, gate: Tensor<3>) -> Tensor<3> {
    kernels::gated_sum(&x, &branch, &gate).unwrap_or_else(|| x + branch * gate)
}

/// Root-mean-square normalisation over the last axis without weights.
pub fn rms_norm<const D: usize>(x: Tensor<D>, epsilon: f32) -> Tensor<D> {
    let mean_square = x.clone().square().mean_dim(D - 1);
    x * (mean_square + epsilon).sqrt().recip()
}

/// GELU in its tanh form, written with a sigmoid: `x (1 + tanh u) / 2 = x sigmoid(2u)`.
///
/// One exponential instead of a tanh and a power, and finite on graphics drivers that return
/// NaN for the tanh of a large number or for a power of a negative one.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if let Some(y) = kernels::gelu_tanh(&x) {
        return y;
    }
    const DOUBLED: f64 = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let inner = x.clone() + x.clone() * x.clone() * x.clone() * 0.044_715;
    x * activation::sigmoid(inner * DOUBLED)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Tensor, TensorData};

    use super::product;
    use crate::api::DeviceChoice;
    use crate::device;
    use crate::kernels::{self, Precision, with_precision};
    use crate::random::Stream;

    fn values<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
        let stream = Stream::new(seed, 1);
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count as u64).map(|i| stream.normal(i) as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// At odd sizes, with weights kept in either precision, and with inputs that f16 itself cannot hold.
    #[test]
    fn products_in_f16_are_the_products() {
        let Ok(open) = device::open(DeviceChoice::Software) else {
            eprintln!("SKIPPED: no software graphics driver");
            return;
        };
        let device = &open.device;
        assert!(open.info.half_products);
        // Lessons stay in f32 there, the passes without gradients as well.
        let one = values([1, 1], 1, device);
        assert!(!with_precision(Precision::Half, || {
            kernels::is_multiplied_in_f16(&one)
        }));
        for [rows, length, inputs, outputs] in [[1, 1, 1, 1], [2, 7, 33, 5], [1, 65, 130, 67]] {
            for spike in [0.0, 3e5] {
                let mut x = values([rows, length, inputs], 1, device);
                let place = values([rows, length, inputs], 2, device).greater_elem(2.5);
                x = x.clone().mask_fill(place, spike);
                let weight = values([outputs, inputs], 3, device);
                let bias = values([outputs], 4, device);
                let wanted = product(x.clone(), &weight, Some(&bias));
                // Of every row, the length of what is multiplied.
                let scale = x.clone().square().sum_dim(2).sqrt().add_scalar(1.0);
                for weight in [weight.clone(), weight.clone().cast(DType::F16)] {
                    let work = || {
                        assert!(kernels::is_multiplied_in_f16(&x));
                        product(x.clone(), &weight, Some(&bias))
                    };
                    let half = with_precision(Precision::Rounded, work);
                    let apart = ((half - wanted.clone()) / scale.clone()).abs().max();
                    let apart: f32 = apart.into_scalar();
                    assert!(
                        apart < 4e-3,
                        "{rows} {length} {inputs} {outputs} {spike}: {apart}"
                    );
                }
            }
        }
    }
}
