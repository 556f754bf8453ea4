// As conv.wgsl, on the matrix units of the device: filters and pixels rounded to f16, sums in f32.
// A workgroup makes 2 · DOWN · TILE channels of 2 · ACROSS · TILE pixels, STEP factors at a time, each subgroup a quarter; where
// there are fewer subgroups, they go round again. Pixels are divided by ROOM while they are in f16.
// SIDE (odd), DOUBLE (1, or 2 to repeat), TILE, DOWN, ACROSS, THREADS and the types Left, Right and Sum are set before this text.
// Twin: the tokenizer's convolution in tensor operations, over rounded values.

enable f16;
enable wgpu_cooperative_matrix;

const STEP: u32 = 32u;
const AREA: u32 = SIDE * SIDE;
const PARTS: u32 = 4u;
const PART_OUTS: u32 = DOWN * TILE;
const PART_PIXELS: u32 = ACROSS * TILE;
const PIXELS: u32 = 2u * PART_PIXELS;
const PIECE: u32 = TILE * TILE;
// From row to row of filters and of pixels, so that rows do not share memory banks.
const APART: u32 = STEP + 8u;
const BESIDE: u32 = PIXELS + 8u;
const ROOM: f32 = 64.0;

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

var<workgroup> filters: array<f16, 2u * PART_OUTS * APART>;
var<workgroup> pixels: array<f16, STEP * BESIDE>;
var<workgroup> pieces: array<f32, PARTS * PIECE>;
var<workgroup> shared_count: u32;

// The value of a factor at a pixel of the result; 0 outside.
fn pixel_at(source: u32, factor: u32, place: u32) -> f32 {
    let shift = factor % AREA;
    let at = vec2(i32(place % info.width), i32(place / info.width)) + vec2(i32(shift % SIDE), i32(shift / SIDE)) - i32(SIDE / 2u);
    if at.x < 0 || at.y < 0 || at.x >= i32(info.width) || at.y >= i32(info.height) {
        return 0.0;
    }
    let width = info.width / DOUBLE;
    let map = source + factor / AREA * (info.height / DOUBLE * width);
    return x[map + u32(at.y) / DOUBLE * width + u32(at.x) / DOUBLE];
}

// Writes a piece of every part from `first` to `end`.
fn put(lane: u32, first: u32, end: u32, out: u32, place: u32, start: u32) {
    let plane = info.height * info.width;
    for (var i = first * PIECE + lane; i < end * PIECE; i += THREADS) {
        let part = i / PIECE;
        let own_out = out + part / 2u * PART_OUTS + i % PIECE / TILE;
        let own_place = place + part % 2u * PART_PIXELS + i % TILE;
        if own_out < info.outputs && own_place < plane {
            y[start + own_out * plane + own_place] = pieces[i] * ROOM + bias[own_out];
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    if lane == 0u {
        shared_count = subgroups;
    }
    let count = workgroupUniformLoad(&shared_count);
    let plane = info.height * info.width;
    let factors = info.inputs * AREA;
    let source = group.z * info.inputs * (plane / (DOUBLE * DOUBLE));
    let first_place = group.x * PIXELS;
    let first_out = group.y * 2u * PART_OUTS;
    for (var first = 0u; first < PARTS; first += count) {
        // Subgroups beyond the last part make one of the others once more.
        let part = (first + subgroup) % PARTS;
        let out = part / 2u * PART_OUTS;
        let place = part % 2u * PART_PIXELS;
        var sum_{i:DOWN}_{j:ACROSS} = Sum();
        for (var start = 0u; start < factors; start += STEP) {
            workgroupBarrier();
            for (var i = lane; i < 2u * PART_OUTS * STEP; i += THREADS) {
                let own = first_out + i / STEP;
                let factor = start + i % STEP;
                var value = 0.0;
                if own < info.outputs && factor < factors {
                    value = weight[own * factors + factor];
                }
                filters[i / STEP * APART + i % STEP] = f16(value);
            }
            for (var i = lane; i < PIXELS * STEP; i += THREADS) {
                let own = first_place + i % PIXELS;
                let factor = start + i / PIXELS;
                var value = 0.0;
                if own < plane && factor < factors {
                    value = pixel_at(source, factor, own);
                }
                pixels[i / PIXELS * BESIDE + i % PIXELS] = f16(value / ROOM);
            }
            workgroupBarrier();
            for (var k = 0u; k < STEP; k += TILE) {
                let left_{i:DOWN} = coopLoadT<Left>(&filters[(out + {i}u * TILE) * APART + k], APART);
                let right_{j:ACROSS} = coopLoadT<Right>(&pixels[k * BESIDE + place + {j}u * TILE], BESIDE);
                sum_{i:DOWN}_{j:ACROSS} = coopMultiplyAdd(left_{i}, right_{j}, sum_{i}_{j});
            }
        }
        let end = min(first + count, PARTS);
        workgroupBarrier(); coopStoreT(sum_{i:DOWN}_{j:ACROSS}, &pieces[part * PIECE], TILE); workgroupBarrier(); put(lane, first, end, first_out + {i}u * TILE, first_place + {j}u * TILE, group.z * info.outputs * plane);
    }
}
