// x + gate · branch: x and branch [R, L, C], gate [R, 1, C]; one value per invocation.
// Twin: `layers::gated_sum` in tensor operations.

struct Info {
    count: u32,
    row: u32,
    width: u32,
    // Values of one R.
    plane: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> branch: array<f32>;
@group(0) @binding(2) var<storage, read_write> gate: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> info: Info;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let index = id.x + id.y * info.row;
    if index >= info.count {
        return;
    }
    let place = index / info.plane * info.width + index % info.width;
    y[index] = x[index] + gate[place] * branch[index];
}
