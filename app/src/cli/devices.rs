//! `infinity devices`: what there is to compute on.

use std::time::Instant;

use infinity_engine::api::{DeviceKind, bytes_text};
use infinity_engine::{device, self_test};

use crate::place::numbered;

/// List what this program could compute on, and why it chooses what it does.
///
/// A graphics processor is chosen when there is one, else the processor. A
/// software graphics driver is never chosen by itself: it computes on the
/// processor too, but slower.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  infinity devices
  infinity devices --test                        does each compute right? and is it quick to start?
  infinity draw --device gpu:1 \"a red house\"     use another one than the chosen")]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Draw a small test picture on each and say whether it is right.
    #[arg(long)]
    test: bool,
}

pub(super) fn run(args: &Args) {
    if args.test {
        return test();
    }
    let devices = device::list();
    if args.json {
        println!("{}", serde_json::json!(devices));
        return;
    }
    for info in devices {
        let kind = match info.kind {
            DeviceKind::Gpu => "gpu",
            DeviceKind::Cpu => "cpu",
            DeviceKind::Software => "software",
        };
        let backend = if info.backend.is_empty() {
            String::new()
        } else {
            format!(" ({})", info.backend)
        };
        let memory = info
            .memory
            .map(|bytes| format!(", {}", bytes_text(bytes)))
            .unwrap_or_default();
        println!(
            "{kind:<9} {}{backend}{memory}\n          {}",
            info.name, info.reason
        );
        if !info.driver.is_empty() {
            println!("          driver: {}", info.driver);
        }
    }
    println!(
        "remote    another machine where `infinity serve` runs\n          not chosen; ask for it with --device remote:HOST:PORT"
    );
}

/// Draws the test picture on every device.
fn test() {
    for (choice, info) in numbered(&device::list()) {
        let begun = Instant::now();
        match device::open(choice).and_then(|device| self_test::run(&device)) {
            Ok(()) => println!(
                "{}: right, in {:.2} s",
                info.name,
                begun.elapsed().as_secs_f32()
            ),
            Err(error) => println!("{}: {error}", info.name),
        }
    }
}
