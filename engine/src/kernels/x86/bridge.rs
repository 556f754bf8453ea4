//! How an operation on host slices becomes an operation on burn tensors, with its gradient.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::TensorMetadata;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchTensor, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use half::f16;

/// Values of a tensor on the host, row by row, as many as its shape says.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Values<'a> {
    pub(in crate::kernels) data: &'a [f32],
    /// The values of a tensor in half precision, in place of `data`; only weights of [`Linear`](super::wide::linear) are.
    pub(in crate::kernels) halves: &'a [f16],
    pub(in crate::kernels) shape: &'a [usize],
}

impl<'a> Values<'a> {
    /// Whether they are in f32.
    pub(in crate::kernels) const fn are_single(&self) -> bool {
        self.halves.is_empty()
    }

    /// The values, however they are kept.
    pub(in crate::kernels) fn numbers(&self) -> Numbers<'a> {
        if self.are_single() {
            Numbers::Single(self.data)
        } else {
            Numbers::Half(self.halves)
        }
    }
}

/// Values in memory.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Numbers<'a> {
    /// f32.
    Single(&'a [f32]),
    /// Half precision, widened where they are multiplied.
    Half(&'a [f16]),
}

/// A function of some tensors on host memory; any of them may stand where one is not used.
pub(in crate::kernels) trait Operation<const N: usize>:
    Debug + Send + Sync
{
    /// Shape of the result.
    fn shape(&self, inputs: [&[usize]; N]) -> Vec<usize>;

    /// The result, row by row.
    fn forward(&self, inputs: [Values<'_>; N]) -> Vec<f32>;
}

/// One of three tensors that has a gradient.
pub(in crate::kernels) trait Differentiable: Operation<3> {
    /// Gradients of the inputs for the gradient of the result; an empty one stands for zeros.
    ///
    /// Those that are not `wanted` may be left empty, and that of an input that is not used must be: the tensor may stand there
    /// that is another input too.
    fn backward(
        &self,
        gradient: &[f32],
        inputs: [Values<'_>; 3],
        wanted: [bool; 3],
    ) -> [Vec<f32>; 3];
}

/// A function of two tensors that writes into two more.
pub(in crate::kernels) trait Writing: Debug + Send + Sync {
    /// Shape of the result, for those of the tensors.
    fn shape(&self, inputs: [&[usize]; 2]) -> Vec<usize>;

    /// The result, row by row; `rooms` are two tensors of the same shape, row by row.
    fn write(
        &self,
        inputs: [Values<'_>; 2],
        rooms: [&mut [f32]; 2],
        room_shape: &[usize],
    ) -> Vec<f32>;
}

pub(in crate::kernels) type Shared = Arc<dyn Differentiable>;

/// Backends that run [`Differentiable`] operations.
#[backend_extension(Flex, Autodiff)]
pub(in crate::kernels) trait HostOperations: Backend {
    fn host_forward(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        operation: Shared,
    ) -> FloatTensor<Self>;
}

/// Backends that run [`Operation`]s of more tensors, where no gradients are recorded.
#[backend_extension(Flex)]
pub(in crate::kernels) trait PlainOperations: Backend {
    fn plain_forward(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        operation: Arc<dyn Operation<5>>,
    ) -> FloatTensor<Self>;
}

/// Backends that run [`Writing`] operations.
#[backend_extension(Flex)]
pub(in crate::kernels) trait WritingOperations: Backend {
    fn write(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        operation: Arc<dyn Writing>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Backends that run the gradients of [`Differentiable`] operations.
pub(in crate::kernels) trait HostGradients: Backend {
    fn host_backward(
        gradient: FloatTensor<Self>,
        inputs: [FloatTensor<Self>; 3],
        operation: &Shared,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<Self>>; 3];
}

/// Runs `work` over the values of some tensors. Parts of one whose values follow each other are read where they lie.
fn with_values<const N: usize, T>(
    tensors: [&FloatTensor<Flex>; N],
    work: impl FnOnce([Values<'_>; N]) -> T,
) -> T {
    let copies = tensors.map(|tensor| (!tensor.is_contiguous()).then(|| tensor.to_contiguous()));
    work(std::array::from_fn(|index| {
        let tensor = copies[index].as_ref().unwrap_or(tensors[index]);
        let shape = tensor.layout().shape();
        let data = tensor.as_slice::<f32>().unwrap_or(&[]);
        let halves = tensor.as_slice::<f16>().unwrap_or(&[]);
        let count: usize = shape.iter().product();
        assert_eq!(data.len() + halves.len(), count, "all in f32 or f16");
        Values {
            data,
            halves,
            shape,
        }
    }))
}

fn tensor(values: Vec<f32>, shape: Vec<usize>) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(values, shape))
}

impl HostOperations for Flex {
    fn host_forward(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        operation: Shared,
    ) -> FloatTensor<Self> {
        with_values([&x, &a, &b], |values| {
            let shape = operation.shape(values.map(|value| value.shape));
            tensor(operation.forward(values), shape)
        })
    }
}

impl PlainOperations for Flex {
    fn plain_forward(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        operation: Arc<dyn Operation<5>>,
    ) -> FloatTensor<Self> {
        with_values([&x, &a, &b, &c, &d], |values| {
            let shape = operation.shape(values.map(|value| value.shape));
            tensor(operation.forward(values), shape)
        })
    }
}

impl WritingOperations for Flex {
    fn write(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        operation: Arc<dyn Writing>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        // Written in place, unless someone else holds them too; as a whole, as the tensor's own list is.
        let [mut first, mut second] = [first, second].map(|room| room.to_contiguous());
        let result = with_values([&a, &b], |values| {
            let shape = operation.shape(values.map(|value| value.shape));
            let room_shape = first.shape();
            let rooms = [first.storage_mut(), second.storage_mut()];
            tensor(operation.write(values, rooms, &room_shape), shape)
        });
        (result, first, second)
    }
}

impl HostGradients for Flex {
    fn host_backward(
        gradient: FloatTensor<Self>,
        inputs: [FloatTensor<Self>; 3],
        operation: &Shared,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<Self>>; 3] {
        let gradient = gradient.to_contiguous();
        let [x, a, b] = &inputs;
        with_values([x, a, b], |values| {
            let gradients =
                operation.backward(gradient.as_slice::<f32>().unwrap_or(&[]), values, wanted);
            let mut shapes = values.map(|value| value.shape.to_vec()).into_iter();
            gradients.map(|values| {
                let shape = shapes.next().unwrap_or_default();
                (!values.is_empty()).then(|| tensor(values, shape))
            })
        })
    }
}

#[derive(Debug)]
struct HostBackward;

#[derive(Clone, Debug)]
struct State<T: Clone + Debug> {
    inputs: [T; 3],
    operation: Shared,
}

impl<B: HostGradients> Backward<B, 3> for HostBackward {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let State { inputs, operation } = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = B::host_backward(gradient, inputs, &operation, wanted);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: HostOperations + HostGradients, C: CheckpointStrategy> HostOperations for Autodiff<B, C> {
    fn host_forward(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        operation: Shared,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), a.node(), b.node()];
        let inputs = [x, a, b].map(|tensor| tensor.primitive().clone());
        let [x, a, b] = inputs.clone();
        let output = B::host_forward(x, a, b, operation.clone());
        match HostBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(State { inputs, operation }, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

/// Applies `operation`; all tensors must lie on the processor's backend.
pub(in crate::kernels) fn apply<const X: usize, const A: usize, const B: usize, const Y: usize>(
    x: Tensor<X>,
    a: Tensor<A>,
    b: Tensor<B>,
    operation: impl Differentiable + 'static,
) -> Tensor<Y> {
    let result = <Dispatch as HostOperations>::host_forward(
        x.into_dispatch(),
        a.into_dispatch(),
        b.into_dispatch(),
        Arc::new(operation),
    );
    Tensor::from_dispatch(result)
}

/// A tensor as [`apply_plain`] takes it.
pub(in crate::kernels) fn bound<const D: usize>(tensor: &Tensor<D>) -> DispatchTensor {
    tensor.clone().into_dispatch()
}

/// Applies `operation`; all tensors must lie on the processor's backend, without gradients.
pub(in crate::kernels) fn apply_plain<const Y: usize>(
    [x, a, b, c, d]: [DispatchTensor; 5],
    operation: impl Operation<5> + 'static,
) -> Tensor<Y> {
    let operation = Arc::new(operation);
    let result = <Dispatch as PlainOperations>::plain_forward(x, a, b, c, d, operation);
    Tensor::from_dispatch(result)
}

/// Applies `operation`, which writes into `first` and `second`: the result, and those two. All must lie on the processor's
/// backend, without gradients.
pub(in crate::kernels) fn apply_into<const D: usize, const Y: usize>(
    [a, b]: [DispatchTensor; 2],
    first: Tensor<D>,
    second: Tensor<D>,
    operation: impl Writing + 'static,
) -> (Tensor<Y>, Tensor<D>, Tensor<D>) {
    let (first, second) = (first.into_dispatch(), second.into_dispatch());
    let operation = Arc::new(operation);
    let (result, first, second) =
        <Dispatch as WritingOperations>::write(a, b, first, second, operation);
    (
        Tensor::from_dispatch(result),
        Tensor::from_dispatch(first),
        Tensor::from_dispatch(second),
    )
}
