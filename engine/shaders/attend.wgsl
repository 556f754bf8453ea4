// softmax(q kᵀ) v with the table of scores never built: keys pass by in tiles, and a running maximum and sum
// keep the softmax exact (Milakov and Gimelshein, arXiv 1805.02867). One query per invocation.
// QUARTERS = D / 4 and TILE, keys per tile, are set before this text. All steps are in units of four values.
// Twin: `model::attention::attend` in tensor operations.

const LANES: u32 = 64u;

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
    // Keys that every row of the batch sees, from `first_batch` on.
    keys: array<vec4<u32>, 16>,
}

@group(0) @binding(0) var<storage, read_write> query: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> key: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> mixed: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> info: Info;

var<workgroup> key_tile: array<vec4<f32>, TILE * QUARTERS>;
var<workgroup> value_tile: array<vec4<f32>, TILE * QUARTERS>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = group.x * LANES + lane;
    let is_there = place < info.queries;
    let head = group.y;
    let batch = info.first_batch + group.z;
    let keys = info.keys[group.z / 4u][group.z % 4u];
    let key_start = batch * info.key_batch + head * info.key_head;

    var own: array<vec4<f32>, QUARTERS>;
    var sum: array<vec4<f32>, QUARTERS>;
    let query_start = batch * info.query_batch + head * info.query_head + (info.first_query + place) * info.query_place;
    for (var d = 0u; d < QUARTERS; d++) {
        sum[d] = vec4(0.0);
        if is_there {
            own[d] = query[query_start + d];
        }
    }
    var most = -3.4e38;
    var total = 0.0;
    for (var start = 0u; start < keys; start += TILE) {
        workgroupBarrier();
        for (var i = lane; i < TILE * QUARTERS; i += LANES) {
            let key_place = start + i / QUARTERS;
            if key_place < keys {
                let from_place = key_start + key_place * info.key_place + i % QUARTERS;
                key_tile[i] = key[from_place];
                value_tile[i] = value[info.value_start + from_place];
            }
        }
        workgroupBarrier();
        if is_there {
            let count = min(TILE, keys - start);
            var scores: array<f32, TILE>;
            var tile_most = most;
            for (var j = 0u; j < count; j++) {
                var score = 0.0;
                for (var d = 0u; d < QUARTERS; d++) {
                    score += dot(own[d], key_tile[j * QUARTERS + d]);
                }
                scores[j] = score;
                tile_most = max(tile_most, score);
            }
            let keep = exp(most - tile_most);
            most = tile_most;
            total *= keep;
            for (var d = 0u; d < QUARTERS; d++) {
                sum[d] *= keep;
            }
            for (var j = 0u; j < count; j++) {
                let weight = exp(scores[j] - most);
                total += weight;
                for (var d = 0u; d < QUARTERS; d++) {
                    sum[d] += weight * value_tile[j * QUARTERS + d];
                }
            }
        }
    }
    if is_there {
        let target_start = batch * info.sum_batch + (info.first_query + place) * info.sum_place + head * QUARTERS;
        for (var d = 0u; d < QUARTERS; d++) {
            mixed[target_start + d] = sum[d] / total;
        }
    }
}
