//! `infinity devices`: what there is to compute on.

use infinity_engine::api::{DeviceKind, bytes_text};
use infinity_engine::device;

/// List what this program could compute on, and why it chooses what it does.
///
/// A graphics processor is chosen when there is one, else the processor. A
/// software graphics driver is never chosen by itself: it computes on the
/// processor too, but slower.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  infinity devices
  infinity draw --device gpu:1 \"a red house\"     use another one than the chosen")]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) {
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
    }
}
