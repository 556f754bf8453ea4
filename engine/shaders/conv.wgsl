// Square convolution of stride 1 that keeps the size, of x or of x with every value repeated 2×2, with bias.
// One product of matrices, filters [out, in · SIDE²] by shifted pixels, of which nothing is laid out in memory:
// a workgroup makes 64 channels of 64 pixels, an invocation 8 channels of 8 pixels, 8 factors at a time. Its sums are
// variables with names, as an array would not stay in registers everywhere; a line with {r:8} stands for eight lines.
// SIDE (odd) and DOUBLE (1, or 2 to repeat) are set before this text.
// Twin: the tokenizer's convolution in tensor operations.

const LANES: u32 = 64u;
const STEP: u32 = 8u;
const OUTS: u32 = 64u;
const AREA: u32 = SIDE * SIDE;

struct Info {
    inputs: u32,
    outputs: u32,
    // Of the result.
    height: u32,
    width: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> info: Info;

// Fours are written whole: parts of one must not be written by different invocations.
var<workgroup> filters: array<vec4<f32>, STEP * 16u>;
var<workgroup> pixels: array<vec4<f32>, STEP * 16u>;

fn filter_at(out: u32, factor: u32, factors: u32) -> f32 {
    if out >= info.outputs || factor >= factors {
        return 0.0;
    }
    return weight[out * factors + factor];
}

// The value of a map at a pixel of the result; 0 outside.
fn pixel_at(map: u32, at: vec2<i32>, source_width: u32) -> f32 {
    if at.x < 0 || at.y < 0 || at.x >= i32(info.width) || at.y >= i32(info.height) {
        return 0.0;
    }
    return x[map + u32(at.y) / DOUBLE * source_width + u32(at.x) / DOUBLE];
}

// Eight pixels of a channel, four of them 32 places further.
fn put(start: u32, out: u32, place: u32, plane: u32, left: vec4<f32>, right: vec4<f32>) {
    if out >= info.outputs {
        return;
    }
    for (var i = 0u; i < 4u; i++) {
        if place + i < plane {
            y[start + out * plane + place + i] = left[i] + bias[out];
        }
        if place + 32u + i < plane {
            y[start + out * plane + place + 32u + i] = right[i] + bias[out];
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let plane = info.height * info.width;
    let first = group.x * LANES;
    let first_out = group.y * OUTS;
    let batch = group.z;
    let factors = info.inputs * AREA;
    let row = lane / 8u;
    let column = lane % 8u;

    // The four pixels that this invocation fetches for all, for every fourth factor.
    let own_four = lane % 16u;
    let own_{i:4} = first + 4u * own_four + {i}u;
    let at_{i:4} = vec2(i32(own_{i} % info.width), i32(own_{i} / info.width));
    let source_width = info.width / DOUBLE;
    let source_plane = plane / (DOUBLE * DOUBLE);
    let source = batch * info.inputs * source_plane;

    var left_{r:8} = vec4(0.0);
    var right_{r:8} = vec4(0.0);
    for (var start = 0u; start < factors; start += STEP) {
        workgroupBarrier();
        for (var i = lane; i < STEP * 16u; i += LANES) {
            let out = first_out + i / STEP * 4u;
            let factor = start + i % STEP;
            filters[i % STEP * 16u + i / STEP] = vec4(
                filter_at(out, factor, factors),
                filter_at(out + 1u, factor, factors),
                filter_at(out + 2u, factor, factors),
                filter_at(out + 3u, factor, factors),
            );
        }
        for (var k = lane / 16u; k < STEP; k += 4u) {
            let factor = start + k;
            let shift = factor % AREA;
            let apart = vec2(i32(shift % SIDE), i32(shift / SIDE)) - i32(SIDE / 2u);
            let map = source + factor / AREA * source_plane;
            var four = vec4(0.0);
            if factor < factors {
                if own_{i:4} < plane { four[{i}] = pixel_at(map, at_{i} + apart, source_width); }
            }
            pixels[k * 16u + own_four] = four;
        }
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let left = pixels[k * 16u + column];
            let right = pixels[k * 16u + column + 8u];
            let upper = filters[k * 16u + 2u * row];
            let lower = filters[k * 16u + 2u * row + 1u];
            let filter_{r:4} = upper[{r}];
            let filter_4 = lower.x;
            let filter_5 = lower.y;
            let filter_6 = lower.z;
            let filter_7 = lower.w;
            left_{r:8} += filter_{r} * left;
            right_{r:8} += filter_{r} * right;
        }
    }
    let target_start = batch * info.outputs * plane;
    let out = first_out + row * 8u;
    let place = first + 4u * column;
    put(target_start, out + {r:8}u, place, plane, left_{r}, right_{r});
}
