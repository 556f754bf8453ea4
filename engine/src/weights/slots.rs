//! One table of a network's weights: name, place, shape and first value.
//!
//! A network lists its weights once, in [`Network::slots`], under the names the
//! published files use. Loading, saving, random initialisation, counting and
//! the optimizer all walk that list, so a name is written in one place only.

use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};

use half::slice::HalfFloatSliceExt as _;

use super::number::Values;
use super::storage::{stored_matrix, widened};
use crate::api::{EngineError, Storage};

/// How a weight starts before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same value.
    Constant(f32),
    /// Normal with this standard deviation, cut at two of them.
    Normal(f32),
    /// This many ones, then zeros: open gates and neutral shifts.
    OnesThenZeros(usize),
    /// A table of classes of distance, a column per head, that falls with the distance: steeply in the
    /// first head, half as steeply in each of the next three (Press et al., arXiv 2108.12409).
    Slopes {
        /// Columns.
        heads: usize,
        /// Distance of each class; the table holds them once per direction.
        distances: &'static [usize],
    },
}

/// A weight of any rank.
pub enum WeightMut<'a> {
    /// A vector.
    D1(&'a mut Tensor<1>),
    /// A matrix.
    D2(&'a mut Tensor<2>),
    /// Three axes.
    D3(&'a mut Tensor<3>),
    /// Four axes.
    D4(&'a mut Tensor<4>),
}

macro_rules! each_rank {
    ($weight:expr, $tensor:ident => $body:expr) => {
        match $weight {
            WeightMut::D1($tensor) => $body,
            WeightMut::D2($tensor) => $body,
            WeightMut::D3($tensor) => $body,
            WeightMut::D4($tensor) => $body,
        }
    };
}

impl WeightMut<'_> {
    /// Puts `values` of `shape` on `device`; tracked for gradients when the device records them.
    pub fn set(&mut self, values: Vec<f32>, shape: &[usize], device: &Device) {
        let data = TensorData::new(values, shape.to_vec());
        each_rank!(self, tensor => {
            let fresh = Tensor::from_data(data, device);
            **tensor = if device.is_autodiff() { fresh.require_grad() } else { fresh };
        });
    }

    /// Keeps the weight out of gradients from here on.
    pub fn freeze(&mut self) {
        each_rank!(self, tensor => **tensor = tensor.clone().set_require_grad(false));
    }

    /// Puts the weight on the device that records gradients, without one of its own.
    pub fn record(&mut self) {
        each_rank!(self, tensor => **tensor = tensor.clone().autodiff());
    }

    /// Puts the weight on the device that records nothing.
    pub fn stop_recording(&mut self) {
        each_rank!(self, tensor => **tensor = tensor.clone().without_autodiff());
    }

    /// The values, on the host.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the device fails.
    pub fn values(&self) -> Result<Vec<f32>, EngineError> {
        each_rank!(self, tensor => widened((**tensor).clone(), DType::F32)
            .try_into_vec_as::<f32>()
            .map_err(|error| EngineError::internal(format!("reading a weight: {error}"))))
    }

    /// The gradient on the host, when the weight took part.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the device fails.
    pub fn gradient(&self, gradients: &Gradients) -> Result<Option<Vec<f32>>, EngineError> {
        each_rank!(self, tensor => (**tensor)
            .grad(gradients)
            .map(|gradient| gradient.try_into_vec_as::<f32>())
            .transpose()
            .map_err(|error| EngineError::internal(format!("reading a gradient: {error}"))))
    }
}

impl<'a> From<&'a mut Tensor<1>> for WeightMut<'a> {
    fn from(tensor: &'a mut Tensor<1>) -> Self {
        Self::D1(tensor)
    }
}

impl<'a> From<&'a mut Tensor<2>> for WeightMut<'a> {
    fn from(tensor: &'a mut Tensor<2>) -> Self {
        Self::D2(tensor)
    }
}

impl<'a> From<&'a mut Tensor<3>> for WeightMut<'a> {
    fn from(tensor: &'a mut Tensor<3>) -> Self {
        Self::D3(tensor)
    }
}

impl<'a> From<&'a mut Tensor<4>> for WeightMut<'a> {
    fn from(tensor: &'a mut Tensor<4>) -> Self {
        Self::D4(tensor)
    }
}

/// One weight of a network.
pub struct Slot<'a> {
    /// The published name.
    pub name: String,
    /// Where it lives in the network.
    pub weight: WeightMut<'a>,
    /// The shape it must have.
    pub shape: Vec<usize>,
    /// Its first value.
    pub init: Init,
    /// Whether it stays on the processor while drawing (a table larger than a graphics buffer).
    pub on_host: bool,
}

impl Slot<'_> {
    /// Puts `values` where the weight belongs: `device`, or the processor for a host table.
    pub fn fill(&mut self, values: Vec<f32>, device: &Device) {
        if self.on_host && !device.is_autodiff() {
            self.weight.set(values, &self.shape, &Device::flex());
        } else {
            self.weight.set(values, &self.shape, device);
        }
    }

    /// Puts `values` where the weight belongs, kept as `storage` says if it is a matrix; such a one takes no gradient.
    pub fn fill_as(&mut self, values: Values, storage: Storage, device: &Device) {
        match (&mut self.weight, storage, values) {
            (WeightMut::D2(tensor), Storage::Half | Storage::Eight, values) => {
                let shape = [self.shape[0], self.shape[1]];
                **tensor = stored_matrix(values, shape, storage, device);
            }
            (_, _, Values::Single(values)) => self.fill(values, device),
            (_, _, Values::Half(values)) => self.fill(values.to_f32_vec(), device),
        }
    }

    /// Keeps a tensor of four axes in half precision from now on; others stay as they are.
    pub fn halve(&mut self) {
        if let WeightMut::D4(tensor) = &mut self.weight {
            **tensor = tensor.clone().cast(DType::F16);
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }
}

/// The list of weights of a network, filled by [`Network::slots`].
#[derive(Default)]
pub struct Slots<'a> {
    /// Weights in the order the network names them.
    pub list: Vec<Slot<'a>>,
    /// Buffers that published files carry and no calculation needs: `(name, shape)`.
    pub unused: Vec<(String, Vec<usize>)>,
}

impl<'a> Slots<'a> {
    /// Adds a weight called `name`.
    pub fn add<const D: usize>(
        &mut self,
        name: String,
        weight: impl Into<WeightMut<'a>>,
        shape: [usize; D],
        init: Init,
    ) {
        self.list.push(Slot {
            name,
            weight: weight.into(),
            shape: shape.to_vec(),
            init,
            on_host: false,
        });
    }

    /// Adds a table that stays on the processor while drawing.
    pub fn add_host_table(
        &mut self,
        name: String,
        weight: impl Into<WeightMut<'a>>,
        shape: [usize; 2],
        init: Init,
    ) {
        self.add(name, weight, shape, init);
        if let Some(slot) = self.list.last_mut() {
            slot.on_host = true;
        }
    }

    /// Allows a buffer called `name` in a file, without reading it.
    pub fn allow_unused<const D: usize>(&mut self, name: String, shape: [usize; D]) {
        self.unused.push((name, shape.to_vec()));
    }
}

/// Anything with weights.
pub trait Network {
    /// Lists the weights; every name starts with `prefix` (empty, or ending in a dot).
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>);

    /// The whole list, without a prefix.
    fn all_slots(&mut self) -> Slots<'_> {
        let mut slots = Slots::default();
        self.slots("", &mut slots);
        slots
    }

    /// Number of values in all weights.
    fn parameter_count(&mut self) -> u64 {
        self.all_slots()
            .list
            .iter()
            .map(|slot| slot.len() as u64)
            .sum()
    }

    /// Gives every weight its first value, the same for the same `seed` on every device.
    fn initialise(&mut self, seed: u64, device: &Device) {
        self.initialise_as(seed, device, &|_| Storage::Single);
    }

    /// As [`initialise`](Self::initialise); matrices are kept as `kept` says of their names.
    fn initialise_as(&mut self, seed: u64, device: &Device, kept: &dyn Fn(&str) -> Storage) {
        for (index, mut slot) in self.all_slots().list.into_iter().enumerate() {
            let count = slot.len();
            let values = match slot.init {
                Init::Constant(value) => vec![value; count],
                Init::OnesThenZeros(ones) => (0..count)
                    .map(|i| if i < ones { 1.0 } else { 0.0 })
                    .collect(),
                Init::Slopes { heads, distances } => (0..count)
                    .map(|i| {
                        let distance = distances[i / heads % distances.len()] as f32;
                        -distance * 0.5_f32.powi((i % heads % 4) as i32)
                    })
                    .collect(),
                Init::Normal(deviation) => {
                    let stream = crate::random::Stream::new(seed, index as u64);
                    (0..count as u64)
                        .map(|i| deviation * stream.cut_normal(i))
                        .collect()
                }
            };
            slot.fill_as(Values::Single(values), kept(&slot.name), device);
        }
    }
}
