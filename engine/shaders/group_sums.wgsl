// Mean and sum of squares around it of every piece of every group of a map: [groups, pieces, 2].
// One workgroup per piece, so that a large map keeps a large card busy.
// With group_norm_silu.wgsl; twin: the tokenizer's group normalisation in tensor operations.

const LANES: u32 = 256u;

struct Info {
    // Values of a group, and of a piece.
    group: u32,
    piece: u32,
    pieces: u32,
    unused: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(2) var<uniform> info: Info;

var<workgroup> shared_sums: array<f32, LANES>;

fn sum_of_all(lane: u32, own: f32) -> f32 {
    workgroupBarrier();
    shared_sums[lane] = own;
    for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            shared_sums[lane] += shared_sums[lane + reach];
        }
    }
    workgroupBarrier();
    return shared_sums[0];
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = id.x * info.piece;
    let count = min(info.piece, info.group - first);
    let start = id.y * info.group + first;
    var own = 0.0;
    for (var i = lane; i < count; i += LANES) {
        own += x[start + i];
    }
    let mean = sum_of_all(lane, own) / f32(count);
    own = 0.0;
    for (var i = lane; i < count; i += LANES) {
        let apart = x[start + i] - mean;
        own += apart * apart;
    }
    let squares = sum_of_all(lane, own);
    if lane == 0u {
        sums[id.y * info.pieces + id.x] = vec2(mean, squares);
    }
}
