// softmax(q kᵀ) v with the table of scores never built: keys pass by in tiles, and a running maximum and sum
// keep the softmax exact (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135).
// A workgroup takes 64 queries of a head and 32 keys at a time. Its 8×8 invocations each make 8×4 scores, then each
// invocation turns one query's scores into weights, then each mixes values for 8 queries.
// A line with {r:8} stands for eight lines, as sums in an array would not stay in registers everywhere.
// WIDTH = D, a multiple of 32, and PASSING, values in a tile of their own, a divisor of 32 for which
// PASSING · D / 4 <= 480, and OWN = D / 32 are set before this text,
// and SPLIT, 1 where keys and values beyond the first `split` lie in other tensors, else 0. All steps are in units of four values; 16 KB of workgroup memory.
// Twin: `model::attention::attend` in tensor operations.

const QUERIES: u32 = 64u;
const KEYS: u32 = 32u;
// Values of a head that pass by at once, in fours; rows are padded so that neighbours lie in different banks.
const CHUNK: u32 = 4u;
const PADDED: u32 = 5u;
const QUARTERS: u32 = WIDTH / 4u;
const WEIGHTS: u32 = 33u;

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
@group(0) @binding(1) var<storage, read_write> key: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> own_key: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> own_value: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> mixed: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> info: Info;

fn key_at(start: u32, own_start: u32, place: u32, four: u32) -> vec4<f32> {
    if SPLIT != 0u && place >= info.split {
        return own_key[own_start + (place - info.split) * info.own_place + four];
    }
    return key[start + place * info.key_place + four];
}

fn value_at(start: u32, own_start: u32, place: u32, four: u32) -> vec4<f32> {
    if SPLIT != 0u && place >= info.split {
        return own_value[own_start + (place - info.split) * info.own_place + four];
    }
    return value[info.value_start + start + place * info.key_place + four];
}


// Queries and below them keys, or values.
var<workgroup> tile: array<vec4<f32>, 480>;
var<workgroup> weights: array<f32, QUERIES * WEIGHTS>;
// What earlier sums of a query are worth now.
var<workgroup> keep: array<f32, QUERIES>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * QUERIES;
    let here = min(QUERIES, info.queries - first);
    let head = group.y;
    let batch = info.first_batch + group.z;
    let keys = info.keys[group.z / 4u][group.z % 4u];
    let key_start = batch * info.key_batch + head * info.key_head;
    let own_start = batch * info.own_batch + head * info.own_head;
    let query_start = batch * info.query_batch + head * info.query_head + (info.first_query + first) * info.query_place;
    let row = lane / 8u;
    let column = lane % 8u;

    // Fours of values of the queries of this row.
    var sum_{r:8}_{c:OWN} = vec4(0.0);
    // Of the query whose number in the tile is `lane`.
    var most = -3.4e38;
    var total = 0.0;

    for (var start = 0u; start < keys; start += KEYS) {
        let count = min(KEYS, keys - start);
        // Of query row + 8r, for keys column, column + 8, column + 16 and column + 24.
        var scores_{r:8} = vec4(0.0);
        for (var part = 0u; part < QUARTERS; part += CHUNK) {
            workgroupBarrier();
            for (var i = lane; i < QUERIES * CHUNK; i += QUERIES) {
                let place = i / CHUNK;
                var four = vec4(0.0);
                if place < here {
                    four = query[query_start + place * info.query_place + part + i % CHUNK];
                }
                tile[place * PADDED + i % CHUNK] = four;
            }
            for (var i = lane; i < KEYS * CHUNK; i += QUERIES) {
                let place = i / CHUNK;
                var four = vec4(0.0);
                if place < count {
                    four = key_at(key_start, own_start, start + place, part + i % CHUNK);
                }
                tile[QUERIES * PADDED + place * PADDED + i % CHUNK] = four;
            }
            workgroupBarrier();
            for (var d = 0u; d < CHUNK; d++) {
                let key_{c:4} = tile[QUERIES * PADDED + (column + 8u * {c}u) * PADDED + d];
                let query_{r:8} = tile[(row + 8u * {r}u) * PADDED + d];
                scores_{r:8} += vec4(dot(query_{r}, key_0), dot(query_{r}, key_1), dot(query_{r}, key_2), dot(query_{r}, key_3));
            }
        }
        weights[(row + 8u * {r:8}u) * WEIGHTS + column] = scores_{r}.x;
        weights[(row + 8u * {r:8}u) * WEIGHTS + column + 8u] = scores_{r}.y;
        weights[(row + 8u * {r:8}u) * WEIGHTS + column + 16u] = scores_{r}.z;
        weights[(row + 8u * {r:8}u) * WEIGHTS + column + 24u] = scores_{r}.w;
        workgroupBarrier();
        var highest = most;
        for (var i = 0u; i < count; i++) {
            highest = max(highest, weights[lane * WEIGHTS + i]);
        }
        let kept = exp(most - highest);
        most = highest;
        total *= kept;
        keep[lane] = kept;
        for (var i = 0u; i < KEYS; i++) {
            var weight = 0.0;
            if i < count {
                weight = exp(weights[lane * WEIGHTS + i] - most);
            }
            total += weight;
            weights[lane * WEIGHTS + i] = weight;
        }
        workgroupBarrier();
        let kept_{r:8} = keep[row + 8u * {r}u];
        sum_{r:8}_{c:OWN} *= kept_{r};
        for (var passing = 0u; passing < KEYS; passing += PASSING) {
            workgroupBarrier();
            for (var i = lane; i < PASSING * QUARTERS; i += QUERIES) {
                let place = passing + i / QUARTERS;
                var four = vec4(0.0);
                if place < count {
                    four = value_at(key_start, own_start, start + place, i % QUARTERS);
                }
                tile[i] = four;
            }
            workgroupBarrier();
            for (var place = 0u; place < PASSING; place++) {
                let value_{c:OWN} = tile[place * QUARTERS + column + 8u * {c}u];
                let weight_{r:8} = weights[(row + 8u * {r}u) * WEIGHTS + passing + place];
                sum_{r:8}_{c:OWN} += weight_{r} * value_{c};
            }
        }
    }
    workgroupBarrier();
    keep[lane] = 1.0 / total;
    workgroupBarrier();
    let target_start = batch * info.sum_batch + (info.first_query + first) * info.sum_place + head * QUARTERS + column;
    if row + 8u * {r:8}u < here { mixed[target_start + (row + 8u * {r}u) * info.sum_place + 8u * {c:OWN}u] = sum_{r}_{c} * keep[row + 8u * {r}u]; }
}
