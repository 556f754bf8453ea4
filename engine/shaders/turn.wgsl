// Heads of [B, L, 3C]: queries and keys brought to unit length, queries then to the length whose logarithm is given,
// and both turned by the place of their token; values as they are. Queries are [B, N, L, D]; keys and values go into
// tensors [B, N, S, D], from place `first` on.
// One invocation per pair of values that turns together; HALF = D / 2, SLOTS, heads of a workgroup, and the type Kept of keys
// and values are set before this text.
// Twin: `model::attention::split_and_turn` in tensor operations.

const LANES: u32 = HALF * SLOTS;
const LONGEST: f32 = 4.605170186; // ln 100

struct Info {
    length: u32,
    heads: u32,
    // Places of a head in the tensors of keys and values, and the first of these.
    places: u32,
    first: u32,
}

@group(0) @binding(0) var<storage, read_write> qkv: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> lengths: array<f32>;
// Cosine and sine of every pair of every token, [L, D/2].
@group(0) @binding(2) var<storage, read_write> turns: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> keys: array<vec2<Kept>>;
@group(0) @binding(4) var<storage, read_write> values: array<vec2<Kept>>;
@group(0) @binding(5) var<storage, read_write> queries: array<vec2<f32>>;
@group(0) @binding(6) var<uniform> info: Info;

var<workgroup> squares: array<vec2<f32>, LANES>;

fn turned(pair: vec2<f32>, turn: vec2<f32>) -> vec2<f32> {
    return vec2(pair.x * turn.x - pair.y * turn.y, pair.y * turn.x + pair.x * turn.y);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = group.x;
    let batch = group.y;
    let slot = lane / HALF;
    let pair = lane % HALF;
    let head = group.z * SLOTS + slot;
    let is_there = head < info.heads;
    let width = info.heads * HALF;
    let start = (batch * info.length + place) * 3u * width + head * HALF + pair;
    var query = vec2(0.0);
    var key = vec2(0.0);
    if is_there {
        query = qkv[start];
        key = qkv[start + width];
    }
    squares[lane] = vec2(dot(query, query), dot(key, key));
    workgroupBarrier();
    var sums = vec2(0.0);
    for (var i = 0u; i < HALF; i++) {
        sums += squares[slot * HALF + i];
    }
    if !is_there {
        return;
    }
    let norms = max(sqrt(sums), vec2(1e-12));
    let turn = turns[place * HALF + pair];
    let length = exp(min(lengths[head], LONGEST));
    let own_head = batch * info.heads + head;
    let kept = (own_head * info.places + info.first + place) * HALF + pair;
    queries[(own_head * info.length + place) * HALF + pair] = turned(query / norms.x * length, turn);
    keys[kept] = vec2<Kept>(turned(key / norms.y, turn));
    values[kept] = vec2<Kept>(qkv[start + 2u * width]);
}
