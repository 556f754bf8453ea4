// Layer normalisation of [R, L, C] over C, then normal · (plus + scale) + shift; scale and shift are [R or 1, 1, C].
// This is AdaLN's modulation with plus = 1, and a plain layer norm with plus = 0. One workgroup per token.
// Twin: `layers::scaled_norm` in tensor operations.

const LANES: u32 = 64u;

struct Info {
    rows: u32,
    width: u32,
    length: u32,
    // 0 where scale or shift serve every R.
    scale_step: u32,
    shift_step: u32,
    row: u32,
    plus: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> shift: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> info: Info;

var<workgroup> shared_sums: array<f32, LANES>;

// Two rounds of eight: few barriers and few reads.
fn sum_of_all(lane: u32, own: f32) -> f32 {
    shared_sums[lane] = own;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
        sum += shared_sums[lane % 8u * 8u + i];
    }
    workgroupBarrier();
    shared_sums[lane] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
        sum += shared_sums[i];
    }
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = group.x + group.y * info.row;
    if token >= info.rows {
        return;
    }
    let start = token * info.width;
    var own = 0.0;
    for (var i = lane; i < info.width; i += LANES) {
        own += x[start + i];
    }
    let mean = sum_of_all(lane, own) / f32(info.width);
    own = 0.0;
    for (var i = lane; i < info.width; i += LANES) {
        let apart = x[start + i] - mean;
        own += apart * apart;
    }
    let variance = sum_of_all(lane, own) / f32(info.width);
    let inverse = inverseSqrt(variance + info.epsilon);
    let batch = token / info.length;
    let scale_start = batch * info.scale_step;
    let shift_start = batch * info.shift_step;
    for (var i = lane; i < info.width; i += LANES) {
        let normal = (x[start + i] - mean) * inverse;
        y[start + i] = normal * (info.plus + scale[scale_start + i]) + shift[shift_start + i];
    }
}
