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

// Numbers and not fours of them: neighbours of four are written by different invocations.
var<workgroup> filters: array<f32, STEP * OUTS>;
var<workgroup> pixels: array<f32, STEP * LANES>;

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

    // The pixel that this invocation fetches for all.
    let own = first + lane;
    let own_y = i32(own / info.width);
    let own_x = i32(own % info.width);
    let source_width = info.width / DOUBLE;
    let source_plane = plane / (DOUBLE * DOUBLE);
    let source = batch * info.inputs * source_plane;

    var left_{r:8} = vec4(0.0);
    var right_{r:8} = vec4(0.0);
    for (var start = 0u; start < factors; start += STEP) {
        workgroupBarrier();
        for (var i = lane; i < STEP * OUTS; i += LANES) {
            let out = first_out + i / STEP;
            let factor = start + i % STEP;
            var value = 0.0;
            if out < info.outputs && factor < factors {
                value = weight[out * factors + factor];
            }
            filters[i % STEP * OUTS + i / STEP] = value;
        }
        for (var k = 0u; k < STEP; k++) {
            let factor = start + k;
            let shift = factor % AREA;
            let from_y = own_y + i32(shift / SIDE) - i32(SIDE / 2u);
            let from_x = own_x + i32(shift % SIDE) - i32(SIDE / 2u);
            var value = 0.0;
            if factor < factors && own < plane && from_y >= 0 && from_x >= 0 && from_y < i32(info.height) && from_x < i32(info.width) {
                let place = u32(from_y) / DOUBLE * source_width + u32(from_x) / DOUBLE;
                value = x[source + factor / AREA * source_plane + place];
            }
            pixels[k * LANES + lane] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let from_pixel = k * LANES + 4u * column;
            let left = vec4(pixels[from_pixel], pixels[from_pixel + 1u], pixels[from_pixel + 2u], pixels[from_pixel + 3u]);
            let right = vec4(pixels[from_pixel + 32u], pixels[from_pixel + 33u], pixels[from_pixel + 34u], pixels[from_pixel + 35u]);
            let filter_{r:8} = filters[k * OUTS + 8u * row + {r}u];
            left_{r:8} += filter_{r} * left;
            right_{r:8} += filter_{r} * right;
        }
    }
    let target_start = batch * info.outputs * plane;
    let out = first_out + row * 8u;
    let place = first + 4u * column;
    put(target_start, out + {r:8}u, place, plane, left_{r}, right_{r});
}
