use infinity_engine::{train::*, postcards::*, schedule::*};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let d = burn::tensor::Device::flex();
    let vae = open_vae(std::path::Path::new(&a[1]), &d).unwrap();
    for n in [5usize, 7] {
        let s = ScaleSchedule::nearest(1.0, n).unwrap(); let (w, h) = s.size_px();
        let (mut ok, mut sq, mut cnt) = (0, 0.0, 0usize);
        let mut miss = std::collections::BTreeMap::<&str, (u32, u32)>::new();
        for b in 0..8u64 {
            let cards: Vec<_> = (0..16).map(|i| Postcard::sample(b * 16 + i + 1000, Split::HeldOut)).collect();
            let imgs: Vec<_> = cards.iter().enumerate().map(|(i, c)| paint(c, b * 16 + i as u64 + 1000, w, h)).collect();
            let rec = vae::reconstruct(&vae, &imgs, &s.scales).unwrap();
            for (i, c) in cards.iter().enumerate() {
                sq += imgs[i].pixels.iter().zip(rec[i].pixels.iter()).map(|(a, b)| (*a as f64 - *b as f64).powi(2)).sum::<f64>(); cnt += imgs[i].pixels.len();
                let ch = check(&rec[i], c, Named::all_of(c)); ok += ch.followed() as u32;
                for (n, r) in ch.entries() { if let Some(r) = r { let e = miss.entry(n).or_default(); e.0 += r as u32; e.1 += 1; } }
            }
        }
        println!("{n} scales: psnr {:.2} readback {:.3} {:?}", 10.0 * (255.0f64.powi(2) / (sq / cnt as f64)).log10(), ok as f32 / 128.0, miss);
    }
}
