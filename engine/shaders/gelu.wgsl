// GELU in its tanh form, x · sigmoid(2u): one value per invocation.
// Twin: `layers::gelu_tanh` in tensor operations.

struct Info {
    count: u32,
    // Invocations in a row of workgroups.
    row: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> info: Info;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let index = id.x + id.y * info.row;
    if index >= info.count {
        return;
    }
    let value = x[index];
    let inner = value + 0.044715 * value * value * value;
    y[index] = value / (1.0 + exp(-1.5957691216057308 * inner));
}
