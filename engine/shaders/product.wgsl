// y = x Wᵀ + bias on the matrix units of the device, and what becomes of it: factors rounded to f16, sums in f32.
// x is [rows, inputs] and W [outputs, inputs], inputs in fours. A workgroup makes 2 · DOWN · TILE rows of 2 · ACROSS · TILE
// results, STEP factors at a time, each subgroup a quarter; where there are fewer subgroups, they go round again.
// x is divided by ROOM while it is in f16, so that it stays finite. All that units do is in uniform control flow.
// TILE, DOWN, ACROSS, THREADS, the types Left, Right, Sum and Weight, and BIASED, GELU, GATED and ADDED (0 or 1; see finish.wgsl)
// are set before this text.
// Twins: `layers::product_in_f16` and `layers::finished` in tensor operations.

enable f16;
enable wgpu_cooperative_matrix;

const STEP: u32 = 32u;
// From row to row of what is staged: a little more than a row, so that rows do not share the banks of the memory.
const APART: u32 = STEP + 8u;
const PARTS: u32 = 4u;
const PART_ROWS: u32 = DOWN * TILE;
const PART_OUTS: u32 = ACROSS * TILE;
const PIECE: u32 = TILE * TILE;
const ROOM: f32 = 64.0;

struct Info {
    rows: u32,
    inputs: u32,
    outputs: u32,
    // Rows that share a row of the gate.
    length: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<Weight>>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> before: array<f32>;
@group(0) @binding(4) var<storage, read_write> gate: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> info: Info;

var<workgroup> of_rows: array<f16, 2u * PART_ROWS * APART>;
var<workgroup> of_outs: array<f16, 2u * PART_OUTS * APART>;
var<workgroup> pieces: array<f32, PARTS * PIECE>;
var<workgroup> shared_count: u32;

// Writes a piece of every part from `first` to `end`.
fn put(lane: u32, first: u32, end: u32, row: u32, out: u32) {
    for (var i = first * PIECE + lane; i < end * PIECE; i += THREADS) {
        let part = i / PIECE;
        let own_row = row + part / 2u * PART_ROWS + i % PIECE / TILE;
        let own_out = out + part % 2u * PART_OUTS + i % TILE;
        if own_row < info.rows && own_out < info.outputs {
            var value = pieces[i] * ROOM;
            if BIASED != 0u {
                value += bias[own_out];
            }
            if GELU != 0u {
                let inner = value + 0.044715 * value * value * value;
                value = value / (1.0 + exp(-1.5957691216057308 * inner));
            }
            value *= info.factor;
            if GATED != 0u {
                value *= gate[own_row / info.length * info.outputs + own_out];
            }
            let index = own_row * info.outputs + own_out;
            if ADDED != 0u {
                value += before[index];
            }
            y[index] = value;
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
    let first_row = group.y * 2u * PART_ROWS;
    let first_out = group.x * 2u * PART_OUTS;
    let fours = info.inputs / 4u;
    for (var first = 0u; first < PARTS; first += count) {
        // Subgroups beyond the last part make one of the others once more.
        let part = (first + subgroup) % PARTS;
        let row = part / 2u * PART_ROWS;
        let out = part % 2u * PART_OUTS;
        var sum_{i:DOWN}_{j:ACROSS} = Sum();
        for (var start = 0u; start < fours; start += STEP / 4u) {
            workgroupBarrier();
            for (var i = lane; i < 2u * PART_ROWS * STEP / 4u; i += THREADS) {
                let own = i / (STEP / 4u);
                let four = start + i % (STEP / 4u);
                var values = vec4<f32>();
                if first_row + own < info.rows && four < fours {
                    values = x[(first_row + own) * fours + four] / ROOM;
                }
                let to = own * APART + i % (STEP / 4u) * 4u;
                of_rows[to + {c:4}u] = f16(values[{c}]);
            }
            for (var i = lane; i < 2u * PART_OUTS * STEP / 4u; i += THREADS) {
                let own = i / (STEP / 4u);
                let four = start + i % (STEP / 4u);
                var values = vec4<Weight>();
                if first_out + own < info.outputs && four < fours {
                    values = weight[(first_out + own) * fours + four];
                }
                let to = own * APART + i % (STEP / 4u) * 4u;
                of_outs[to + {c:4}u] = f16(values[{c}]);
            }
            workgroupBarrier();
            for (var k = 0u; k < STEP; k += TILE) {
                let left_{i:DOWN} = coopLoadT<Left>(&of_rows[(row + {i}u * TILE) * APART + k], APART);
                let right_{j:ACROSS} = coopLoad<Right>(&of_outs[(out + {j}u * TILE) * APART + k], APART);
                sum_{i:DOWN}_{j:ACROSS} = coopMultiplyAdd(left_{i}, right_{j}, sum_{i}_{j});
            }
        }
        let end = min(first + count, PARTS);
        workgroupBarrier(); coopStoreT(sum_{i:DOWN}_{j:ACROSS}, &pieces[part * PIECE], TILE); workgroupBarrier(); put(lane, first, end, first_row + {i}u * TILE, first_out + {j}u * TILE);
    }
}
