// What becomes of a product, in one pass: its bias is added, then GELU in its tanh form, or a gate and what it is added to.
// One value, or four side by side, per invocation.
// Value (f32 or vec4<f32>) and BIASED, GELU, GATED and ADDED (0 or 1) are set before this text.
// Twin: `layers::finished` in tensor operations.

struct Info {
    count: u32,
    // Values of a row, and rows that share a row of the gate.
    width: u32,
    length: u32,
    // Invocations in a row of workgroups.
    row: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read_write> product: array<Value>;
@group(0) @binding(1) var<storage, read_write> bias: array<Value>;
@group(0) @binding(2) var<storage, read_write> before: array<Value>;
@group(0) @binding(3) var<storage, read_write> gate: array<Value>;
@group(0) @binding(4) var<storage, read_write> y: array<Value>;
@group(0) @binding(5) var<uniform> info: Info;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let index = id.x + id.y * info.row;
    if index >= info.count {
        return;
    }
    let column = index % info.width;
    var value = product[index];
    if BIASED != 0u {
        value += bias[column];
    }
    if GELU != 0u {
        let inner = value + 0.044715 * value * value * value;
        value = value / (1.0 + exp(-1.5957691216057308 * inner));
    }
    value *= info.factor;
    if GATED != 0u {
        value *= gate[index / (info.width * info.length) * info.width + column];
    }
    if ADDED != 0u {
        value += before[index];
    }
    y[index] = value;
}
