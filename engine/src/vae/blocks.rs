//! The parts both halves of the tokenizer are made of.

use burn::tensor::{DType, Device, Tensor};

use super::bands::Bands;
use super::config::group_count;
use crate::weights::{Init, Network, Slots, widened};

const NORM_EPSILON: f32 = 1e-6;

/// A square convolution with bias.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    weight: Tensor<4>,
    bias: Tensor<1>,
    inputs: usize,
    outputs: usize,
    side: usize,
    gain: f32,
}

impl Conv {
    pub(super) fn new(inputs: usize, outputs: usize, side: usize, device: &Device) -> Self {
        Self {
            weight: Tensor::zeros([1, 1, 1, 1], device),
            bias: Tensor::zeros([1], device),
            inputs,
            outputs,
            side,
            gain: 1.0,
        }
    }

    /// Starts training with weights smaller by `gain`.
    pub(super) fn with_gain(mut self, gain: f32) -> Self {
        self.gain = gain;
        self
    }

    /// `[B, in, H, W]` to `[B, out, H, W]`.
    pub(super) fn forward(&self, x: Bands) -> Bands {
        let weight = widened(self.weight.clone(), DType::F32);
        if self.side == 1 {
            x.conv1(&weight, &self.bias)
        } else {
            x.conv3(&weight, &self.bias)
        }
    }

    /// `[B, in, H, W]` to `[B, out, 2H, 2W]`, enlarged before it is convolved.
    pub(super) fn forward_up(&self, x: Bands) -> Bands {
        x.double_conv3(&widened(self.weight.clone(), DType::F32), &self.bias)
    }

    /// `[B, in, H, W]` to `[B, out, H/2, W/2]`.
    pub(super) fn forward_down(&self, x: Bands) -> Bands {
        x.conv3_down(&widened(self.weight.clone(), DType::F32), &self.bias)
    }
}

impl Network for Conv {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let fan_in = (self.inputs * self.side * self.side) as f32;
        let init = Init::Normal(self.gain * (1.0 / fan_in).sqrt());
        let shape = [self.outputs, self.inputs, self.side, self.side];
        slots.add(format!("{prefix}weight"), &mut self.weight, shape, init);
        slots.add(
            format!("{prefix}bias"),
            &mut self.bias,
            [self.outputs],
            Init::Constant(0.0),
        );
    }
}

/// Group normalisation followed by SiLU.
#[derive(Clone, Debug)]
pub(super) struct NormSilu {
    weight: Tensor<1>,
    bias: Tensor<1>,
    channels: usize,
    groups: usize,
}

impl NormSilu {
    pub(super) fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: Tensor::zeros([1], device),
            bias: Tensor::zeros([1], device),
            channels,
            groups: group_count(channels).unwrap_or(1),
        }
    }

    pub(super) fn forward(&self, x: Bands) -> Bands {
        x.group_norm_silu(self.groups, &self.weight, &self.bias, NORM_EPSILON)
    }
}

impl Network for NormSilu {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let shape = [self.channels];
        slots.add(
            format!("{prefix}weight"),
            &mut self.weight,
            shape,
            Init::Constant(1.0),
        );
        slots.add(
            format!("{prefix}bias"),
            &mut self.bias,
            shape,
            Init::Constant(0.0),
        );
    }
}

/// `x + conv(silu(norm(conv(silu(norm(x))))))`, with a 1×1 convolution where channels change.
#[derive(Clone, Debug)]
pub(super) struct ResBlock {
    norm1: NormSilu,
    conv1: Conv,
    norm2: NormSilu,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl ResBlock {
    pub(super) fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            norm1: NormSilu::new(inputs, device),
            conv1: Conv::new(inputs, outputs, 3, device),
            norm2: NormSilu::new(outputs, device),
            conv2: Conv::new(outputs, outputs, 3, device).with_gain(0.2),
            shortcut: (inputs != outputs).then(|| Conv::new(inputs, outputs, 1, device)),
        }
    }

    pub(super) fn forward(&self, x: Bands) -> Bands {
        let y = self.conv1.forward(self.norm1.forward(x.clone()));
        let y = self.conv2.forward(self.norm2.forward(y));
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x).add(y),
            None => x.add(y),
        }
    }
}

impl Network for ResBlock {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        self.norm1.slots(&format!("{prefix}norm1.norm."), slots);
        self.conv1.slots(&format!("{prefix}conv1.conv."), slots);
        self.norm2.slots(&format!("{prefix}norm2.norm."), slots);
        self.conv2.slots(&format!("{prefix}conv2.conv."), slots);
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.slots(&format!("{prefix}nin_shortcut.conv."), slots);
        }
    }
}

/// `block_1` and `block_2` of the coarsest level.
#[derive(Clone, Debug)]
pub(super) struct Middle {
    first: ResBlock,
    second: ResBlock,
}

impl Middle {
    pub(super) fn new(channels: usize, device: &Device) -> Self {
        Self {
            first: ResBlock::new(channels, channels, device),
            second: ResBlock::new(channels, channels, device),
        }
    }

    pub(super) fn forward(&self, x: Bands) -> Bands {
        self.second.forward(self.first.forward(x))
    }
}

impl Network for Middle {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        self.first.slots(&format!("{prefix}block_1."), slots);
        self.second.slots(&format!("{prefix}block_2."), slots);
    }
}

/// Folds blocks of `side`×`side` pixels into channels, `channel*side² + dy*side + dx`.
///
/// `[B, C, H, W]` to `[B, C*side², H/side, W/side]`.
pub(super) fn fold_blocks(x: Tensor<4>, side: usize) -> Tensor<4> {
    if side == 1 {
        return x;
    }
    let [batch, channels, h, w] = x.dims();
    x.reshape([batch, channels, h / side, side, w / side, side])
        .permute([0, 1, 3, 5, 2, 4])
        .reshape([batch, channels * side * side, h / side, w / side])
}

/// The inverse of [`fold_blocks`].
pub(super) fn unfold_blocks(x: Tensor<4>, side: usize) -> Tensor<4> {
    if side == 1 {
        return x;
    }
    let [batch, channels, h, w] = x.dims();
    x.reshape([batch, channels / (side * side), side, side, h, w])
        .permute([0, 1, 4, 2, 5, 3])
        .reshape([batch, channels / (side * side), h * side, w * side])
}
