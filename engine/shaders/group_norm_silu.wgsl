// Group normalisation of [B, C, h, w] from the sums of group_sums.wgsl, scale and shift per channel, then SiLU.
// One workgroup per piece of a group; the pieces' means and squares are joined exactly (Chan et al., 1979).

const LANES: u32 = 256u;

struct Info {
    group: u32,
    piece: u32,
    pieces: u32,
    // Values of a channel, channels of a group, groups of a picture.
    plane: u32,
    channels: u32,
    groups: u32,
    epsilon: f32,
    unused: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> shift: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<uniform> info: Info;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var mean = 0.0;
    var squares = 0.0;
    var seen = 0.0;
    for (var i = 0u; i < info.pieces; i++) {
        let part = sums[id.y * info.pieces + i];
        let count = f32(min(info.piece, info.group - i * info.piece));
        let apart = part.x - mean;
        let all = seen + count;
        mean += apart * count / all;
        squares += part.y + apart * apart * seen * count / all;
        seen = all;
    }
    let inverse = inverseSqrt(squares / f32(info.group) + info.epsilon);
    let first = id.x * info.piece;
    let count = min(info.piece, info.group - first);
    let start = id.y * info.group + first;
    let channel = id.y % info.groups * info.channels;
    for (var i = lane; i < count; i += LANES) {
        let own = channel + (first + i) / info.plane;
        let value = (x[start + i] - mean) * inverse * scale[own] + shift[own];
        y[start + i] = value / (1.0 + exp(-value));
    }
}
