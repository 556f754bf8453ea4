use burn::tensor::*;
use infinity_engine::{vae::*, weights::Network, train::{vae_loss::*, optimizer::*, config::*}, schedule::*};
use std::time::Instant;
fn main() {
    let device = Device::flex().autodiff();
    let arg: Vec<usize> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let cases = [
        ("stem4 48 123 e1 d2", VaeConfig { codebook_dim: 32, patch_size: 16, stem: 4, base_ch: 48, encoder_res_blocks: 1, decoder_res_blocks: 2, encoder_ch_mult: vec![1,2,3], decoder_ch_mult: vec![1,2,3] }),
        ("stem4 64 123 e1 d1", VaeConfig { codebook_dim: 32, patch_size: 16, stem: 4, base_ch: 64, encoder_res_blocks: 1, decoder_res_blocks: 1, encoder_ch_mult: vec![1,2,3], decoder_ch_mult: vec![1,2,3] }),
        ("stem8 96 12 e1 d2", VaeConfig { codebook_dim: 32, patch_size: 16, stem: 8, base_ch: 96, encoder_res_blocks: 1, decoder_res_blocks: 2, encoder_ch_mult: vec![1,2], decoder_ch_mult: vec![1,2] }),
    ];
    for (name, config) in cases {
        let b = arg.first().copied().unwrap_or(16);
        let mut vae = Vae::new(&config, &device, usize::MAX);
        vae.initialise(1, &device);
        let n = vae.parameter_count();
        let mut opt = AdamW::new(&mut vae, AdamWConfig::default()).unwrap();
        let x = Tensor::<4>::random([b, 3, 128, 128], Distribution::Uniform(-1., 1.), &device);
        let scales = ScaleSchedule::nearest(1.0, 5).unwrap().scales;
        for _ in 0..4 {
            let t = Instant::now();
            let z = vae.encode(x.clone()); let _: f32 = z.clone().mean().into_scalar(); let te = t.elapsed().as_secs_f32();
            let q = quantise(z, &scales, &[true; 5]); let _: f32 = q.commitment.clone().into_scalar(); let tq = t.elapsed().as_secs_f32();
            let y = vae.decoder.forward(q.latents, usize::MAX); let _: f32 = y.clone().mean().into_scalar(); let td = t.elapsed().as_secs_f32(); drop(y);
            let t = Instant::now();
            let loss = vae_loss(&vae, x.clone(), &scales, &[true; 5], &VaeLossConfig::default());
            let v: f32 = loss.total.clone().into_scalar(); let tf = t.elapsed().as_secs_f32();
            let g = loss.total.backward(); let tb = t.elapsed().as_secs_f32();
            opt.update(&mut vae, &g, 1e-4, &device).unwrap(); let tu = t.elapsed().as_secs_f32();
            println!("{name} {n} params: enc {te:.3} quant {:.3} dec {:.3} | fwd {tf:.3} bwd {:.3} opt {:.3} total {tu:.3} = {:.1}/s loss {v}", tq - te, td - tq, tb - tf, tu - tb, b as f32 / tu);
        }
    }
}
