//! What drawing and teaching take in memory, computed from sizes alone, and what the machine has.
//!
//! On the processor the figures are upper bounds that are not far off: `tests/tests/memory.rs` counts what it really
//! takes and holds them against it. A graphics device's allocator keeps pages of several sizes and takes a little more.

use crate::api::{EngineError, Keeping, MemoryNeed, Storage, WeightStorage};
use crate::device::OpenDevice;
use crate::kernels;
use crate::model::{MOST_SCORES, ModelConfig, Transformer, by_block, head_groups};
use crate::schedule::{Scale, ScaleSchedule};
use crate::text::{T5Config, T5Encoder};
use crate::vae::{Vae, VaeConfig};
use crate::weights::{BLOCK, Network as _};
use burn::tensor::Device;

/// Bytes of an f32.
const VALUE: u64 = 4;
/// Of what is counted, the hundredths that come on top: what allocators and drivers keep for themselves.
const RESERVE: u64 = 15;

/// The networks of a model.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// The transformer.
    pub transformer: ModelConfig,
    /// The picture tokenizer.
    pub vae: VaeConfig,
    /// The text encoder.
    pub text: T5Config,
    /// Weights of transformer, tokenizer and text encoder.
    pub weights: [u64; 3],
}

impl Sizes {
    /// Counts the weights of networks of these sizes; none is made.
    pub fn new(transformer: &ModelConfig, vae: &VaeConfig, text: &T5Config) -> Self {
        let device = Device::flex();
        let weights = [
            Transformer::new(transformer, &device, usize::MAX).parameter_count(),
            Vae::new(vae, &device, usize::MAX).parameter_count(),
            T5Encoder::new(text, &device).parameter_count(),
        ];
        Self {
            transformer: transformer.clone(),
            vae: vae.clone(),
            text: text.clone(),
            weights,
        }
    }

    /// Weights of the low-rank additions of `rank` to the layers whose names contain one of `layers`.
    pub fn low_rank(&self, rank: usize, layers: &[String]) -> u64 {
        let mut network = Transformer::new(&self.transformer, &Device::flex(), usize::MAX);
        let chosen = network.adaptables().into_iter();
        let chosen =
            chosen.filter(|layer| layers.iter().any(|part| layer.name.contains(part.as_str())));
        chosen
            .map(|layer| (rank * (layer.shape[0] + layer.shape[1])) as u64)
            .sum()
    }
}

/// What is drawn at once.
#[derive(Clone, Copy, Debug)]
pub struct Drawing<'a> {
    /// The grids.
    pub schedule: &'a ScaleSchedule,
    /// Pictures at once.
    pub pictures: usize,
    /// Whether guidance doubles the rows.
    pub guided: bool,
    /// Most values of one tensor.
    pub max_elements: usize,
    /// How the model is kept.
    pub keeping: Keeping,
    /// What computes; operations of our own keep less.
    pub work: Work,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Operations of our own on the processor ([`available`](crate::kernels::available)).
    Processor,
    /// Shaders of our own on a graphics device.
    Shaders,
    /// Tensor operations.
    Tensors,
}

impl Work {
    /// What computes on graphics devices in this build.
    pub const fn of_graphics() -> Self {
        if kernels::has_shaders() {
            Self::Shaders
        } else {
            Self::Tensors
        }
    }
}

/// Bytes of `count` values.
const fn bytes_of(count: u64, storage: Storage) -> u64 {
    match storage {
        Storage::Single => count * VALUE,
        Storage::Half => count * VALUE / 2,
        // A scale for every block.
        Storage::Eight => count + count * VALUE / BLOCK as u64,
    }
}

/// What a picture takes.
pub fn drawing(sizes: &Sizes, job: &Drawing<'_>) -> MemoryNeed {
    let config = &sizes.transformer;
    let rows = (job.pictures * if job.guided { 2 } else { 1 }) as u64;
    let (width, hidden) = (config.width as u64, config.mlp_hidden as u64);
    let scales = &job.schedule.scales;
    let all = job.schedule.tokens() as u64;
    let last = scales.last().map_or(1, |scale| scale.tokens()) as u64;
    let mut need = MemoryNeed::default();
    need.add(
        "transformer",
        bytes_of(sizes.weights[0], job.keeping.weights),
    );
    need.add("picture tokenizer", tokenizer(sizes, job.keeping));
    let text = bytes_of(sizes.weights[2], job.keeping.weights);
    // Keys and values of all scales but the last, which nothing looks back on.
    let cached = config.depth as u64 * 2 * rows * (all - last) * width;
    let cached = bytes_of(cached, job.keeping.cache);
    let limit = job.max_elements as u64;
    // Keys and values of one block side by side; tokens, queries and what comes of them.
    // Rows that pass through a block at once, and all that wait meanwhile, on both sides of it.
    let (at_once, waiting) = if job.keeping.cache == Storage::Eight && rows > 1 {
        (1, 2 * rows * last * width)
    } else {
        (rows, 0)
    };
    let groups = head_groups(config.heads, job.keeping.cache) as u64;
    let heads = config.heads as u64 / groups;
    let scores = (at_once * heads * last * all).min(limit.min(MOST_SCORES as u64)) * 3;
    // Keys and values of the heads that are looked at, as if of all heads: joined and widened, unless they are looked at where they
    // lie.
    let tiled = job.work == Work::Shaders && config.head_width().is_multiple_of(32);
    let seen = match (job.keeping.cache, job.work) {
        (Storage::Single, Work::Processor) => 0,
        (Storage::Single, Work::Shaders) if tiled => 0,
        _ => all.div_ceil(groups),
    };
    let inner = (at_once * last * hidden).min(limit);
    // Shaders take heads that divide into 32s; they make no tables of scores.
    let (attention, forward) = match job.work {
        Work::Processor => (
            at_once * (4 * seen + 24 * last) * width,
            at_once * last * 4 * width + inner * 3,
        ),
        Work::Shaders if tiled => (
            at_once * (3 * seen + 9 * last) * width,
            at_once * last * 2 * width + inner * 2,
        ),
        Work::Shaders | Work::Tensors => (
            at_once * (4 * seen + 20 * last) * width + scores,
            at_once * last * 4 * width + inner * 3,
        ),
    };
    // A matrix that is kept in less is widened while it is used; the processor does so piece by piece.
    let widened = match (job.keeping.weights, job.work) {
        (Storage::Single, _) | (Storage::Half, Work::Processor) => 0,
        _ => width * hidden.max(3 * width),
    };
    let pass = (attention.max(forward) + waiting + widened) * VALUE;
    // A preview is decoded beside the keys and values, the picture when they are gone.
    let patch = if config.patchify { 4 } else { 1 };
    let decoding = |scale: Option<&Scale>| {
        let places = scale.map_or(1, |scale| scale.tokens() * patch);
        pixels_taken(sizes, places, job) * VALUE
    };
    let most = scales
        .last()
        .map_or(0, |last| most_preview_tokens(*last, job.keeping));
    let mut earlier = scales.iter().rev().skip(1);
    let preview = earlier.find(|scale| scale.tokens() <= most);
    let together = cached + pass.max(decoding(preview));
    let work = together.max(decoding(scales.last())) - cached;
    if !job.keeping.text_stays && text > cached + work {
        // It leaves before the first scale is drawn.
        need.add("text encoder", text);
        return with_reserve(need);
    }
    if job.keeping.text_stays {
        need.add("text encoder", text);
    }
    need.add("keys and values", cached);
    need.add("work", work);
    with_reserve(need)
}

/// Most tokens of a grid that is decoded as a preview while keys and values are there, for a picture whose last grid
/// is `last`: a quarter of them where memory counts most.
pub fn most_preview_tokens(last: Scale, keeping: Keeping) -> usize {
    match keeping.cache {
        Storage::Eight => last.tokens() / 4,
        Storage::Single | Storage::Half => last.tokens(),
    }
}

/// Bytes of the picture tokenizer.
const fn tokenizer(sizes: &Sizes, keeping: Keeping) -> u64 {
    if keeping.halves_tokenizer() {
        sizes.weights[1] * VALUE / 2
    } else {
        sizes.weights[1] * VALUE
    }
}

fn with_reserve(mut need: MemoryNeed) -> MemoryNeed {
    let bytes = need.bytes() * RESERVE / 100;
    need.add("reserve", bytes);
    need
}

/// What a square picture of `scales` scales takes, with guidance, on `device`.
///
/// # Errors
/// [`EngineError::BadSetting`] for a number of scales outside the table.
pub fn square_picture(
    sizes: &Sizes,
    scales: usize,
    device: &OpenDevice,
    keeping: Keeping,
) -> Result<MemoryNeed, EngineError> {
    let job = Drawing {
        schedule: &ScaleSchedule::nearest(1.0, scales)?,
        pictures: 1,
        guided: true,
        max_elements: device.max_elements,
        keeping,
        work: device.work(),
    };
    Ok(drawing(sizes, &job))
}

/// Values that decoding `places` of the code map holds at once: maps of the widest level as they come, go and lie beside.
fn pixels_taken(sizes: &Sizes, places: usize, job: &Drawing<'_>) -> u64 {
    let vae = &sizes.vae;
    let levels = vae.decoder_ch_mult.iter().enumerate();
    let widest = levels.map(|(level, &mult)| {
        let side = (vae.patch_size / vae.stem) >> level;
        places * side.max(1).pow(2) * mult * vae.base_ch
    });
    let widest = widest.max().unwrap_or(0);
    // A map in bands is left to tensor operations.
    let by_shaders = job.work == Work::Shaders && widest <= job.max_elements;
    let maps = if by_shaders { 4 } else { 6 };
    maps * widest as u64
}

/// Bytes of a loaded model's weights.
pub fn loaded(sizes: &Sizes, keeping: Keeping) -> u64 {
    let [transformer, _, text] = sizes.weights;
    let text = if keeping.text_stays { text } else { 0 };
    bytes_of(transformer + text, keeping.weights) + tokenizer(sizes, keeping)
}

/// Ways to keep a model that `wish` allows, from the quickest to the smallest.
fn ways(wish: WeightStorage) -> impl Iterator<Item = Keeping> {
    const WAYS: [[Storage; 2]; 5] = [
        [Storage::Single, Storage::Single],
        [Storage::Half, Storage::Single],
        [Storage::Half, Storage::Half],
        [Storage::Half, Storage::Eight],
        [Storage::Eight, Storage::Eight],
    ];
    let allowed = match wish {
        WeightStorage::Auto => &WAYS[..],
        WeightStorage::Single => &WAYS[..1],
        WeightStorage::Half => &WAYS[1..2],
        WeightStorage::Small => &WAYS[2..3],
        WeightStorage::Smaller => &WAYS[3..4],
        WeightStorage::Eight => &WAYS[4..],
    };
    allowed.iter().flat_map(|&[weights, cache]| {
        [true, false].map(|text_stays| Keeping {
            weights,
            cache,
            text_stays,
        })
    })
}

/// The quickest way to keep a model that `wish` allows.
pub fn quickest(wish: WeightStorage) -> Keeping {
    ways(wish).next().unwrap_or_default()
}

/// What a picture of `scales` scales takes the next smaller way of keeping a model that is kept as `now`, in bytes;
/// `None` when there is none.
pub fn smaller(sizes: &Sizes, scales: usize, device: &OpenDevice, now: Keeping) -> Option<u64> {
    let bytes = |way| {
        square_picture(sizes, scales, device, way)
            .ok()
            .map(|need| need.bytes())
    };
    let before = bytes(now)?;
    let later = ways(device.weights).skip_while(|way| *way != now).skip(1);
    later.filter_map(bytes).find(|&bytes| bytes < before)
}

/// How a model is kept on `device` so that a picture of `scales` scales fits: as `wish` says, or the first way
/// that fits, from the quickest to the smallest.
///
/// Where the files are in half precision and the device multiplies that as it lies, nothing is to be gained by more.
///
/// # Errors
/// [`EngineError::BadSetting`] for a number of scales outside the table.
pub fn keeping(
    sizes: &Sizes,
    scales: usize,
    device: &OpenDevice,
    wish: WeightStorage,
    files_are_half: bool,
) -> Result<Keeping, EngineError> {
    let as_it_lies =
        files_are_half && wish == WeightStorage::Auto && device.work() == Work::Processor;
    let mut last = Keeping::default();
    for way in ways(wish).filter(|way| !(as_it_lies && way.weights == Storage::Single)) {
        last = way;
        let need = square_picture(sizes, scales, device, last)?;
        if device.memory().is_none_or(|there| need.bytes() <= there) {
            return Ok(last);
        }
    }
    Ok(last)
}

/// How a LoRA is taught.
#[derive(Clone, Copy, Debug)]
pub struct Teaching<'a> {
    /// The grids.
    pub schedule: &'a ScaleSchedule,
    /// Pictures per update.
    pub batch: usize,
    /// Rank of the additions.
    pub rank: usize,
    /// Parts of the names of layers that learn.
    pub layers: &'a [String],
    /// Threads that share a batch.
    pub workers: usize,
    /// Whether blocks are computed again for the gradient instead of kept.
    pub by_block: bool,
    /// How the model is kept.
    pub keeping: Keeping,
    /// Whether operations of our own compute ([`available`](crate::kernels::available), on the processor); they keep less.
    pub own_operations: bool,
}

/// Values of a hidden layer that are computed at once where blocks are computed again.
pub(crate) const PIECE_VALUES: usize = 8 << 20;

/// What an update takes, with the weights.
pub fn teaching(sizes: &Sizes, job: &Teaching<'_>) -> MemoryNeed {
    let config = &sizes.transformer;
    let tokens = (job.batch * job.schedule.tokens()) as u64;
    let (width, hidden) = (config.width as u64, config.mlp_hidden as u64);
    let depth = config.depth as u64;
    let mut need = MemoryNeed::default();
    need.add(
        "transformer",
        bytes_of(sizes.weights[0], job.keeping.weights),
    );
    need.add("picture tokenizer", tokenizer(sizes, job.keeping));
    if job.keeping.text_stays {
        need.add(
            "text encoder",
            bytes_of(sizes.weights[2], job.keeping.weights),
        );
    }
    let learning = sizes.low_rank(job.rank, job.layers);
    // Master weights, their average, moments and the sum of gradients; per worker weights and gradients, here and on
    // the device.
    let copies = 5 + 4 * job.workers as u64;
    need.add("additions and optimizer", learning * copies * VALUE);
    // Inner values per token of one block that a gradient needs; more where one operation is several.
    let per_token = if job.own_operations {
        KEPT_WIDTHS[0] * width + KEPT_HIDDEN[0] * hidden
    } else {
        KEPT_WIDTHS[1] * width + KEPT_HIDDEN[1] * hidden
    };
    let scores = if job.own_operations {
        0
    } else {
        // Scale by scale: about 0.6 of the square for the usual schedules.
        let square = (job.schedule.tokens() as u64).pow(2) * 6 / 10;
        3 * job.batch as u64 * config.heads as u64 * square
    };
    let work = if job.by_block {
        let piece = (PIECE_VALUES as u64).min(tokens * hidden) * per_token / hidden;
        // Scores of attention, made again chunk by chunk, with what becomes of them; not while a piece is there.
        let last = job.schedule.last().tokens() as u64;
        let all = (job.batch * config.heads * job.schedule.tokens()) as u64 * last;
        let piece = piece.max(4 * all.min(by_block::MOST_SCORES as u64 * job.workers as u64));
        let shared = 12 * tokens * width;
        depth * tokens * width + shared + piece
    } else {
        depth * (tokens * per_token + scores) + 4 * tokens * width
    };
    let bits = tokens * 6 * config.token_bits() as u64 * 2;
    need.add("inner values", (work + bits) * VALUE);
    with_reserve(need)
}

/// Token widths and hidden widths that a block keeps per token: with operations of our own, and without.
const KEPT_WIDTHS: [u64; 2] = [14, 18];
const KEPT_HIDDEN: [u64; 2] = [2, 5];

/// Memory of the machine that is free for use, in bytes; `None` where the system does not tell.
pub fn free_on_host() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    Some(system.available_memory()).filter(|&bytes| bytes > 0)
}

/// Memory that this process holds, in bytes, without files that it maps where the system tells those apart; 0 where it
/// tells nothing.
pub fn held_by_process() -> u64 {
    if let Some(bytes) = own_pages() {
        return bytes;
    }
    let Ok(own) = sysinfo::get_current_pid() else {
        return 0;
    };
    let mut system = sysinfo::System::new();
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[own]), false);
    system.process(own).map_or(0, sysinfo::Process::memory)
}

/// Memory of this process that lies in no file, as Linux says.
fn own_pages() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}
