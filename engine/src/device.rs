//! Finding and opening the device that computes.
//!
//! A real graphics processor when there is one, else the processor itself; a
//! software graphics driver only when asked for by name, because it is slower
//! than the processor's own path. Nothing here needs a display, and a machine
//! without any graphics driver simply has no entry but the processor.

use burn::tensor::{Device, DeviceKind as BurnKind};

use crate::api::{DeviceChoice, DeviceInfo, DeviceKind, EngineError, WeightStorage};
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
}

impl OpenDevice {
    /// Whether operations written by hand compute here.
    pub fn has_own_operations(&self) -> bool {
        self.info.kind == DeviceKind::Cpu && kernels::available()
    }
}

struct Found {
    info: DeviceInfo,
    burn: BurnKind,
    max_binding: u64,
}

/// Graphics adapters, real ones before software ones.
fn adapters() -> Vec<Found> {
    let listed = std::panic::catch_unwind(|| {
        let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        // Starting OpenGL too would take time, and prints complaints where there is no desktop.
        let wanted = wgpu::InstanceDescriptor {
            backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        };
        let instance = wgpu::Instance::new(wanted);
        let list = pollster::block_on(instance.enumerate_adapters(backends));
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
        },
        max_elements: CPU_MAX_ELEMENTS,
        weights: WeightStorage::default(),
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
/// [`EngineError::NoDevice`] when what was asked for by name is not there.
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
            Some(gpu) => Ok(graphics(gpu, "the first graphics processor found")),
            None => Ok(cpu("no graphics processor was found")),
        },
        DeviceChoice::Gpu(place) => match of_kind(DeviceKind::Gpu).nth(place.unwrap_or(0)) {
            Some(gpu) => Ok(graphics(gpu, "asked for")),
            None => missing(place.map_or("gpu".to_owned(), |place| format!("gpu:{place}"))),
        },
        DeviceChoice::Software => match of_kind(DeviceKind::Software).next() {
            Some(software) => Ok(graphics(software, "asked for")),
            None => missing("software".to_owned()),
        },
    }
}

fn graphics(found: &Found, reason: &str) -> OpenDevice {
    OpenDevice {
        device: Device::wgpu(found.burn.clone()),
        info: DeviceInfo {
            reason: reason.to_owned(),
            ..found.info.clone()
        },
        max_elements: (found.max_binding / VALUE_BYTES) as usize,
        weights: WeightStorage::default(),
    }
}
