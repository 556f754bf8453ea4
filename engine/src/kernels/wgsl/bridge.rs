//! How a shader becomes an operation on burn tensors: launched among burn's own, on burn's memory and queue.
#![cfg_attr(
    feature = "fast",
    allow(unused_variables, reason = "no backend of that build runs shaders")
)]

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchTensor, backend_extension};
use burn::tensor::{Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::{ElemType, Scope, UIntKind, metadata::Info};
use cubecl::prelude::{
    AddressType, CubeDim, ExecutionMode, KernelDefinition, KernelId, KernelMetadata, KernelSettings,
};
use cubecl::server::{CubeCount, KernelArguments, MetadataBindingInfo};
use cubecl::{CubeKernel, PrecompiledSource};

/// A shader file with the constants that stand before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::kernels) struct Shader {
    /// File name without its end; with the constants, what tells shaders apart.
    pub(in crate::kernels) name: &'static str,
    /// The text.
    pub(in crate::kernels) text: &'static str,
    /// Names and values of constants that the text leaves open.
    pub(in crate::kernels) constants: Vec<(&'static str, u32)>,
    /// Names of types that the text leaves open, and what they are.
    pub(in crate::kernels) types: Vec<(&'static str, &'static str)>,
}

impl Shader {
    /// The whole text: what it enables, constants and types, and every line with `{name:count}` as often as it says.
    pub(in crate::kernels) fn source(&self) -> String {
        let enables = |line: &&str| line.starts_with("enable ");
        let mut source: String = self.text.lines().filter(enables).collect();
        let has_f16 = self.types.iter().any(|(_, is)| is.contains("f16"));
        if has_f16 && !source.contains("enable f16;") {
            source.push_str("enable f16;");
        }
        source.push('\n');
        for (name, value) in &self.constants {
            source.push_str(&format!("const {name}: u32 = {value}u;\n"));
        }
        for (name, value) in &self.types {
            source.push_str(&format!("alias {name} = {value};\n"));
        }
        for line in self.text.lines() {
            if line.trim_start().starts_with("//") || enables(&line) {
                continue;
            }
            self.repeat(line, &mut source);
        }
        source
    }

    /// Adds `line` to `source`, for every number below the count of each `{name:count}` in it.
    fn repeat(&self, line: &str, source: &mut String) {
        let found = line.find(':').and_then(|colon| {
            let start = line[..colon].rfind('{')?;
            let end = colon + line[colon..].find('}')?;
            let (name, count) = (&line[start + 1..colon], &line[colon + 1..end]);
            let constant = self.constants.iter().find(|(name, _)| *name == count);
            let count = constant.map_or_else(|| count.parse().ok(), |(_, value)| Some(*value))?;
            Some((name, &line[start..=end], count))
        });
        let Some((name, whole, count)) = found else {
            source.push_str(line);
            source.push('\n');
            return;
        };
        for number in 0..count {
            let line = line.replace(whole, &number.to_string());
            self.repeat(
                &line.replace(&format!("{{{name}}}"), &number.to_string()),
                source,
            );
        }
    }
}

impl KernelMetadata for Shader {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.clone())
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Shader {
    fn define(&self) -> KernelDefinition {
        // Never compiled: the text stands in for it, with its own size of workgroups and its own guards.
        let settings = KernelSettings::new(
            CubeDim::new_1d(64).into(),
            ExecutionMode::Unchecked,
            AddressType::U32,
        );
        KernelDefinition {
            body: Scope::root(settings.clone()),
            settings,
            info: Info::default(),
        }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource {
            source: Self::source(self),
            entrypoint_name: "main".to_owned(),
            lang: "wgsl",
        })
    }
}

/// Launches of one shader that together fill one tensor.
#[derive(Clone, Debug)]
pub(in crate::kernels) struct Launches {
    pub(in crate::kernels) shader: Shader,
    /// Shape of the result.
    pub(in crate::kernels) shape: Vec<usize>,
    /// Workgroups and the words of `info`, of every launch.
    pub(in crate::kernels) list: Vec<([u32; 3], Vec<u32>)>,
}

/// Backends that run shaders.
#[backend_extension(Cube: cfg(not(feature = "fast")))]
pub(in crate::kernels) trait Shaders: Backend {
    /// Binds the first `count` of the tensors; the rest are there because traits take a fixed number.
    fn run_shader(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        count: usize,
        launches: Arc<Launches>,
    ) -> FloatTensor<Self>;

    /// Binds all of the tensors and writes into `d` and `e`, which come back behind the result.
    fn run_shader_into(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        launches: Arc<Launches>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl Shaders for CubeBackend {
    fn run_shader(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        count: usize,
        launches: Arc<Launches>,
    ) -> FloatTensor<Self> {
        let inputs: Vec<CubeTensor> = [a, b, c, d, e]
            .into_iter()
            .take(count)
            .map(into_contiguous)
            .collect();
        launch(&inputs, &launches)
    }

    fn run_shader_into(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        launches: Arc<Launches>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [a, b, c] = [a, b, c].map(into_contiguous);
        // In place, unless someone else holds it too.
        let [d, e] = [d, e].map(|tensor| {
            if !tensor.is_contiguous() {
                into_contiguous(tensor)
            } else if tensor.can_mut() {
                tensor
            } else {
                tensor.copy()
            }
        });
        let inputs = [a, b, c, d, e];
        let result = launch(&inputs, &launches);
        let [_, _, _, d, e] = inputs;
        (result, d, e)
    }
}

/// Gives `launches` to the device; their result is of the first tensor's type.
fn launch(inputs: &[CubeTensor], launches: &Launches) -> CubeTensor {
    let first = &inputs[0];
    let shape = Shape::from(launches.shape.clone());
    let (client, dtype) = (first.client.clone(), first.dtype);
    let memory = client.empty(shape.num_elements() * dtype.size());
    let result =
        CubeTensor::new_contiguous(client.clone(), first.device.clone(), shape, memory, dtype);
    for ([x, y, z], words) in &launches.list {
        let buffers = inputs.iter().chain([&result]);
        let buffers = buffers.map(|tensor| tensor.handle.clone().binding());
        let arguments = KernelArguments::new()
            .with_buffers(buffers.collect())
            .with_info(MetadataBindingInfo::custom(packed(words)));
        client.launch(
            Box::new(launches.shader.clone()),
            CubeCount::Static(*x, *y, *z),
            arguments,
        );
    }
    result
}

/// Words two by two, as they lie in memory; a uniform has a multiple of 16 bytes.
fn packed(words: &[u32]) -> Vec<u64> {
    let mut words = words.to_vec();
    words.resize(words.len().next_multiple_of(4), 0);
    let pairs = words.chunks_exact(2);
    pairs
        .map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32)
        .collect()
}

/// A tensor as [`run`] takes it.
pub(in crate::kernels) fn bound<const D: usize>(tensor: &Tensor<D>) -> DispatchTensor {
    tensor.clone().into_dispatch()
}

/// Runs `launches` over tensors that all lie on one graphics device, without gradients.
pub(in crate::kernels) fn run<const N: usize, const Y: usize>(
    inputs: [DispatchTensor; N],
    launches: Launches,
) -> Tensor<Y> {
    const { assert!(N > 0 && N <= 5, "as many as the trait takes") };
    let [a, b, c, d, e] = std::array::from_fn(|index| inputs[index.min(N - 1)].clone());
    let result = <Dispatch as Shaders>::run_shader(a, b, c, d, e, N, Arc::new(launches));
    Tensor::from_dispatch(result)
}

/// As [`run`] over five tensors, the last two of which are written into: the result, and those two.
pub(in crate::kernels) fn run_into<const D: usize, const E: usize, const Y: usize>(
    [a, b, c]: [DispatchTensor; 3],
    d: Tensor<D>,
    e: Tensor<E>,
    launches: Launches,
) -> (Tensor<Y>, Tensor<D>, Tensor<E>) {
    let (d, e) = (d.into_dispatch(), e.into_dispatch());
    let launches = Arc::new(launches);
    let (result, d, e) = <Dispatch as Shaders>::run_shader_into(a, b, c, d, e, launches);
    (
        Tensor::from_dispatch(result),
        Tensor::from_dispatch(d),
        Tensor::from_dispatch(e),
    )
}
