use infinity_engine::train::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let c: TrainConfig = serde_json::from_str(&std::fs::read_to_string(&a[1]).unwrap()).unwrap();
    run(&c, &burn::tensor::Device::flex(), std::path::Path::new(&a[2]), &Limits { resume: true, until: None, cancelled: &|| false }, &mut |p| println!("{p:?}")).unwrap();
}
