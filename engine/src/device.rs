//! Finding and opening the device that computes.
//!
//! A real graphics processor when there is one, else the processor itself; a
//! software graphics driver only when asked for by name, because it is slower
//! than the processor's own path. Nothing here needs a display, and a machine
//! without any graphics driver simply has no entry but the processor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Device, DeviceKind as BurnKind};

use crate::api::{DeviceChoice, DeviceInfo, DeviceKind, EngineError, WeightStorage};
use crate::kernels::MatrixUnits;
use crate::memory::Work;
use crate::{kernels, memory};

/// Values in the largest tensor on the processor: keeps temporary memory moderate.
const CPU_MAX_ELEMENTS: usize = 32 << 20;
/// Bytes per value of a tensor.
const VALUE_BYTES: u64 = 4;

/// A device that is open.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    /// The device as burn knows it.
    pub device: Device,
    /// What it is and why it was chosen.
    pub info: DeviceInfo,
    /// Most values one tensor may hold.
    pub max_elements: usize,
    /// How weights are kept.
    pub weights: WeightStorage,
    /// So much was seen to be too much, in bytes; whatever the driver says.
    pub most_memory: Option<u64>,
    /// What lies under a graphics device.
    pub handle: Option<wgpu::Device>,
    /// Whether an allocation failed since it was last asked.
    full: Arc<AtomicBool>,
}

impl OpenDevice {
    /// Whether an allocation failed since this was last asked.
    pub fn ran_out_of_memory(&self) -> bool {
        self.full.swap(false, Ordering::Relaxed)
    }

    /// Memory that may be used, in bytes; `None` when unknown.
    pub fn memory(&self) -> Option<u64> {
        match (self.info.memory, self.most_memory) {
            (Some(there), Some(most)) => Some(there.min(most)),
            (there, most) => there.or(most),
        }
    }

    /// What computes a picture here.
    pub fn work(&self) -> Work {
        match self.info.kind {
            DeviceKind::Cpu if kernels::available() => Work::Processor,
            DeviceKind::Cpu => Work::Tensors,
            DeviceKind::Gpu | DeviceKind::Software => Work::of_graphics(),
        }
    }

    /// Whether operations written by hand compute gradients here.
    pub fn has_own_operations(&self) -> bool {
        self.info.kind == DeviceKind::Cpu && kernels::available()
    }
}

struct Found {
    info: DeviceInfo,
    burn: BurnKind,
    max_binding: u64,
}

const BACKENDS: wgpu::Backends = wgpu::Backends::VULKAN
    .union(wgpu::Backends::METAL)
    .union(wgpu::Backends::DX12);

/// The door to graphics drivers.
fn instance() -> wgpu::Instance {
    // Starting OpenGL too would take time, and prints complaints where there is no desktop.
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: BACKENDS,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// Graphics adapters, real ones before software ones.
fn adapters() -> Vec<Found> {
    let listed = std::panic::catch_unwind(|| {
        let list = pollster::block_on(instance().enumerate_adapters(BACKENDS));
        list.iter()
            .map(|adapter| (adapter.get_info(), adapter.limits(), own_memory(adapter)))
            .collect::<Vec<_>>()
    });
    let Ok(listed) = listed else {
        tracing::warn!("asking for graphics adapters failed; going on without them");
        return Vec::new();
    };
    let mut counts = [0_usize; 3];
    let mut next = |class: usize| {
        counts[class] += 1;
        counts[class] - 1
    };
    let mut found: Vec<Found> = listed
        .into_iter()
        .map(|(info, limits, memory)| {
            let burn = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => BurnKind::DiscreteGpu(next(0)),
                wgpu::DeviceType::IntegratedGpu => BurnKind::IntegratedGpu(next(1)),
                wgpu::DeviceType::VirtualGpu => BurnKind::VirtualGpu(next(2)),
                wgpu::DeviceType::Cpu => BurnKind::Cpu,
                wgpu::DeviceType::Other => BurnKind::DefaultDevice,
            };
            let kind = if info.device_type == wgpu::DeviceType::Cpu {
                DeviceKind::Software
            } else {
                DeviceKind::Gpu
            };
            Found {
                burn,
                info: DeviceInfo {
                    kind,
                    name: info.name,
                    backend: format!("{:?}", info.backend),
                    driver: format!("{} {}", info.driver, info.driver_info)
                        .trim()
                        .to_owned(),
                    reason: String::new(),
                    memory,
                    half_products: false,
                },
                max_binding: limits
                    .max_storage_buffer_binding_size
                    .min(limits.max_buffer_size),
            }
        })
        .collect();
    found.sort_by_key(|f| match f.burn {
        BurnKind::DiscreteGpu(_) => 0,
        BurnKind::IntegratedGpu(_) => 1,
        BurnKind::Cpu => 3,
        _ => 2,
    });
    found
}

/// The largest heap of a card's own memory, in bytes; only Vulkan tells.
#[cfg(not(target_vendor = "apple"))]
#[expect(
    unsafe_code,
    reason = "wgpu hands out the driver's own handles this way only"
)]
fn own_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    use wgpu::hal::api::Vulkan;
    // SAFETY: the handles are used while the adapter lives, and nothing is changed through them.
    let properties = unsafe {
        let adapter = adapter.as_hal::<Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(adapter.raw_physical_device())
    };
    let count = properties.memory_heap_count as usize;
    // The first bit of a heap says that it is the card's own.
    let own = properties.memory_heaps.iter().take(count);
    let own = own.filter(|heap| heap.flags.as_raw() & 1 != 0);
    own.map(|heap| heap.size).max()
}

#[cfg(target_vendor = "apple")]
fn own_memory(_adapter: &wgpu::Adapter) -> Option<u64> {
    // Shared with the processor.
    memory::free_on_host()
}

fn cpu(reason: &str) -> OpenDevice {
    OpenDevice {
        device: Device::flex(),
        info: DeviceInfo {
            kind: DeviceKind::Cpu,
            name: "processor".to_owned(),
            backend: String::new(),
            driver: String::new(),
            reason: reason.to_owned(),
            memory: memory::free_on_host(),
            half_products: kernels::has_half_products(),
        },
        max_elements: CPU_MAX_ELEMENTS,
        weights: WeightStorage::default(),
        most_memory: None,
        handle: None,
        full: Arc::default(),
    }
}

/// Everything found, the one that [`DeviceChoice::Auto`] takes first.
pub fn list() -> Vec<DeviceInfo> {
    let found = adapters();
    let gpus = found
        .iter()
        .filter(|f| f.info.kind == DeviceKind::Gpu)
        .count();
    let mut infos: Vec<DeviceInfo> = Vec::new();
    for (place, f) in found.into_iter().enumerate() {
        let mut info = f.info;
        info.reason = match info.kind {
            DeviceKind::Gpu if place == 0 => "chosen: the first graphics processor found".to_owned(),
            DeviceKind::Gpu => format!("not chosen; ask for it with --device gpu:{place}"),
            DeviceKind::Cpu | DeviceKind::Software => {
                "not chosen: computes on the processor, slower than the processor's own path; --device software takes it".to_owned()
            }
        };
        infos.push(info);
    }
    let reason = if gpus == 0 {
        "chosen: no graphics processor was found"
    } else {
        "not chosen; ask for it with --device cpu"
    };
    let place = if gpus == 0 { 0 } else { gpus };
    infos.insert(place, cpu(reason).info);
    infos
}

/// Opens the device of `choice`.
///
/// # Errors
/// [`EngineError::NoDevice`] when what was asked for by name is not there, [`EngineError::Internal`] when it does not open.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice, EngineError> {
    let missing = |wanted: String| Err(EngineError::NoDevice { wanted });
    if choice == DeviceChoice::Cpu {
        return Ok(cpu("asked for"));
    }
    let found = adapters();
    let of_kind = |kind| found.iter().filter(move |f| f.info.kind == kind);
    match choice {
        DeviceChoice::Cpu => Ok(cpu("asked for")),
        DeviceChoice::Auto => match of_kind(DeviceKind::Gpu).next() {
            Some(gpu) => graphics(gpu, "the first graphics processor found"),
            None => Ok(cpu("no graphics processor was found")),
        },
        DeviceChoice::Gpu(place) => match of_kind(DeviceKind::Gpu).nth(place.unwrap_or(0)) {
            Some(gpu) => graphics(gpu, "asked for"),
            None => missing(place.map_or("gpu".to_owned(), |place| format!("gpu:{place}"))),
        },
        DeviceChoice::Software => match of_kind(DeviceKind::Software).next() {
            Some(software) => graphics(software, "asked for"),
            None => missing("software".to_owned()),
        },
    }
}

/// A graphics device that is open in this process.
struct Opened {
    found: BurnKind,
    device: Device,
    handle: wgpu::Device,
    full: Arc<AtomicBool>,
}

/// Notes allocations that fail on `handle`. Burn's own handler ends the work in a panic and forgets why; so does this
/// one, but for the note.
fn note_full_memory(handle: &wgpu::Device) -> Arc<AtomicBool> {
    let full = Arc::new(AtomicBool::new(false));
    let noted = full.clone();
    #[expect(clippy::panic, reason = "the backend catches it and fails the work")]
    handle.on_uncaptured_error(Arc::new(move |error| {
        if matches!(error, wgpu::Error::OutOfMemory { .. }) {
            noted.store(true, Ordering::Relaxed);
        }
        panic!("wgpu error: {error}");
    }));
    full
}

/// Lets products use the matrix units of `adapter`, which lies under `device`, where it has such as the shader is for.
fn use_matrix_units(device: &Device, adapter: &wgpu::Adapter) {
    use wgpu::CooperativeScalarType::{F16, F32};
    let of_side = |side: u32| {
        adapter.cooperative_matrix_properties().iter().any(|one| {
            [one.m_size, one.n_size, one.k_size] == [side; 3]
                && (one.ab_type, one.cr_type) == (F16, F32)
        })
    };
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(needed) {
        return;
    }
    let Some(tile) = [16, 8].into_iter().find(|side| of_side(*side)) else {
        return;
    };
    let about = adapter.get_info();
    // Metal does not tell; threads go together by 32 there.
    let least = if about.backend == wgpu::Backend::Metal {
        32
    } else {
        1
    };
    let units = MatrixUnits {
        tile,
        subgroup: about.subgroup_min_size.max(least),
        memory: adapter.limits().max_compute_workgroup_storage_size,
    };
    kernels::use_matrix_units(device, &about.name, units);
}

/// Graphics devices that are open. Burn keeps what it opens until the process ends, so each is opened once, and
/// again only when it was lost.
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

fn graphics(found: &Found, reason: &str) -> Result<OpenDevice, EngineError> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = opened.iter().find(|one| one.found == found.burn);
    let (device, handle, full) = if let Some(one) = known {
        (one.device.clone(), one.handle.clone(), one.full.clone())
    } else {
        let options = Device::wgpu_options().device_kind(found.burn.clone());
        let (device, setup) = options.init_with_setup().map_err(|error| {
            EngineError::internal(format!("opening {}: {error}", found.info.name))
        })?;
        let full = note_full_memory(&setup.device);
        use_matrix_units(&device, &setup.adapter);
        opened.push(Opened {
            found: found.burn.clone(),
            device: device.clone(),
            handle: setup.device.clone(),
            full: full.clone(),
        });
        (device, setup.device, full)
    };
    let half_products = device.supports_dtype(DType::F16);
    Ok(OpenDevice {
        device,
        info: DeviceInfo {
            reason: reason.to_owned(),
            half_products,
            ..found.info.clone()
        },
        max_elements: (found.max_binding / VALUE_BYTES) as usize,
        weights: WeightStorage::default(),
        most_memory: None,
        handle: Some(handle),
        full,
    })
}

/// Opens a graphics device that was lost once more, as a new one beside the lost one; all tensors on it are gone.
///
/// # Errors
/// [`EngineError::DeviceLost`] when it does not open, and in the `fast` build, whose compiler needs a device that burn
/// opened itself.
pub fn reopen(lost: &OpenDevice) -> Result<OpenDevice, EngineError> {
    let wrong = |what: String| EngineError::DeviceLost {
        device: lost.info.name.clone(),
        what: format!("and could not be opened again: {what}"),
    };
    if cfg!(feature = "fast") {
        return Err(wrong("start the program again".to_owned()));
    }
    let old = lost.handle.as_ref();
    let old = old.ok_or_else(|| wrong("it is no graphics device".to_owned()))?;
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = opened.iter_mut().find(|one| one.device == lost.device);
    let known = known.ok_or_else(|| wrong("it was not open".to_owned()))?;
    let instance = instance();
    let adapters = pollster::block_on(instance.enumerate_adapters(BACKENDS));
    let info = old.adapter_info();
    let adapter = adapters
        .into_iter()
        .find(|adapter| adapter.get_info() == info)
        .ok_or_else(|| wrong("it is not there any more".to_owned()))?;
    let wanted = wgpu::DeviceDescriptor {
        required_features: old.features() - wgpu::Features::all_experimental_mask(),
        required_limits: old.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..wgpu::DeviceDescriptor::default()
    };
    let (handle, queue) = pollster::block_on(adapter.request_device(&wanted))
        .map_err(|error| wrong(error.to_string()))?;
    let setup = burn::tensor::wgpu::WgpuSetup {
        instance,
        adapter,
        device: handle.clone(),
        queue,
        backend: info.backend,
    };
    let device = Device::wgpu_options().setup(setup).init();
    known.device = device.map_err(|error| wrong(error.to_string()))?;
    known.full = note_full_memory(&handle);
    known.handle = handle;
    Ok(OpenDevice {
        device: known.device.clone(),
        handle: Some(known.handle.clone()),
        full: known.full.clone(),
        ..lost.clone()
    })
}
