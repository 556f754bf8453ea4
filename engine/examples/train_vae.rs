use infinity_engine::train::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let c: TrainConfig = serde_json::from_str(&std::fs::read_to_string(&a[1]).unwrap()).unwrap();
    let TrainConfig::Vae { seed, vae, loss, optimizer, phases, log_every, save_every } = &c;
    let run = vae::VaeRun { seed: *seed, vae, loss, optimizer, phases, log_every: *log_every, save_every: *save_every };
    let out = std::path::Path::new(&a[2]);
    std::fs::create_dir_all(out).unwrap();
    vae::run(&run, &burn::tensor::Device::flex(), out, &Limits { resume: true, until: None, cancelled: &|| false }, &mut |p| println!("{p:?}")).unwrap();
}
