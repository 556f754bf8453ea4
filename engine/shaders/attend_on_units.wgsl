// As attend.wgsl, on the matrix units of the device: queries, keys, weights and values rounded to f16, sums in f32.
// A workgroup takes 64 queries of a head and 32 keys at a time, a subgroup 16 of the queries; where there are fewer subgroups,
// they go round again. Sums are brought to a new maximum only when it is LAG above the one they stand at, which is seldom after
// the first keys: weights reach exp(LAG) until then. Keys and values are divided by ROOM while they are in f16.
// WIDTH = D, TILE, a divisor of 16 and of D, DOWN = 16 / TILE, OWN = D / TILE, KINDS = 32 / TILE, THREADS and the types Left, Right,
// Sum and Kept, that of keys and values, are set before this text,
// and SPLIT, 1 where keys and values beyond the first `split` lie in other tensors, else 0. All steps are in units of four values; 32 KB of workgroup memory for D = 128.
// Twin: `model::attention::attend` in tensor operations, over rounded values.

enable f16;
enable wgpu_cooperative_matrix;

const QUERIES: u32 = 64u;
const KEYS: u32 = 32u;
const PARTS: u32 = 4u;
const QUARTERS: u32 = WIDTH / 4u;
// From row to row of values, of scores and of weights: multiples of 16 bytes that do not share memory banks.
const APART: u32 = WIDTH + 8u;
const SCORES: u32 = KEYS + 4u;
const WEIGHTS: u32 = KEYS + 8u;
const ROOM: f32 = 64.0;
const LAG: f32 = 6.0;

struct Info {
    // Queries of this launch, and the first of them.
    queries: u32,
    first_query: u32,
    query_batch: u32,
    query_head: u32,
    query_place: u32,
    key_batch: u32,
    key_head: u32,
    key_place: u32,
    // Where values start behind keys when both lie in one tensor.
    value_start: u32,
    sum_batch: u32,
    sum_place: u32,
    first_batch: u32,
    // Keys that lie in the first tensors, and the steps of those behind them, which lie in others.
    split: u32,
    own_batch: u32,
    own_head: u32,
    own_place: u32,
    // Keys that every row of the batch sees, from `first_batch` on.
    keys: array<vec4<u32>, 16>,
}

@group(0) @binding(0) var<storage, read_write> query: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> key: array<vec4<Kept>>;
@group(0) @binding(2) var<storage, read_write> value: array<vec4<Kept>>;
@group(0) @binding(3) var<storage, read_write> own_key: array<vec4<Kept>>;
@group(0) @binding(4) var<storage, read_write> own_value: array<vec4<Kept>>;
@group(0) @binding(5) var<storage, read_write> mixed: array<f32>;
@group(0) @binding(6) var<uniform> info: Info;

fn key_at(start: u32, own_start: u32, place: u32, four: u32) -> vec4<f32> {
    if SPLIT != 0u && place >= info.split {
        return vec4<f32>(own_key[own_start + (place - info.split) * info.own_place + four]);
    }
    return vec4<f32>(key[start + place * info.key_place + four]);
}

fn value_at(start: u32, own_start: u32, place: u32, four: u32) -> vec4<f32> {
    if SPLIT != 0u && place >= info.split {
        return vec4<f32>(own_value[own_start + (place - info.split) * info.own_place + four]);
    }
    return vec4<f32>(value[info.value_start + start + place * info.key_place + four]);
}

// Queries, later keys, later values.
var<workgroup> staged: array<f16, QUERIES * APART>;
var<workgroup> scores: array<f32, QUERIES * SCORES>;
var<workgroup> weights: array<f16, QUERIES * WEIGHTS>;
// Of every query: the maximum its sums stand at, the sum of its weights, and what earlier sums are worth now.
var<workgroup> most: array<f32, QUERIES>;
var<workgroup> total: array<f32, QUERIES>;
var<workgroup> keep: array<f32, QUERIES>;
var<workgroup> shared_count: u32;
var<workgroup> rises: u32;

fn stage(i: u32, four: vec4<f32>) {
    let to = i / QUARTERS * APART + i % QUARTERS * 4u;
    staged[to + {c:4}u] = f16(four[{c}]);
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
    let subgroup_count = workgroupUniformLoad(&shared_count);
    let first = group.x * QUERIES;
    let here = min(QUERIES, info.queries - first);
    let head = group.y;
    let batch = info.first_batch + group.z;
    let keys = info.keys[group.z / 4u][group.z % 4u];
    let key_start = batch * info.key_batch + head * info.key_head;
    let own_start = batch * info.own_batch + head * info.own_head;
    let query_start = batch * info.query_batch + head * info.query_head + (info.first_query + first) * info.query_place;
    let target_start = 4u * (batch * info.sum_batch + (info.first_query + first) * info.sum_place) + head * WIDTH;

    for (var first_part = 0u; first_part < PARTS; first_part += subgroup_count) {
        // Subgroups beyond the last part make one of the others once more.
        let row = (first_part + subgroup) % PARTS * 16u;
        workgroupBarrier();
        for (var i = lane; i < QUERIES * QUARTERS; i += THREADS) {
            var four = vec4(0.0);
            if i / QUARTERS < here {
                four = query[query_start + i / QUARTERS * info.query_place + i % QUARTERS];
            }
            stage(i, four);
        }
        for (var i = lane; i < QUERIES; i += THREADS) {
            most[i] = -3.4e38;
            total[i] = 0.0;
        }
        workgroupBarrier();
        let query_{i:DOWN}_{c:OWN} = coopLoadT<Left>(&staged[(row + {i}u * TILE) * APART + {c}u * TILE], APART);
        var sum_{i:DOWN}_{c:OWN} = Sum();

        for (var start = 0u; start < keys; start += KEYS) {
            let count = min(KEYS, keys - start);
            workgroupBarrier();
            for (var i = lane; i < KEYS * QUARTERS; i += THREADS) {
                var four = vec4(0.0);
                if i / QUARTERS < count {
                    four = key_at(key_start, own_start, start + i / QUARTERS, i % QUARTERS) / ROOM;
                }
                stage(i, four);
            }
            if lane == 0u {
                rises = 0u;
            }
            workgroupBarrier();
            var score_{i:DOWN}_{j:KINDS} = Sum();
            score_{i:DOWN}_{j:KINDS} = coopMultiplyAdd(query_{i}_{c:OWN}, coopLoad<Right>(&staged[{j}u * TILE * APART + {c}u * TILE], APART), score_{i}_{j});
            coopStoreT(score_{i:DOWN}_{j:KINDS}, &scores[(row + {i}u * TILE) * SCORES + {j}u * TILE], SCORES);
            workgroupBarrier();
            for (var own = lane; own < QUERIES; own += THREADS) {
                let before = most[own];
                var highest = before;
                for (var i = 0u; i < count; i++) {
                    highest = max(highest, scores[own * SCORES + i] * ROOM);
                }
                var now = before;
                if highest > before + LAG {
                    now = highest;
                    if start > 0u {
                        rises = 1u;
                    }
                }
                let kept = exp(before - now);
                var sum = total[own] * kept;
                for (var i = 0u; i < KEYS; i++) {
                    var weight = f16(0.0);
                    if i < count {
                        weight = f16(exp(scores[own * SCORES + i] * ROOM - now));
                    }
                    sum += f32(weight);
                    weights[own * WEIGHTS + i] = weight;
                }
                most[own] = now;
                keep[own] = kept;
                total[own] = sum;
            }
            for (var i = lane; i < KEYS * QUARTERS; i += THREADS) {
                var four = vec4(0.0);
                if i / QUARTERS < count {
                    four = value_at(key_start, own_start, start + i / QUARTERS, i % QUARTERS) / ROOM;
                }
                stage(i, four);
            }
            let has_risen = workgroupUniformLoad(&rises);
            if has_risen != 0u {
                workgroupBarrier(); coopStoreT(sum_{i:DOWN}_{c:OWN}, &scores[row * SCORES], SCORES); workgroupBarrier(); scale(lane, {i}u * TILE); workgroupBarrier(); sum_{i}_{c} = coopLoadT<Sum>(&scores[row * SCORES], SCORES);
            }
            let weight_{i:DOWN}_{j:KINDS} = coopLoadT<Left>(&weights[(row + {i}u * TILE) * WEIGHTS + {j}u * TILE], WEIGHTS);
            sum_{i:DOWN}_{c:OWN} = coopMultiplyAdd(weight_{i}_{j:KINDS}, coopLoadT<Right>(&staged[{j}u * TILE * APART + {c}u * TILE], APART), sum_{i}_{c});
        }
        let end = min(first_part + subgroup_count, PARTS);
        workgroupBarrier(); coopStoreT(sum_{i:DOWN}_{c:OWN}, &scores[row * SCORES], SCORES); workgroupBarrier(); put(lane, first_part, end, {i}u * TILE, here, target_start + {c}u * TILE);
    }
}

// A piece of sums of every part, of its rows from `down` on: brought to the new maximum.
fn scale(lane: u32, down: u32) {
    for (var i = lane; i < PARTS * TILE * TILE; i += THREADS) {
        let row = i / (TILE * TILE) * 16u;
        let place = i % (TILE * TILE) / TILE;
        scores[(row + place) * SCORES + i % TILE] *= keep[row + down + place];
    }
}

// The same, as it is in the end, for parts from `first` to `end`.
fn put(lane: u32, first: u32, end: u32, down: u32, here: u32, target_start: u32) {
    for (var i = first * TILE * TILE + lane; i < end * TILE * TILE; i += THREADS) {
        let row = i / (TILE * TILE) * 16u;
        let place = i % (TILE * TILE) / TILE;
        let query = row + down + place;
        if query < here {
            let value = scores[(row + place) * SCORES + i % TILE];
            mixed[target_start + 4u * query * info.sum_place + i % TILE] = value * ROOM / total[query];
        }
    }
}
